"""Where a category stands: its own policy, or as far as load has bent it for any upstream."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from proxy.rules import Rules
from proxy.standing import Standing, standing_of
from store.decision.budget import CategoryBudget
from store.policy import Policy, PolicyBook
from tests.encodings import rules_of

FAQ = Policy(name="faq", hit_threshold=0.9, ttl=timedelta(hours=1))
BOOK = PolicyBook({"default": Policy(name="default"), "faq": FAQ})


def standing(rules: Rules) -> Standing:
    return standing_of(
        "faq",
        rules,
        load_factor=0.25,
        semantic_open=True,
        entries={"faq": 3},
        bytes={},
        budget=CategoryBudget.fresh(0.01, 0.05).standing(),
        calibration="shipped",
    )


def test_without_load_a_category_stands_at_its_policy() -> None:
    assert standing(rules_of(BOOK)).as_data() == {
        "hit_threshold": 0.9,
        "ttl": "1h",
        "load_factor": 0.25,
        "semantic_tier": "open",
        "entries": 3,
        "bytes": 0,
        "error_budget": {
            "state": "unproven",
            "calibration": "shipped",
            "point": 0.05,
            "tightened": 1.0,
            "refuted_points": [],
            "audits": 0,
            "wrong": 0,
            "error": {"estimate": None, "lower": 0.0, "upper": 1.0},
            "judge": {
                "controls": 0,
                "false_alarm": {"estimate": None, "lower": 0.0, "upper": 1.0},
            },
            "sampling": 0.2,
        },
    }


def test_the_furthest_bent_upstream_counts() -> None:
    bent = {
        ("faq", "a"): replace(FAQ, hit_threshold=0.87),
        ("faq", "b"): replace(FAQ, ttl=timedelta(hours=2)),
        ("default", "a"): replace(FAQ, hit_threshold=0.1),
    }
    now = standing(rules_of(BOOK, bent=bent))
    assert (now.hit_threshold, now.ttl) == (0.87, timedelta(hours=2))
