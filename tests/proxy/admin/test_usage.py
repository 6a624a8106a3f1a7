"""Which days of the ledger are asked for, whatever days somebody names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.admin.usage import UsageAdmin
from proxy.errors import ApiError
from proxy.metrics import Metrics
from proxy.usage.counting import Usage
from proxy.usage.keeping import UsageKeeper
from proxy.usage.prices import prices_for
from proxy.usage.reading import UsageReader
from store.documents.usage import Span, UsageKey, start_of
from store.economics import Economics
from tests.entries import NOON
from tests.fakes_usage import MemoryUsage

TODAY = start_of(Span.DAY, NOON)


def admin() -> UsageAdmin:
    """Return what answers from a ledger with one row, of today."""
    ledger = MemoryUsage()
    key = UsageKey(Span.DAY, TODAY, "acme", "default", "gpt-4o-mini", "miss")
    ledger.rows[key] = {"requests": 1}
    usage = Usage(
        prices=prices_for("USD", []),
        metrics=Metrics(["default"], ["configured"]),
        economics=Economics(),
    )
    keeper = UsageKeeper(usage, ledger, clock=lambda: NOON)
    reader = UsageReader(keeper, clock=lambda: NOON, monotonic=lambda: 0.0)
    return UsageAdmin(reader, "USD", lambda: NOON)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({}, 1, id="the last 30 days"),
        pytest.param({"to": "9999-12-31"}, 1, id="up to the last day there is"),
        pytest.param({"to": "0001-01-01"}, 0, id="up to the first day there is"),
        pytest.param({"first": "0001-01-01"}, 1, id="from the first day on"),
        pytest.param({"first": "0001-01-01", "to": "9999-12-31"}, 1, id="all days there are"),
        pytest.param({"first": "0001-01-01", "to": "0001-01-02"}, 0, id="the first two days"),
    ],
)
async def test_no_day_is_too_early_or_too_late(asked: dict[str, Any], found: int) -> None:
    told = await admin().usage(**asked)
    assert len(told["usage"]) == found


async def test_what_begins_after_its_end_is_refused() -> None:
    tomorrow_but_one = datetime(TODAY.year + 1, 1, 1, tzinfo=UTC).date().isoformat()
    for asked in ({"first": "2026-02-02", "to": "2026-02-01"}, {"first": tomorrow_but_one}):
        with pytest.raises(ApiError, match="it is after to"):
            await admin().usage(**asked)  # type: ignore[arg-type]
