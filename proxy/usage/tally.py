"""What requests of one kind came to since it was last asked, and the ledger's rows of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from proxy.answer_text import Tokens
from proxy.outcome import Served
from proxy.usage.histogram import BUCKETS, METRICS
from proxy.usage.prices import Prices, cost_of
from store.documents.usage import Span, UsageKey, UsageRow, merged, start_of


class Kind(NamedTuple):
    """Which requests a tally counts."""

    tenant: str
    category: str
    model: str  # as the client asked for it
    served: Served


class Tally:
    """Plain numbers that grow. Tokens are priced when the rows are made, not while counting."""

    __slots__ = (
        "buckets", "completion", "prompt", "saved", "saved_completion", "saved_prompt",
        "saved_seconds", "spent", "unmetered", "unpriced",
    )  # fmt: skip

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS  # requests by duration
        self.prompt = 0  # tokens that upstreams used
        self.completion = 0
        self.saved_prompt = 0  # and that they need not have used
        self.saved_completion = 0
        self.saved_seconds = 0.0
        self.spent = 0.0  # money that is known already
        self.saved = 0.0
        self.unmetered = 0  # answers that did not say what they used
        self.unpriced = 0  # answers of models without a price


def amounts_of(kind: Kind, tally: Tally, prices: Prices) -> dict[str, float]:
    """Return what a tally adds to the ledger, without what is 0."""
    saved, unpriced = tally.saved, tally.unpriced
    if tally.saved_prompt or tally.saved_completion:
        price = prices.of(kind.model)
        if price is None:
            unpriced += sum(tally.buckets)
        else:
            saved += cost_of(price, Tokens(tally.saved_prompt, tally.saved_completion))
    amounts: dict[str, float] = {
        "requests": sum(tally.buckets),
        "prompt_tokens": tally.prompt,
        "completion_tokens": tally.completion,
        "saved_prompt_tokens": tally.saved_prompt,
        "saved_completion_tokens": tally.saved_completion,
        "saved_seconds": tally.saved_seconds,
        "spent": tally.spent,
        "saved": saved,
        "unmetered": tally.unmetered,
        "unpriced": unpriced,
    }
    amounts.update(zip(METRICS, tally.buckets, strict=True))
    return {metric: amount for metric, amount in amounts.items() if amount}


def rows_of(
    tallies: Iterable[tuple[Kind, Tally]],
    at: datetime,
    *,
    prices: Prices,
    model: Callable[[str], str],
    tenant: Callable[[str], str],
) -> list[UsageRow]:
    """Return the rows of all spans in which `at` lies; `model` and `tenant` give bounded labels.

    Only those of days name tenants and models, only the others hold durations.
    """
    starts = {span: start_of(span, at) for span in Span}
    rows: list[UsageRow] = []
    for kind, tally in tallies:
        amounts = amounts_of(kind, tally, prices)
        if not amounts:
            continue
        for span in (Span.MINUTE, Span.QUARTER):
            key = UsageKey(span, starts[span], "", kind.category, "", kind.served.value)
            rows.append(UsageRow(key, amounts))
        whose, label = tenant(kind.tenant), model(kind.model)
        day = UsageKey(Span.DAY, starts[Span.DAY], whose, kind.category, label, kind.served.value)
        plain = {metric: n for metric, n in amounts.items() if metric not in _DURATIONS}
        rows.append(UsageRow(day, plain))
    return merged(rows)


_DURATIONS = frozenset(METRICS)
