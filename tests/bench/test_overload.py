"""The overload run's command line and files, and a small run against a real Nearhit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from bench import report as machines
from bench.overload import read_command_line, report, write_results
from bench.overload_account import Arm, Sample, Tally
from bench.overload_run import (
    ARMS,
    BASE,
    CATEGORY,
    CEILING,
    FLOOR,
    TARGET_MS,
    Plan,
    load_section,
    run_arm,
    write_config,
)
from bench.overload_stream import own_stream
from proxy.settings import load_settings
from store.policy import LoadRule
from store.policy_file import load_policies

TALLY = Tally("overload", 1000, 600, 100, 300, 3, 20, 150.0, 2500.0, 0.4)
ARM = Arm("own", "both", [TALLY], [Sample(1.0, 0.5, 0.895, 330.0)], 5.0)
MACHINE = machines.Machine(
    "AMD EPYC", 2, 23.5, "Linux", "3.11.7", {}, "abc", "2026-11-24 10:00 UTC"
)


def test_without_arguments_all_arms_run_and_the_record_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NEARHIT_DATA", raising=False)
    plan, data, results = read_command_line([])
    assert plan == Plan()
    assert plan.arms == ARMS
    assert (data, results) == (None, machines.RESULTS / "overload.json")


def test_what_is_asked_for_is_planned() -> None:
    plan, data, results = read_command_line(
        "--data d --arms both,off --rate 3 --calm 4 --overload 5 --after 6 --excess 1.5 --seed 7"
        " --results r.json".split()
    )
    assert plan == Plan(
        rate=3, calm=4, overload=5, after=6, excess=1.5, seed=7, arms=("both", "off")
    )
    assert (data, results) == (Path("d"), Path("r.json"))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param("--arms on", "--arms: 'on' is not allowed", id="an unknown arm"),
        pytest.param("--arms off,off", "--arms: 'off,off' is not allowed", id="one arm twice"),
        pytest.param("--rate 0", "must be above 0", id="no requests"),
        pytest.param("--calm -1", "must be above 0", id="negative time"),
    ],
)
def test_a_wrong_command_line_says_why(
    arguments: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_command_line(arguments.split())
    assert fault in capsys.readouterr().err


def test_phases_follow_each_other_without_a_gap() -> None:
    plan = Plan(calm=10, overload=20, after=5)
    calm, overload, after = plan.phases()
    assert (calm.start, after.end) == (0, plan.seconds)
    assert (calm.end, overload.end) == (overload.start, after.start)


@pytest.mark.parametrize("arm", ARMS)
def test_policies_and_configuration_of_every_arm_are_valid(arm: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:9000", arm)
    settings = load_settings(config, environ={})
    assert settings.upstreams[0].base_url == "http://127.0.0.1:9000/v1"
    policy = load_policies(tmp_path / "policies.yaml")[CATEGORY]
    assert policy.hit_threshold == BASE.threshold
    assert policy.ttl == timedelta(seconds=BASE.ttl)
    ceiling = timedelta(seconds=CEILING if arm == "both" else BASE.ttl)
    rule = LoadRule(latency_target_ms=TARGET_MS, threshold_floor=FLOOR, ttl_ceiling=ceiling)
    assert policy.load == (None if arm == "off" else rule)


def test_only_the_arm_that_may_stretch_the_lifetime_has_room_for_it() -> None:
    assert load_section("off") is None
    threshold, both = load_section("threshold"), load_section("both")
    assert threshold is not None
    assert both is not None
    assert (threshold["ttl_ceiling"], both["ttl_ceiling"]) == ("60s", "600s")


def test_the_report_says_where_what_and_how_far() -> None:
    text = report(MACHINE, Plan(), [ARM], {"own": 2.5})
    assert "2 cores of AMD EPYC" in text
    assert "own 2.50 times" in text
    assert "| own | both | overload | 1000 |" in text
    assert "back at base 5 s after its end" in text
    assert "INVALID" not in text


def test_a_run_that_does_not_count_is_reported_as_such() -> None:
    bad = replace(ARM, faults=("3 x status 502",))
    assert "- INVALID: own, both: 3 x status 502" in report(MACHINE, Plan(), [bad], {})


def test_the_record_holds_everything_samples_included(tmp_path: Path) -> None:
    path = tmp_path / "new" / "overload.json"
    write_results(path, MACHINE, Plan(), [ARM], {"own": 2.5})
    record = orjson.loads(path.read_bytes())
    assert record["plan"]["rate"] == Plan().rate
    assert record["settings"]["slowdowns"] == {"own": 2.5}
    assert record["arms"][0]["tallies"][0]["upstream"] == 600
    assert record["arms"][0]["samples"][0]["threshold"] == 0.895
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
async def test_a_small_run_counts_every_request_and_overloads_the_upstream() -> None:
    plan = Plan(rate=15.0, calm=3.0, overload=3.0, after=1.0, excess=3.0)
    stream = own_stream(seed=3, rate=plan.rate, seconds=plan.seconds)
    arm, slowdown = await run_arm(plan, stream, "off", None)
    _, overload, after = arm.tallies
    assert sum(each.asked for each in arm.tallies) == len(stream.asks)
    assert slowdown > 1
    assert overload.p95_ms > 1500  # three times as many as it can serve, for three seconds
    assert after.asked > 0
    assert sum(each.exact + each.semantic for each in arm.tallies) > 0
    reached = sum(each.upstream for each in arm.tallies)
    hits = sum(each.exact + each.semantic for each in arm.tallies)
    assert 0 < reached <= len(stream.asks) - hits
    assert "x status" not in str(arm.faults)
