"""What wrk says is read exactly, and what it cannot have measured is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import wrk
from bench.fake_upstream import CHAT
from bench.processes import python_server, running
from bench.wrk import Load, WrkFailed, read_result, run_wrk

pytestmark = pytest.mark.serial

OUTPUT = """Running 1s test @ http://127.0.0.1:19555/v1/chat/completions
  1 threads and 16 connections
  Latency Distribution
     50%    2.72ms
     99%   12.19ms
Requests/sec:   4993.81
RESULT {"requests":5000,"microseconds":2000000,"p50":2716.0,"p99":12189.0,"asked":7,\
"ran_out":true,"errors":{"connect":0,"read":2,"write":0,"status":3,"timeout":0},\
"statuses":{"nearhit; fwd=miss":5000}}
"""


def test_rates_are_per_second_and_times_in_milliseconds() -> None:
    measured = read_result(OUTPUT)
    assert measured.rate == 2500.0
    assert (measured.p50, measured.p99) == (2.716, 12.189)
    assert measured.requests == 5000
    assert (measured.asked, measured.ran_out) == (7, True)


def test_only_errors_that_happened_are_kept() -> None:
    assert read_result(OUTPUT).errors == {"read": 2, "status": 3}
    assert read_result(OUTPUT).statuses == {"nearhit; fwd=miss": 5000}


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        pytest.param("", "has no RESULT line", id="nothing said"),
        pytest.param("unable to connect to 127.0.0.1:1", "unable to connect", id="an error alone"),
        pytest.param("RESULT {", "cannot be read", id="cut off"),
        pytest.param('RESULT {"requests":1}', "microseconds", id="a key missing"),
        pytest.param('RESULT {"requests":1,"microseconds":0}', "ZeroDivision", id="no time passed"),
    ],
)
def test_unreadable_output_is_a_failure(output: str, fault: str) -> None:
    with pytest.raises(WrkFailed, match=fault):
        read_result(output)


def test_a_missing_wrk_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(WrkFailed, match=r"bench/install_tools.sh"):
        run_wrk(Load(url="http://127.0.0.1:1/", connections=1, seconds=1, lines=["{}"]))


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(WrkFailed, match="refused|connect"):
        run_wrk(Load(url="http://127.0.0.1:1/", connections=1, seconds=1, lines=["{}"]))


def test_the_script_lies_beside_the_module() -> None:
    assert wrk.SCRIPT == Path(wrk.__file__).parent / "load.lua"
    assert wrk.SCRIPT.is_file()


@pytest.mark.slow
async def test_every_mode_sends_what_it_says() -> None:
    body = '{"model":"bench","messages":[{"role":"user","content":"hi"}]}'
    parts = ['{"model":"bench","messages":[{"role":"user","content":"', '"}]}', "one", "two"]
    async with running("fake upstream", python_server("bench.fake_upstream")) as server:
        url = server.origin + CHAT

        def one_second(lines: list[str], mode: str) -> wrk.Measured:
            load = Load(url=url, connections=2, seconds=1, lines=lines, mode=mode, counted=True)
            return run_wrk(load)

        fixed = one_second([body], "fixed")
        random = one_second(parts, "random")
        once = one_second([body] * 20, "once")
    for measured in (fixed, random):
        assert measured.requests > 20
        assert measured.errors == {}
        assert measured.statuses == {"none": measured.requests}
        assert not measured.ran_out
    assert (once.asked, once.ran_out) == (20, True)
    assert once.requests <= 20


@pytest.mark.slow
async def test_answers_that_are_errors_are_counted() -> None:
    async with running("fake upstream", python_server("bench.fake_upstream")) as server:
        load = Load(url=server.origin + "/nowhere", connections=1, seconds=1, lines=["{}"])
        measured = run_wrk(load)
    assert measured.errors == {"status": measured.requests}
