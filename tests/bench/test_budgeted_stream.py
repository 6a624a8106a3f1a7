"""With an error budget in force a replay's verdicts move the points that its searcher reads."""

from __future__ import annotations

from pathlib import Path

from bench.budgeted_stream import BUDGET, Auditor, write_policies
from store.decision.budgets import Budgets
from store.policy import Mode
from store.policy_history import read_seed

HITS = 3000


def budgets(point: float = 0.05) -> Budgets:
    return Budgets(lambda _category, _budget: point, judge="")


def test_every_category_that_looks_up_by_meaning_gets_the_budget(tmp_path: Path) -> None:
    write_policies(tmp_path / "policies.yaml")
    book, starter = read_seed(tmp_path / "policies.yaml").book, read_seed(None).book
    assert book.names == starter.names
    for name in book.names:
        meant = BUDGET if book[name].mode is Mode.SEMANTIC else starter[name].error_budget
        assert book[name].error_budget == meant
        assert book[name].hit_threshold == starter[name].hit_threshold


def test_hits_that_go_wrong_tighten_and_a_fifth_of_them_is_audited() -> None:
    live = budgets()
    tell = Auditor(live, seed=1).judgement().on_semantic_hit
    for _ in range(200):
        tell("default", 0.03, True)
    assert live.point("default", BUDGET) < 0.03


def test_right_hits_are_sampled_and_what_exact_hits_say_of_the_judge_is_counted() -> None:
    live = budgets()
    auditor = Auditor(live, seed=1)
    judgement = auditor.judgement()
    assert judgement.on_exact_hit is not None
    for _ in range(HITS):
        judgement.on_semantic_hit("default", 0.03, False)
        judgement.on_exact_hit("default", False)
    said = auditor.as_data()
    assert 0.1 * HITS < said["audits"] < 0.3 * HITS
    assert said["controls"] > 0
    assert said["states"]["default"]["point"] >= 0.05
    assert said["states"]["default"]["wrong"] == 0


def test_the_same_seed_draws_the_same_lots() -> None:
    def audits(seed: int) -> list[int]:
        live = budgets()
        auditor, made = Auditor(live, seed), []
        for _ in range(100):
            auditor.judgement().on_semantic_hit("default", 0.03, False)
            made.append(live.standing("default", BUDGET).audits)
        return made

    assert audits(1) == audits(1) != audits(2)


def test_near_misses_are_judged_only_where_the_category_is_closed() -> None:
    live = budgets()
    auditor = Auditor(live, seed=1)
    judgement = auditor.judgement()
    assert judgement.on_near_miss is not None
    judgement.on_near_miss("default", 0.0005, False)
    assert auditor.as_data()["audits"] == 0
    while live.point("default", BUDGET) > 0.0:
        judgement.on_semantic_hit("default", 0.0005, True)
    number = live.sample("default", BUDGET).epoch
    before = live.dump("default")
    for _ in range(100):
        judgement.on_near_miss("default", 0.0005, False)
    assert live.sample("default", BUDGET).epoch == number
    assert live.dump("default") != before
