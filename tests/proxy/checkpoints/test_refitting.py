"""Thresholds are translated so that no larger a share passes, or learnt where labels allow it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.checkpoints.evidence import Evidence
from proxy.checkpoints.refitting import (
    Thresholds,
    recalibrations,
    refits,
    refitted,
)
from store.decision.score import POOLED, shipped_score
from store.policy import LoadRule, Policy, PolicyBook
from tests.proxy.checkpoints.encoders import labelled

SHIPPED = shipped_score()


def book_of(*policies: Policy) -> PolicyBook:
    default = Policy(name="default")
    return PolicyBook({policy.name: policy for policy in (default, *policies)})


def evidence_of(
    count: int, category: str = "default", seed: int = 0, shift: float = 0.0
) -> Evidence:
    """Return pairs that the candidate tells apart better, all of its cosines lower by `shift`."""
    pairs = labelled(count, category)
    right = np.array([each.label == 1 for each in pairs])
    noise = np.random.default_rng(seed).normal(0, 0.05, (2, count))
    running = np.where(right, 0.88, 0.84) + noise[0]
    candidate = np.where(right, 0.88, 0.70) + noise[1] - shift
    return Evidence(
        tuple(pairs),
        np.clip(running, -1, 0.999).astype(np.float32),
        np.clip(candidate, -1, 0.999).astype(np.float32),
    )


def passing(evidence: Evidence, threshold: float, *, new: bool, label: int | None = None) -> int:
    cosines = evidence.candidate if new else evidence.running
    return sum(
        cosine >= threshold and label in (None, pair.label)
        for pair, cosine in zip(evidence.pairs, cosines, strict=True)
    )


@given(st.floats(-0.2, 0.5), st.floats(0.3, 1.0), st.integers(0, 10), st.integers(60, 90))
def test_no_threshold_lets_more_wrong_pairs_through_than_before(
    shift: float, threshold: float, seed: int, count: int
) -> None:
    evidence = evidence_of(count, "elsewhere", seed, shift)
    policy = Policy(
        name="a",
        hit_threshold=threshold,
        near_threshold=threshold - 0.1,
        context_threshold=threshold,
    )
    after = refits(book_of(policy), evidence, {})["a"].after
    for old, new in ((threshold, after.hit), (threshold, after.context)):
        wrong = [passing(evidence, at, new=is_new, label=0) for at, is_new in
                 ((old, False), (new, True))]  # fmt: skip
        every = [passing(evidence, at, new=is_new) for at, is_new in ((old, False), (new, True))]
        assert wrong[1] <= wrong[0] and every[1] <= every[0]
    assert -1 <= after.near <= after.hit <= 1


def test_a_category_with_labels_of_its_own_learns_but_serves_no_more_wrong_ones() -> None:
    evidence = evidence_of(200, "code")
    book = book_of(Policy(name="code", hit_threshold=0.92))
    change = refits(book, evidence, {})["code"]
    before = passing(evidence, 0.92, new=False, label=0)
    assert passing(evidence, change.after.hit, new=True, label=0) <= before
    served = passing(evidence, 0.92, new=False, label=1)
    assert passing(evidence, change.after.hit, new=True, label=1) > 1.3 * served
    assert change.after.hit < 0.92


def test_where_the_score_decides_the_cosine_only_follows() -> None:
    evidence = evidence_of(200, "code", shift=0.2)
    scored = Policy(name="code", hit_threshold=0.6, near_threshold=0.5, error_budget=0.05)
    change = refits(book_of(scored), evidence, {})["code"]
    lowest = float(evidence.candidate.min())
    assert change.after.hit == pytest.approx(lowest, abs=1e-4), "below it nothing was ever seen"
    assert -1 < change.after.near < change.after.hit < change.after.context < 0.92


def test_without_pairs_a_threshold_stays_unless_training_asked_for_more() -> None:
    book = book_of(Policy(name="code"), Policy(name="talk", hit_threshold=0.95))
    after = {
        name: change.after.hit
        for name, change in refits(book, evidence_of(29), {"code": 0.97, "": 0.94}).items()
    }
    assert after == {"default": 0.94, "code": 0.97, "talk": 0.95}
    unchanged = refits(book, evidence_of(29), {})
    assert all(change.before == change.after for change in unchanged.values())


def test_the_floor_of_a_load_section_follows_too() -> None:
    load = LoadRule(latency_target_ms=1, threshold_floor=0.85, ttl_ceiling=timedelta(days=2))
    book = book_of(Policy(name="a", load=load))
    changes = refits(book, evidence_of(100, shift=0.3), {})
    new = refitted(book, changes)["a"]
    assert new.load is not None and new.load.threshold_floor < 0.8
    assert new.load.threshold_floor <= new.hit_threshold
    assert Thresholds.of(book["a"]).over(new) == book["a"], "nothing else has changed"


def test_going_back_restores_what_nobody_has_edited_since() -> None:
    book = book_of(Policy(name="a"), Policy(name="b"), Policy(name="c"))
    changes = refits(book, evidence_of(100, shift=0.3), {})
    new = refitted(book, changes)
    edited = {
        **new.policies,
        "b": replace(new["b"], hit_threshold=0.99),
        "d": Policy(name="d"),
        "a": replace(new["a"], ttl=timedelta(hours=1)),
    }
    del edited["c"]
    back = refitted(PolicyBook(edited), changes, back=True)
    assert Thresholds.of(back["a"]) == Thresholds.of(book["a"])
    assert back["a"].ttl == timedelta(hours=1)
    assert back["b"].hit_threshold == 0.99
    assert back["d"] == Policy(name="d")
    assert "c" not in back


def test_the_score_is_calibrated_to_the_candidate_from_enough_random_labels() -> None:
    book = book_of(Policy(name="code", hit_threshold=0.0, error_budget=0.05))
    evidence = evidence_of(300, "code")
    # Texts that no guard objects to.
    letters = "abcdefghijklmnopqrstuvwxyz"
    named = tuple(
        replace(
            each,
            query=f"how to plant a {letters[n % 26] * 3}{letters[n // 26]}",
            entry_query=f"planting a {letters[n % 26] * 3}{letters[n // 26]}",
        )
        for n, each in enumerate(evidence.pairs)
    )
    new = recalibrations(book, replace(evidence, pairs=named), SHIPPED)
    assert set(new) == {"code"}
    score = SHIPPED.only(new)
    assert 0 < score.point("code", 0.05) <= 1
    assert score.point("default", 0.05) == 0.0, "nobody has labelled anything there"
    few = Evidence(named[:50], evidence.running[:50], evidence.candidate[:50])
    assert recalibrations(book, few, SHIPPED) == {}
    assert all(SHIPPED.only({}).point(name, 0.2) == 0.0 for name in (POOLED, "code", "x"))
    complaints = tuple(replace(each, source="feedback") for each in named)
    assert recalibrations(book, replace(evidence, pairs=complaints), SHIPPED) == {}
