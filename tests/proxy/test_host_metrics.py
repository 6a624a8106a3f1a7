"""The metrics of a host are those of its workers, told apart by a label."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy import host_metrics
from proxy.host_metrics import HostMetrics, Place, labelled
from proxy.metrics import Metrics

pytestmark = pytest.mark.serial

awkward = st.text(max_size=8) | st.sampled_from(['a"b', "a b", "{x}", "a\\b", "a\nb", "# HELP x"])
counts = st.dictionaries(awkward, st.integers(0, 1000), max_size=4)


def text(counted: dict[str, int], level: float, families: int) -> bytes:
    """Return a worker's text; of a later version it has more families."""
    registry = CollectorRegistry()
    Gauge("level", 'Free "text" {here}', registry=registry).set(level)
    counter = Counter("asked", "Requests", ["what"], registry=registry)
    Histogram("took_seconds", "Time", registry=registry).observe(level)
    for what, count in counted.items():
        counter.labels(what).inc(count)
    for number in range(families):
        Gauge(f"more_{number}", "More", registry=registry)
    return generate_latest(registry)


def parsed(exposition: bytes) -> dict[str, Any]:
    """Return families by name."""
    families = list(text_string_to_metric_families(exposition.decode()))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


@given(st.lists(st.tuples(counts, st.floats(0, 100), st.integers(0, 2)), min_size=1, max_size=3))
def test_each_workers_series_are_there_as_they_were(
    workers: list[tuple[dict[str, int], float, int]],
) -> None:
    texts = {str(number): text(*told) for number, told in enumerate(workers)}
    whole = parsed(labelled(texts))
    for worker, told in texts.items():
        for name, family in parsed(told).items():
            assert (whole[name].type, whole[name].documentation) == (
                family.type,
                family.documentation,
            )
            mine = [s for s in whole[name].samples if s.labels["worker"] == worker]
            stripped = [
                (s.name, {k: v for k, v in s.labels.items() if k != "worker"}, s.value)
                for s in mine
            ]
            assert stripped == [(s.name, s.labels, s.value) for s in family.samples]
    assert sum(len(f.samples) for f in whole.values()) == sum(
        len(f.samples) for told in texts.values() for f in parsed(told).values()
    )


def test_ours_are_read_as_prometheus_reads_them() -> None:
    metrics = Metrics(["default", "faq"], ["gpt-4o-mini"])
    metrics.looked_up("faq", "hit")
    whole = parsed(labelled({"0": metrics.render(), "1": metrics.render()}))
    hits = [s for s in whole["nearhit_lookups"].samples if s.name == "nearhit_lookups_total"]
    assert sorted((s.labels["worker"], s.value) for s in hits) == [("0", 1.0), ("1", 1.0)]


async def test_whoever_is_asked_gives_all_that_answer(tmp_path: Path) -> None:
    started = []
    for number in range(2):
        place = Place(number, 3, tmp_path, tmp_path)
        one = HostMetrics(place, lambda number=number: text({}, number, 0))  # type: ignore[misc]
        await one.start()
        started.append(one)
    for one in started:  # the third is not there
        levels = parsed(await one.text())["level"].samples
        assert [(s.labels["worker"], s.value) for s in levels] == [("0", 0.0), ("1", 1.0)]
    await started[0].aclose()
    levels = parsed(await started[1].text())["level"].samples
    assert [s.labels["worker"] for s in levels] == ["1"]
    await started[1].aclose()
    await asyncio.sleep(0.05)  # connections are let go of


async def test_a_worker_that_is_started_again_takes_the_place_of_the_one_that_was_killed(
    tmp_path: Path,
) -> None:
    place = Place(0, 1, tmp_path, tmp_path)
    place.socket(0).touch()
    told = text({}, 1, 0)
    one = HostMetrics(place, lambda: told)
    await one.start()
    reader, writer = await asyncio.open_unix_connection(place.socket(0))
    assert await reader.read() == told
    writer.close()
    await writer.wait_closed()
    await one.aclose()
    await asyncio.sleep(0.05)  # connections are let go of


async def test_a_worker_that_hangs_or_says_too_much_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_metrics, "SECONDS", 0.2)
    monkeypatch.setattr(host_metrics, "MAX_BYTES", 10_000)
    place = Place(0, 3, tmp_path, tmp_path)

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.close()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"# x\n" * 10_000)
        writer.close()

    servers = [
        await asyncio.start_unix_server(serve, place.socket(number))
        for number, serve in ((1, silent), (2, endless))
    ]
    levels = parsed(await HostMetrics(place, lambda: text({}, 1, 0)).text())["level"].samples
    assert [s.labels["worker"] for s in levels] == ["0"]
    for server in servers:
        server.close()
    await asyncio.sleep(0.5)  # until the silent one has let go
