"""The command line of the suite, its cases' bounds, and one small run against a real Nearhit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench import cases, report
from bench.cases import CASES, Case
from bench.processes import Server
from bench.questions import Supply, rewordings, stored_question, subjects
from bench.stand import (
    Stand,
    StandFailed,
    chat_body,
    check_filled,
    fill,
    open_base,
    open_stand,
    running_nearhit,
    without_ttl,
    write_config,
)
from bench.start import MEMORY, READY
from bench.suite import NAMES, PARTITIONS, measure_once, read_plan
from bench.verdicts import Reading, Row
from proxy.encoder_settings import EncoderSettings
from proxy.encoders import open_encoder
from proxy.settings import load_settings
from store.policy_file import load_policies

SOMEWHERE = Server("http://127.0.0.1:9000", pid=1, ready_seconds=0.1)


def test_a_whole_run_is_three_rounds_and_writes_the_record() -> None:
    plan = read_plan([])
    assert plan.names == set(NAMES)
    assert (plan.repeat, plan.seconds, plan.quick, plan.peers) == (3, 4, False, False)
    assert plan.results == report.RESULTS / "proxy.json"


@pytest.mark.parametrize(
    "arguments", [["--quick"], ["--only", "exact-1"]], ids=["a quick run", "some cases"]
)
def test_a_partial_run_leaves_the_record_alone(arguments: list[str]) -> None:
    assert read_plan(arguments).results.name == "partial.json.tmp"


def test_what_is_asked_for_is_planned() -> None:
    plan = read_plan("--quick --only exact-1,start --repeat 2 --peers --markdown".split())
    assert plan.names == {"exact-1", "start"}
    assert (plan.repeat, plan.quick, plan.peers, plan.markdown) == (2, True, True, True)
    assert read_plan(["--quick"]).repeat == 1
    assert read_plan(["--results", "x.json"]).results == Path("x.json")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param(["--only", "exact-2"], "unknown exact-2; known: start, exact-16", id="a case"),
        pytest.param(["--repeat", "0"], "0 is not allowed; 1 or more", id="no rounds"),
        pytest.param(["--fast"], "--fast", id="an option"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(
    arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_plan(arguments)
    assert ended.value.code == 2
    assert fault in " ".join(capsys.readouterr().err.split())


def test_every_case_has_the_bound_that_was_agreed() -> None:
    bounds = {case.row.name: case.row.target for case in CASES}
    bounds |= {row.name: row.target for row in (READY, MEMORY, PARTITIONS)}
    assert {name: tuple(bound) for name, bound in bounds.items() if bound} == {
        "exact-16": ("at least", 0.50),
        "exact-1": ("at most", 0.6),
        "passthrough-1": ("at most", 0.6),
        "passthrough-16": ("at least", 0.60),
        "miss-1": ("at most", 1.2),
        "semantic-1": ("at most", 1.0),
        "semantic-32": ("at least", 0.80),
        "start-ready": ("at most", 3.0),
        "start-memory": ("at most", 400.0),
        "partitions": ("at most", 1.2),
    }


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("nearhit; hit; ttl=86399; detail=exact", "nearhit; hit; detail=exact"),
        ("nearhit; hit; ttl=-5; detail=stale-if-error", "nearhit; hit; detail=stale-if-error"),
        ("nearhit; fwd=miss", "nearhit; fwd=miss"),
    ],
)
def test_a_cache_status_is_compared_without_its_ttl(header: str, kind: str) -> None:
    assert without_ttl(header) == kind


def test_a_request_is_one_line_whatever_is_asked() -> None:
    assert chat_body('two\nlines and a "quote"').count("\n") == 0


def test_the_config_is_one_that_nearhit_accepts(tmp_path: Path) -> None:
    path = write_config(tmp_path, SOMEWHERE, SOMEWHERE)
    settings = load_settings(path, environ={})
    assert [upstream.name for upstream in settings.upstreams] == ["fake", "slow"]
    assert settings.data_dir == tmp_path / "data"
    assert settings.encoder == EncoderSettings()
    assert load_policies(tmp_path / "policies.yaml")["default"].error_budget == 0.15


async def test_a_case_that_cannot_run_is_an_invalid_reading() -> None:
    async def measure(_: Stand) -> Reading:
        raise StandFailed("nothing hits")

    stand: Stand = None  # type: ignore[assignment]  # never looked at
    reading = await measure_once(Case(Row("case", "what", "x"), measure), stand, "round 1")
    assert math.isnan(reading.value)
    assert reading.faults == ("StandFailed: nothing hits",)


@pytest.mark.slow
async def test_cases_of_every_kind_prove_themselves_against_a_real_nearhit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = subjects()[:120]
    monkeypatch.setattr(cases, "MOST_SEMANTIC_RATE", 700)
    monkeypatch.setattr(cases, "SINGLE_TEXTS", 20)
    encoder = await open_encoder(EncoderSettings(), {}, lambda line: None)
    async with open_base(tmp_path) as base:
        questions = [stored_question(subject) for subject in about]
        async with running_nearhit(base.config) as nearhit:
            await fill(nearhit, questions)
        async with open_stand(base, encoder, seconds=1) as stand:
            with pytest.raises(StandFailed, match="504"):
                await check_filled(stand.session, stand.nearhit, ["Was this never stored?"])
            await check_filled(stand.session, stand.nearhit, questions)
            stand.supply = Supply(rewordings(about))
            readings = [
                await measure(stand)
                for measure in (
                    cases.exact_1,
                    cases.exact_stream_16,
                    cases.passthrough_1,
                    cases.miss_1,
                    cases.semantic_1,
                )
            ]
    await encoder.aclose()
    # A busy machine may do few requests, or disturb a floor; what the answers were matters here.
    faults = [fault for reading in readings for fault in reading.faults]
    assert [f for f in faults if not f.endswith((" requests", "disturbed"))] == []
    assert all(math.isfinite(reading.value) for reading in readings)
