"""Counting requests in memory, with as little work as possible on the way of an answer.

A hit costs two dictionary look-ups and a few additions here. What its tokens were is read from
the entry's answer once and remembered.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime

import orjson

from proxy.answer import Answer
from proxy.answer_text import Tokens, tokens_used
from proxy.call import Call
from proxy.errors import as_api_error
from proxy.metrics import Metrics
from proxy.outcome import Served
from proxy.usage.histogram import BOUNDS
from proxy.usage.prices import Prices, cost_of
from proxy.usage.tally import Kind, Tally, rows_of
from proxy.wire.base import Json
from store.documents.usage import OTHER, UsageRow
from store.economics import Economics
from store.entry import EntryId, Held

_MOST = 4096  # kinds of requests between two looks; further ones are of OTHER tenants and models
_MOST_TENANTS = 1000  # named a day by this process
_REMEMBERED = 20_000  # entries whose tokens are known
_LARGEST = 256 * 1024  # bytes of an answer that is read for its tokens on a client's way
_UNKNOWN = Tokens(0, 0)  # told apart by identity
_NOT_IN_CACHE = "not_in_cache"  # the error of a client that wanted nothing but a hit


class Usage:
    """What this process has counted and the ledger does not know yet."""

    def __init__(self, *, prices: Prices, metrics: Metrics, economics: Economics) -> None:
        self.prices = prices
        self._metrics = metrics
        self._economics = economics
        self._tallies: dict[tuple[str, str, str, str], Tally] = {}
        self._tokens: dict[EntryId, Tokens] = {}
        self._tenants: set[str] = set()
        self._day: datetime | None = None

    def answered(self, call: Call, answer: Answer, seconds: float) -> None:
        """Count a request whose answer has been sent; `seconds` since it was read."""
        held = answer.held
        if held is None:
            self._forwarded(call, answer, seconds)
            return
        key = (call.caller.tenant, call.policy.name, call.model, answer.served)
        tally = self._tallies.get(key) or self._tally(key)
        tally.buckets[bisect_left(BOUNDS, seconds)] += 1
        tokens = self._tokens.get(held.id) or self._learn(held.id, answer.stored)
        if tokens is _UNKNOWN:
            tally.unmetered += 1
        else:
            tally.saved_prompt += tokens[0]
            tally.saved_completion += tokens[1]
        saved = (held.cost or self._usual(call, held)) - seconds
        if saved > 0.0:
            tally.saved_seconds += saved

    def failed(self, call: Call, error: Exception, seconds: float) -> None:
        """Count a request that nobody answered; one that was refused is not counted."""
        told = as_api_error(error)
        if told.status >= 500 and told.code != _NOT_IN_CACHE:
            self._of(call, Served.FAILED).buckets[bisect_left(BOUNDS, seconds)] += 1

    def used(self, call: Call, whole: Json, *, bypass: bool) -> None:
        """Count what an upstream's whole answer says that it used; None: it is not known."""
        self._use(call, Served.BYPASS if bypass else Served.MISS, _tokens_of(whole))

    def used_instead(self, call: Call, small: str, whole: Json, shown: int) -> None:
        """Count what a small model's answer used, and what the requested one would have cost.

        That would not have been shown the examples, of `shown` tokens.
        """
        tally = self._of(call, Served.NEAR_HIT)
        tokens = _tokens_of(whole)
        if tokens is None:
            tally.unmetered += 1
            return
        tally.prompt += tokens.input
        tally.completion += tokens.output
        price, large = self.prices.of(small), self.prices.of(call.model)
        if price is None or large is None:
            tally.unpriced += 1
            return
        cost = cost_of(price, tokens)
        without = Tokens(max(0, tokens.input - shown), tokens.output)
        tally.spent += cost
        tally.saved += cost_of(large, without) - cost

    def unsent(self, call: Call, small: str, whole: Json) -> None:
        """Count what a small model's answer used that did not go out; None: it is not known."""
        tally = self._of(call, Served.NEAR_HIT)
        tokens, price = _tokens_of(whole), self.prices.of(small)
        if tokens is None:
            tally.unmetered += 1
            return
        tally.prompt += tokens.input
        tally.completion += tokens.output
        if price is None:
            tally.unpriced += 1
            return
        cost = cost_of(price, tokens)
        tally.spent += cost
        tally.saved -= cost

    def rows(self, at: datetime) -> list[UsageRow]:
        """Return what was counted as rows of the spans in which `at` lies."""
        tallies = [
            (Kind(tenant, category, model, Served(served)), tally)
            for (tenant, category, model, served), tally in self._tallies.items()
        ]
        self._begin_day(at)
        return rows_of(
            tallies, at, prices=self.prices, model=self._model_label, tenant=self._tenant_label
        )

    def take(self, at: datetime) -> list[UsageRow]:
        """Return the rows, and begin anew."""
        rows = self.rows(at)
        for (_, category, model, _), tally in self._tallies.items():
            self._metrics.count_tokens(
                category,
                model,
                used=(tally.prompt, tally.completion),
                saved=(tally.saved_prompt, tally.saved_completion),
            )
        self._tallies = {}
        return rows

    def learn(self, id: EntryId, whole: Json) -> None:
        """Remember the tokens of an entry that is being stored."""
        self._remember(id, _tokens_of(whole) or _UNKNOWN)

    def _forwarded(self, call: Call, answer: Answer, seconds: float) -> None:
        served = Served.FAILED if answer.status >= 500 else answer.served
        tally = self._of(call, served)
        tally.buckets[bisect_left(BOUNDS, seconds)] += 1
        if answer.status != 200:
            return
        if answer.flight is not None:
            tokens = _tokens_of(answer.flight.result)
            if tokens is None:
                tally.unmetered += 1
            else:
                tally.saved_prompt += tokens.input
                tally.saved_completion += tokens.output
        elif answer.unread:
            self._use(call, served, _read(answer.body) if isinstance(answer.body, bytes) else None)

    def _use(self, call: Call, served: Served, tokens: Tokens | None) -> None:
        tally = self._of(call, served)
        if tokens is None:
            tally.unmetered += 1
            return
        tally.prompt += tokens.input
        tally.completion += tokens.output
        price = self.prices.of(call.model)
        if price is None:
            tally.unpriced += 1
        else:
            tally.spent += cost_of(price, tokens)

    def _usual(self, call: Call, held: Held) -> float:
        """Return what an answer usually takes, for an entry that does not say what its own took."""
        return self._economics.answer_seconds(held.category, call.group) or 0.0

    def _of(self, call: Call, served: Served) -> Tally:
        key = (call.caller.tenant, call.category, call.model, served)
        return self._tallies.get(key) or self._tally(key)

    def _tally(self, key: tuple[str, str, str, str]) -> Tally:
        if len(self._tallies) >= _MOST:
            key = (OTHER, key[1], OTHER, key[3])
        return self._tallies.setdefault(key, Tally())

    def _learn(self, id: EntryId, stored: bytes) -> Tokens:
        tokens = _read(stored) or _UNKNOWN
        self._remember(id, tokens)
        return tokens

    def _remember(self, id: EntryId, tokens: Tokens) -> None:
        self._tokens.pop(id, None)
        self._tokens[id] = tokens
        if len(self._tokens) > _REMEMBERED:
            del self._tokens[next(iter(self._tokens))]

    def _begin_day(self, at: datetime) -> None:
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if day != self._day:
            self._day, self._tenants = day, set()

    def _tenant_label(self, tenant: str) -> str:
        if tenant not in self._tenants:
            if len(self._tenants) >= _MOST_TENANTS:
                return OTHER
            self._tenants.add(tenant)
        return tenant

    def _model_label(self, model: str) -> str:
        return model if self.prices.names(model) else self._metrics.model(model)


def _read(body: bytes) -> Tokens | None:
    if len(body) > _LARGEST:
        return None
    try:
        return _tokens_of(orjson.loads(body))
    except ValueError:
        return None


def _tokens_of(whole: Json) -> Tokens | None:
    return tokens_used(whole) if isinstance(whole, dict) else None
