"""The error budgets of all categories. No clock, no socket, no randomness: verdicts in, points out.

A category is made when it is first asked for, and made anew when its budget or what the calibration
ships for it changes: risks and limits then mean something else. Whoever still has the budget of
before, as a request under way, is answered as if nothing was known, and leaves nothing behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from store.decision.budget import CategoryBudget
from store.decision.budget_values import BudgetStanding, Sample
from store.decision.evidence import Evidence


class Budgets:
    """Decision points by category, and what moves them."""

    def __init__(self, point_for: Callable[[str, float], float], *, judge: str = "") -> None:
        """`point_for` gives the shipped point, the largest risk served, for a category and budget.

        `judge` names who gives the verdicts; "": nobody does, and complaints are undone by hits
        that nobody complains about.
        """
        self._point_for = point_for
        self._judge = judge
        self._categories: dict[str, CategoryBudget] = {}
        self._in_force: Callable[[str], float | None] | None = None
        self._relieved: set[str] = set()

    def hold_to(self, in_force: Callable[[str], float | None]) -> None:
        """Let a category's budget be what this says; till then it is the one last asked for."""
        self._in_force = in_force

    def point(self, category: str, budget: float) -> float:
        """Return the largest risk that may be served now; 0.0 serves nothing by meaning."""
        return self._of(category, budget).point

    def sample(self, category: str, budget: float | None) -> Sample:
        """Return how the next hit by meaning is to be sampled for an audit."""
        return self._of(category, budget).sample()

    def audited(
        self, category: str, budget: float | None, sample: Sample, *, risk: float, wrong: bool
    ) -> None:
        """Take the verdict on a hit that was sampled so, and whose risk was this when served.

        Raises ValueError for a probability outside (0, 1].
        """
        _check(sample)
        self._of(category, budget).audited(sample, risk, wrong)

    def missed(
        self, category: str, budget: float | None, sample: Sample, *, risk: float, wrong: bool
    ) -> None:
        """Take the verdict on what a category would have served but for its point."""
        _check(sample)
        self._of(category, budget).missed(sample, risk, wrong)

    def control_sampling(self, category: str, budget: float | None) -> float:
        """Return the probability with which the next exact hit is to be a control."""
        return self._of(category, budget).control_sampling

    def wants_control(self, category: str, budget: float | None) -> bool:
        """Return whether exact hits bring too few controls."""
        return self._of(category, budget).wants_control

    def controlled(self, category: str, budget: float | None, *, wrong: bool) -> None:
        """Take the verdict on an answer that was right by construction."""
        self._of(category, budget).controlled(wrong)

    def complained(self, category: str, budget: float | None) -> None:
        """Take a client's word that a hit by meaning was wrong: tighten at once."""
        self._of(category, budget).complained()

    def served(self, category: str, budget: float | None, *, audited: bool = True) -> None:
        """Note a hit by meaning; `audited`: the category lets a judge look, where there is one."""
        if not (self._judge and audited):
            self._relieve(category, self._of(category, budget), CategoryBudget.served)

    def withheld(
        self, category: str, budget: float | None, risk: float, *, audited: bool = True
    ) -> None:
        """Note what was no hit by meaning for its risk alone; `audited` as for `served`."""
        if not (self._judge and audited):
            known = self._of(category, budget)
            self._relieve(category, known, lambda known: known.withheld(risk))

    def relieved(self) -> list[str]:
        """Return the categories of whose complaints hits have taken some back, once each."""
        taken, self._relieved = sorted(self._relieved), set()
        return taken

    def learns_from_miss(self, category: str, budget: float | None, risk: float) -> bool:
        """Return whether a verdict on what was no hit for its risk alone moves anything."""
        return self._of(category, budget).learns_from_miss(risk)

    def state(self, category: str, budget: float | None) -> str:
        """Return `unproven`, `proven` or `refuted`."""
        return self._of(category, budget).state

    def standing(self, category: str, budget: float | None) -> BudgetStanding:
        """Return where a category stands."""
        return self._of(category, budget).standing()

    def ship(self, point_for: Callable[[str, float], float], *, anew: bool = False) -> None:
        """Take another calibration; what was learnt of another point is forgotten.

        `anew`: all of it, for risks are another encoder's, even where the points agree.
        """
        self._point_for = point_for
        for name, known in list(self._categories.items()):
            shipped = self._shipped(name, known.budget)
            if anew or known.shipped != shipped:
                fresh = CategoryBudget.fresh(known.budget, shipped)
                # Audits under way were sampled by risks that meant something else: another epoch.
                number, points = known.evidence.number + 1, len(fresh.points)
                fresh.evidence = Evidence.begin(number, 1, points)
                self._categories[name] = fresh

    def keep(self, categories: Iterable[str]) -> None:
        """Forget every category but these."""
        kept = set(categories)
        self._categories = {n: known for n, known in self._categories.items() if n in kept}

    def dump(self, category: str) -> str:
        """Return a category's state as JSON, "" if there is none."""
        known = self._categories.get(category)
        if known is None:
            return ""
        return json.dumps({"judge": self._judge, **known.as_data()}, separators=(",", ":"))

    def load(self, states: Mapping[str, str]) -> list[str]:
        """Take up what `dump` gave; return the categories whose state cannot be read.

        A state of another judge keeps its point and forgets its verdicts; one for which the
        calibration now ships another point begins anew.
        """
        damaged = []
        for category, state in states.items():
            try:
                data = json.loads(state)
                known = CategoryBudget.from_data(data)
                judge = data["judge"]
            except (KeyError, TypeError, ValueError):
                damaged.append(category)
                continue
            if known.shipped != self._shipped(category, known.budget):
                continue
            if judge != self._judge:
                known.forget_judge()
            self._categories[category] = known
        return damaged

    def _relieve(
        self, category: str, known: CategoryBudget, by: Callable[[CategoryBudget], None]
    ) -> None:
        before = known.strain
        by(known)
        if known.strain != before:
            self._relieved.add(category)

    def _shipped(self, category: str, budget: float | None) -> float:
        return 1.0 if budget is None else self._point_for(category, budget)

    def _of(self, category: str, budget: float | None) -> CategoryBudget:
        known = self._categories.get(category)
        if known is None or known.budget != budget:
            known = CategoryBudget.fresh(budget, self._shipped(category, budget))
            if self._in_force is None or self._in_force(category) == budget:
                self._categories[category] = known
        return known


class Watching(Budgets):
    """The budgets of another, for whoever only looks: no account is begun."""

    def __init__(self, watched: Budgets) -> None:
        self._watched = watched

    def _of(self, category: str, budget: float | None) -> CategoryBudget:
        known = self._watched._categories.get(category)
        if known is None or known.budget != budget:
            return CategoryBudget.fresh(budget, self._watched._shipped(category, budget))
        return known


def _check(sample: Sample) -> None:
    if not 0.0 < sample.probability <= 1.0:
        raise ValueError(f"a sampling probability is in (0, 1], not {sample.probability}")
