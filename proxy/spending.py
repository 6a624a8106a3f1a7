"""What side calls cost, by the hour. Prices are settings; the currency is whatever they are in."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from proxy.answer_text import Tokens

_HOUR = 60  # minutes
_MILLION = 1_000_000


class Price(NamedTuple):
    """What a model's tokens cost, a million of them."""

    model: str  # a name or glob pattern
    input: float
    output: float


class Spending:
    """The last hour's costs, minute by minute, against the most that may be spent."""

    def __init__(self, prices: Sequence[Price], other: Price, most: float) -> None:
        """The first of `prices` that matches a model counts, else `other`; `most` is an hour's."""
        self._prices = prices
        self._other = other
        self.most = most
        self._minutes: deque[list[float]] = deque()  # [minute, cost], the oldest first

    def cost(self, model: str, tokens: Tokens) -> float:
        """Return what a call cost."""
        price = next(
            (each for each in self._prices if fnmatch.fnmatchcase(model, each.model)), self._other
        )
        return (tokens.input * price.input + tokens.output * price.output) / _MILLION

    def spend(self, cost: float, now: float) -> None:
        """Note a cost at this monotonic second."""
        minute = now // 60
        if self._minutes and self._minutes[-1][0] == minute:
            self._minutes[-1][1] += cost
        else:
            self._minutes.append([minute, cost])
        self._forget(now)

    def last_hour(self, now: float) -> float:
        """Return what was spent in the hour before this monotonic second."""
        self._forget(now)
        return sum(cost for _, cost in self._minutes)

    def exhausted(self, now: float) -> bool:
        """Whether nothing may be spent now."""
        return self.last_hour(now) >= self.most

    def _forget(self, now: float) -> None:
        while self._minutes and self._minutes[0][0] <= now // 60 - _HOUR:
            self._minutes.popleft()
