"""The composition of the usage ledger."""

from __future__ import annotations

from contextlib import AsyncExitStack

from proxy.configured import prices_of
from proxy.documents_root import Shelves
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.upkeep import utc_now
from proxy.usage.counting import Usage
from proxy.usage.keeping import UsageKeeper
from proxy.usage.prices import prices_for
from store.economics import Economics


def open_usage(
    settings: Settings,
    shelves: Shelves,
    metrics: Metrics,
    economics: Economics,
    stack: AsyncExitStack,
) -> UsageKeeper:
    """Return what counts requests; what is left of it goes to the ledger as `stack` closes."""
    prices = prices_for(settings.usage.currency, prices_of(settings.usage.prices))
    usage = Usage(prices=prices, metrics=metrics, economics=economics)
    keeper = UsageKeeper(usage, shelves.usage, clock=utc_now)
    stack.push_async_callback(keeper.aclose)
    return keeper
