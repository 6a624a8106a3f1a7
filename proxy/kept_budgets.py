"""Error budgets that outlive a restart: every verdict and complaint is written down when it comes.

What hits alone take back of complaints is written when the server stops.

Verdicts are rare beside requests, and none of this is on a client's path but feedback, which is
durable anyway. What cannot be written stays in force in this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Self

from proxy.rules import InForce
from store.decision.budget_values import BudgetStanding, Sample
from store.decision.budgets import Budgets
from store.documents.records import Records
from store.errors import StoreUnavailable

log = logging.getLogger("nearhit.budgets")


class KeptBudgets:
    """The budgets of the categories in force, with the records that keep them."""

    def __init__(self, budgets: Budgets, records: Records, in_force: InForce) -> None:
        self.live = budgets  # what lookups read
        self._records = records
        self._in_force = in_force
        budgets.hold_to(self._budget)

    @classmethod
    async def open(
        cls,
        records: Records,
        in_force: InForce,
        point_for: Callable[[str, float], float],
        judge: str,
    ) -> Self:
        """Take up what was recorded of the categories in force; raise StoreUnavailable."""
        budgets, book = Budgets(point_for, judge=judge), in_force.rules.book
        states = await records.budgets()
        for category in states.keys() - set(book.names):
            await records.save_budget(category, "")
        for category in budgets.load({n: state for n, state in states.items() if n in book}):
            log.warning("what was known of the error budget of %s cannot be read", category)
        return cls(budgets, records, in_force)

    def keep(self, categories: list[str]) -> None:
        """Forget the categories that are no longer in force."""
        self.live.keep(categories)

    def ship_anew(self, point_for: Callable[[str, float], float]) -> None:
        """Begin anew by the points of another encoder's score; `save_all` writes that down."""
        self.live.ship(point_for, anew=True)

    async def save_all(self) -> None:
        """Write down where all categories in force stand."""
        for category in self._in_force.rules.book.names:
            await self._save(category)

    async def aclose(self) -> None:
        """Write down what hits have taken back of complaints: not for each, nor with a verdict."""
        for category in self.live.relieved():
            if category in self._in_force.rules.book:
                await self._save(category)

    def standing(self, category: str) -> BudgetStanding:
        """Return where a category in force stands."""
        return self.live.standing(category, self._budget(category))

    async def audited(self, category: str, sample: Sample, risk: float, *, wrong: bool) -> None:
        """Take the verdict on a hit by meaning; of a category that is gone, not. So all here."""
        if category not in self._in_force.rules.book:
            return
        before = self._brief(category)
        budget = self._budget(category)
        self.live.audited(category, budget, sample, risk=risk, wrong=wrong)
        self._say(category, before)
        await self._save(category)

    async def missed(self, category: str, sample: Sample, risk: float, *, wrong: bool) -> None:
        """Take the verdict on what a category would have served but for its point."""
        if category not in self._in_force.rules.book:
            return
        before = self._brief(category)
        budget = self._budget(category)
        self.live.missed(category, budget, sample, risk=risk, wrong=wrong)
        self._say(category, before)
        await self._save(category)

    async def controlled(self, category: str, *, wrong: bool) -> None:
        """Take the verdict on an answer that was right by construction."""
        if category not in self._in_force.rules.book:
            return
        self.live.controlled(category, self._budget(category), wrong=wrong)
        await self._save(category)

    async def complained(self, category: str) -> None:
        """Take a client's word that a hit by meaning was wrong."""
        if category not in self._in_force.rules.book:
            return
        self.live.complained(category, self._budget(category))
        await self._save(category)

    def _budget(self, category: str) -> float | None:
        book = self._in_force.rules.book
        return book[category].error_budget if category in book else None

    def _brief(self, category: str) -> tuple[str, float]:
        budget = self._budget(category)
        state = self.live.state(category, budget)
        return state, self.live.sample(category, budget).point

    def _say(self, category: str, before: tuple[str, float]) -> None:
        now = self._brief(category)
        if now[0] != before[0] or now[1] < before[1]:
            log.info(
                "category %s: decision point %s at %.4g, was %s at %.4g", category, *now, *before
            )

    async def _save(self, category: str) -> None:
        try:
            await self._records.save_budget(category, self.live.dump(category))
        except StoreUnavailable as error:
            log.warning("the error budget of %s was not written: %s", category, error)
