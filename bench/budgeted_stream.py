"""Streams with an error budget in force: verdicts of a mistaken judge move the decision points.

Each hit by meaning is audited with the probability that its category asks for, each exact hit may
be a control, and what a closed category would have served is judged as the proxy does it. The
searcher reads the points that come of it. What the proxy does beside it and this does not: an
answer that an audit calls wrong is served again.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from proxy.evaluation.stage import Stage
from proxy.evaluation.stream import JUDGE_NOISE, Judgement
from store.decision.budget_values import BudgetStanding
from store.decision.budgets import Budgets
from store.policy_file import STARTER_FILE

BUDGET = 0.01


def write_policies(file: Path, budget: float = BUDGET) -> None:
    """Write the starter policies with this error budget in every category but those turned off."""
    said = yaml.safe_load(STARTER_FILE.read_text(encoding="utf-8"))
    for category in said["categories"]:
        if category.get("mode", "semantic") == "semantic":
            category["error_budget"] = budget
    file.write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")


class Auditor:
    """Draws the audits and controls of a replay, and tells the budgets what the judge said."""

    def __init__(self, budgets: Budgets, seed: int, budget: float = BUDGET) -> None:
        """`budgets` are those that the searcher reads, `seed` that of the lots."""
        self._budgets = budgets
        self._budget = budget
        self._seed = seed
        self._chance = random.Random(f"audits {seed}")
        self._asked: set[str] = set()  # categories
        self.controls = 0

    def judgement(self) -> Judgement:
        """Return what the replay is to tell; the verdicts are wrong in JUDGE_NOISE of the cases."""
        return Judgement(
            on_semantic_hit=self._hit,
            on_exact_hit=self._exact_hit,
            on_near_miss=self._near_miss,
            noise=JUDGE_NOISE,
            seed=self._seed,
        )

    def _hit(self, category: str, risk: float, judged_wrong: bool) -> None:
        self._asked.add(category)
        sample = self._budgets.sample(category, self._budget)
        if self._chance.random() >= sample.probability:
            return
        self._budgets.audited(category, self._budget, sample, risk=risk, wrong=judged_wrong)
        if self._budgets.wants_control(category, self._budget):
            self._control(category, self._chance.random() < JUDGE_NOISE)

    def _exact_hit(self, category: str, judged_wrong: bool) -> None:
        if self._chance.random() < self._budgets.control_sampling(category, self._budget):
            self._control(category, judged_wrong)

    def _near_miss(self, category: str, risk: float, judged_wrong: bool) -> None:
        self._asked.add(category)
        sample = self._budgets.sample(category, self._budget)
        if sample.point == 0.0 and self._chance.random() < sample.probability:
            self._budgets.missed(category, self._budget, sample, risk=risk, wrong=judged_wrong)

    def _control(self, category: str, judged_wrong: bool) -> None:
        self.controls += 1
        self._budgets.controlled(category, self._budget, wrong=judged_wrong)

    def as_data(self) -> dict[str, Any]:
        """Return the audits, the controls and where each category stands."""
        standings = {
            name: self._budgets.standing(name, self._budget) for name in sorted(self._asked)
        }
        return {
            "audits": sum(each.audits for each in standings.values()),
            "controls": self.controls,
            "states": {name: _data_of(each) for name, each in standings.items()},
        }


def auditor_of(stage: Stage, seed: int) -> Auditor:
    """Return one whose verdicts move what this stage serves."""
    return Auditor(stage.parts.budgets.live, seed)


def _data_of(standing: BudgetStanding) -> dict[str, Any]:
    said = asdict(standing)
    return {key: said[key] for key in ("state", "point", "audits", "wrong", "refuted", "sampling")}
