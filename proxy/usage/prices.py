"""What a million tokens of a model cost: the operator's own prices, then the bundled ones.

`python -m bench.prices` writes prices.json. Whoever has neither pays an unknown amount: none is
counted then, and that is said.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import orjson

from proxy.answer_text import Tokens
from proxy.fleet import is_pattern
from proxy.spending import Price

FILE = Path(__file__).parent / "prices.json"
CURRENCY = "USD"  # of the bundled prices
_REMEMBERED = 1024  # models
_MILLION = 1_000_000


class Bundled(NamedTuple):
    """The price list that is shipped."""

    source: str  # what it was made from
    made: str  # the day, as in 2026-01-31
    prices: Mapping[str, Price]


class Prices:
    """The price of any model."""

    def __init__(self, own: Sequence[Price], bundled: Mapping[str, Price]) -> None:
        """The first of `own` whose name or pattern matches counts."""
        self._own = tuple(own)
        self._bundled = bundled
        self._names = frozenset(each.model for each in own if not is_pattern(each.model))
        self._known: dict[str, Price | None] = {}

    def of(self, model: str) -> Price | None:
        """Return a model's price; None if nobody knows it."""
        try:
            return self._known[model]
        except KeyError:
            price = self._find(model)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[model] = price
        return price

    def names(self, model: str) -> bool:
        """Whether a price names this model word for word, so that it is one of a bounded set."""
        return model in self._names or model in self._bundled

    def _find(self, model: str) -> Price | None:
        for price in self._own:
            if fnmatch.fnmatchcase(model, price.model):
                return price
        return self._bundled.get(model)


def cost_of(price: Price, tokens: Tokens) -> float:
    """Return what these tokens cost, in the currency of the price."""
    return (tokens.input * price.input + tokens.output * price.output) / _MILLION


def prices_for(currency: str, own: Sequence[Price]) -> Prices:
    """Return the prices in a currency; the bundled ones are in CURRENCY only."""
    return Prices(own, bundled().prices if currency.upper() == CURRENCY else {})


@cache
def bundled() -> Bundled:
    """Return the shipped price list, read once."""
    told = orjson.loads(FILE.read_bytes())
    prices = {name: Price(name, *pair) for name, pair in told["prices"].items()}
    return Bundled(told["source"], told["made"], prices)
