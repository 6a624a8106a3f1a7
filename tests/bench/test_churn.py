"""The churn benchmark counts what it says it counts, and a small run of it holds every bound."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.bounds import ENTRIES, Watch
from bench.churn import compare, watched
from bench.full_cache import Load, Plan
from store.entry import Facts
from store.eviction import Quota, Share

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parent.parent.parent
SHARES = {name: Share(Quota(entries=2, bytes=1000)) for name in ("faq", "code")}


def facts(entries: dict[str, int], evicted: int = 0) -> Facts:
    sizes = {name: 100 * count for name, count in entries.items()}
    return Facts(entries, sizes, 0, {"faq": evicted}, {}, 0)


def test_a_watch_sees_more_entries_than_the_capacity() -> None:
    watch = Watch(SHARES, facts({"faq": 2, "code": 2}))
    watch.admitted("faq", 100, facts({"faq": 3, "code": 2}))
    assert watch.over[ENTRIES] == 1
    capacity, *_ = watched(watch)
    assert (capacity.value, capacity.verdict) == (1, "pass")  # one is allowed
    watch.admitted("faq", 100, facts({"faq": 4, "code": 2}))
    capacity, *_ = watched(watch)
    assert (capacity.value, capacity.verdict) == (2, "fail")


def test_a_watch_sees_more_bytes_than_the_capacity() -> None:
    watch = Watch(SHARES, facts({"faq": 2, "code": 2}))
    watch.admitted(
        "faq", 1700, Facts({"faq": 3, "code": 1}, {"faq": 1900, "code": 101}, 0, {}, {}, 0)
    )
    _, size, _ = watched(watch)
    assert (size.value, size.verdict) == (1, "fail")


def test_a_watch_lets_pass_what_the_rules_allow() -> None:
    watch = Watch(SHARES, facts({"faq": 3, "code": 0}))
    watch.admitted("faq", 100, facts({"faq": 4, "code": 0}))  # idle room is lent
    watch.admitted("code", 100, facts({"faq": 3, "code": 1}, evicted=1))  # and taken back
    assert watch.broken == []
    assert watch.over[ENTRIES] == 0
    assert watch.beyond(ENTRIES) == {"faq": 1}


def test_a_watch_sees_room_taken_from_who_is_within_its_quota() -> None:
    watch = Watch(SHARES, facts({"faq": 2, "code": 2}))
    watch.admitted("faq", 100, facts({"faq": 3, "code": 1}, evicted=1))
    assert watch.broken == [
        "code lost an entry to faq within its quota",
        "faq took room beyond its quota from others",
    ]
    *_, rules = watched(watch)
    assert rules.verdict == "invalid" and rules.faults == tuple(watch.broken)


def test_a_category_has_room_until_one_of_its_two_quotas_is_used_up() -> None:
    watch = Watch(SHARES, facts({"faq": 1, "code": 2}))
    assert watch.has_room("faq", 900)
    assert not watch.has_room("faq", 901)
    assert not watch.has_room("code", 1)


def load(times: list[float], admitted: int, refused: int = 0) -> Load:
    outcomes = Counter({"store_failed": refused} if refused else {})
    return Load(times=times, admitted=admitted, refused=outcomes, seconds=1.0)


def test_a_pair_counts_only_if_all_lookups_and_admissions_took_place() -> None:
    plan = Plan(entries=4, pairs=1, lookups=4, admissions=10, seconds=1.0)
    watch = Watch(SHARES, facts({"faq": 2, "code": 2}))
    good = compare(load([1.0] * 4, 0), load([2.0] * 4, 10), watch, plan)
    assert good.faults == ()
    assert good.value == pytest.approx(1.0)
    for busy in (load([2.0] * 3, 10), load([2.0] * 4, 5), load([2.0] * 4, 10, refused=1)):
        assert compare(load([1.0] * 4, 0), busy, watch, plan).faults


@pytest.mark.slow
def test_a_small_run_holds_every_bound(tmp_path: Path) -> None:
    results = tmp_path / "churn.json"
    arguments = ["--entries", "3000", "--pairs", "1", "--seconds", "1", "--admissions", "100"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.churn", *arguments, "--results", str(results)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    rows = {row["case"]: row for row in json.loads(results.read_text())["rows"]}
    for case in ("capacity", "bytes", "quotas", "reclaim"):
        assert rows[case]["verdict"] == "pass", done.stderr
    (pair,) = rows["churn"]["rounds"]
    assert not pair["faults"]
    assert pair["parts"]["busy p99 ms"] >= pair["parts"]["busy p50 ms"] > 0
    assert pair["parts"]["busy: own CPU %"] > 0
    assert "| median |" in done.stdout
