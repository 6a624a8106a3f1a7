"""Workers that end are started again, but for those that never served."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.host_metrics import Place
from proxy.start import CannotStart, listen, reserve
from proxy.worker import Orders, share_of_cores
from proxy.workers import LONGEST_PAUSE, REFUSED, STEADY, TRIES, End, Past, after, orders
from tests.harness import settings_for

ends = st.builds(
    End,
    status=st.sampled_from([-9, -11, 0, REFUSED, 2]),
    served=st.booleans(),
    lived=st.floats(0, 10 * STEADY),
)


def judged(*ended: End) -> list[float | None]:
    """Return what comes of each end."""
    past, pauses = Past(), list[float | None]()
    for end in ended:
        past, pause = after(past, end)
        pauses.append(pause)
    return pauses


@given(ends, st.lists(ends, max_size=30))
def test_who_has_served_is_always_started_again(first: End, more: list[End]) -> None:
    pauses = judged(first._replace(served=True), *more)
    assert all(pause is not None and 0 < pause <= LONGEST_PAUSE for pause in pauses)


def test_who_says_why_it_cannot_start_is_given_up_at_once() -> None:
    assert judged(End(REFUSED, False, 1.0)) == [None]


def test_who_dies_before_it_serves_is_tried_a_few_times() -> None:
    pauses = judged(*[End(-11, False, 1.0)] * TRIES)
    assert pauses == [*sorted(pause for pause in pauses if pause is not None), None]
    assert len(set(pauses)) == TRIES


def test_pauses_grow_while_lives_are_short_and_begin_anew_after_a_long_one() -> None:
    short, long = End(-9, True, 1.0), End(-9, True, STEADY)
    pauses = judged(*[short] * 9, long, short)
    assert pauses[8] == LONGEST_PAUSE
    assert pauses[9] == pauses[0]
    assert pauses[10] == pauses[1]


def test_a_worker_serves_with_what_its_parent_has(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path / "data",
        "http://127.0.0.1:9/v1",
        documents="redis://127.0.0.1:1/0",
        server={"workers": 3, "shutdown_timeout": "5s"},
        redis={"expire_after": "7d"},
    )
    place = Place(2, 3, tmp_path / "sockets", settings.data_dir)
    line = orders(settings, place, tmp_path / "policies.yaml")
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    told = Orders.read(line.decode())
    own = {**settings.model_dump(), "data_dir": settings.data_dir / "worker-2"}
    assert told.settings.model_dump() == own
    assert (told.place, told.policies_file) == (place, tmp_path / "policies.yaml")
    assert Orders.read(orders(settings, place, None).decode()).policies_file is None


def test_the_environment_does_not_change_what_a_worker_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path / "data", "http://127.0.0.1:9/v1")
    line = orders(settings, Place(0, 2, tmp_path, tmp_path), None)
    monkeypatch.setenv("NEARHIT_SERVER__PORT", "1")
    monkeypatch.setenv("NEARHIT_JUDGE", json.dumps({"model": "x"}))
    told = Orders.read(line.decode()).settings
    assert (told.server, told.judge) == (settings.server, settings.judge)


@pytest.mark.parametrize(
    ("configured", "workers", "cores", "threads"),
    [(0, 2, 2, 1), (0, 8, 2, 1), (3, 2, 2, 3)],
)
def test_workers_share_the_cores_unless_told_otherwise(
    tmp_path: Path, configured: int, workers: int, cores: int, threads: int
) -> None:
    settings = settings_for(tmp_path, "http://x/v1", encoder={"threads": configured})
    assert share_of_cores(settings, workers, cores).encoder.threads == threads


def test_a_reserved_port_is_for_workers_and_takes_no_connection_itself() -> None:
    with reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)
        with (
            listen("127.0.0.1", port, beside_others=True),
            listen("127.0.0.1", port, beside_others=True),
        ):
            socket.create_connection(("127.0.0.1", port), 1).close()
            with pytest.raises(CannotStart, match=f"cannot listen on 127.0.0.1:{port}: "):
                reserve("127.0.0.1", port)
            with pytest.raises(CannotStart):
                listen("127.0.0.1", port)


async def test_connections_are_spread_over_those_that_listen() -> None:
    with reserve("127.0.0.1", 0) as held, ExitStack() as stack:
        port = held.getsockname()[1]
        served = [0, 0]

        def counting(number: int) -> Callable[[object, asyncio.StreamWriter], None]:
            def count(_: object, writer: asyncio.StreamWriter) -> None:
                served[number] += 1
                writer.close()

            return count

        for number in range(2):
            listener = listen("127.0.0.1", port, beside_others=True)
            server = await asyncio.start_server(counting(number), sock=listener)
            stack.callback(server.close)
        for _ in range(200):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert sum(served) == 200
        assert min(served) > 50
        await asyncio.sleep(0.05)  # connections are let go of
