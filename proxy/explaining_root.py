"""The composition of what explains: the lookup that serves, with something else to write to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxy.call import CallReader
from proxy.explain import Explainer
from proxy.kept_budgets import KeptBudgets
from proxy.lookup import Searcher
from proxy.metrics import Metrics
from proxy.parts import Parts
from proxy.recent_lookups import RecentLookups
from proxy.upkeep import utc_now
from store import economics
from store.decision import budgets as budgets_of


def build_explainer(
    parts: Parts, reader: CallReader, searcher_of: Callable[[Parts], Searcher]
) -> Explainer:
    """Return what says what would happen.

    `reader` is its own, for it remembers what it reads. `searcher_of` makes the searcher of the
    requests; here of parts that note nothing.
    """
    budgets = budgets_of.Watching(parts.budgets.live)
    watching = replace(
        parts,
        metrics=Metrics((), ()),
        economics=economics.Watching(parts.economics),
        recent=RecentLookups(0),
        budgets=KeptBudgets(budgets, parts.shelves.records, parts.in_force),
    )
    return Explainer(
        reader=reader,
        searcher=searcher_of(watching),
        cache=parts.cache,
        quarantine=parts.quarantine,
        keyring=parts.keyring,
        point=budgets.point,
        near_hits=None if parts.near_hits is None else parts.near_hits.tier,
        clock=utc_now,
    )
