"""The first page: what requests came to, what works, and what changed lately."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.trail import TrailAdmin
from proxy.balance import Replica
from proxy.dashboard import formats
from proxy.dashboard.charts import Chart, Series, chart
from proxy.dashboard.pages import Pages
from proxy.errors import ApiError, as_api_error
from proxy.readiness import Readiness
from proxy.upstream import Upstreams
from proxy.usage.numbers import Course, Summary, course, since, summary
from proxy.usage.prices import CURRENCY, bundled
from proxy.usage.reading import SHOWN, UsageReader
from store.documents.usage import Span, UsageRow, start_of
from store.errors import StoreUnavailable

WINDOWS = {"hour": (Span.MINUTE, "Last hour"), "day": (Span.QUARTER, "Last 24 hours")}
_CHANGES = 8  # of the audit trail
# What to do about a part that does not work.
ADVICE = {
    "encoder": "Nothing is found by meaning until it does; exact repeats are. The log says what "
    "the encoder failed with; the settings section encoder says where it runs.",
    "index": "Nothing is found by meaning until it does. The log says why; a restart builds it "
    "anew from what is stored.",
    "store": "New answers are not kept, and those that are not in memory cannot be served. Check "
    "that the disk has room, or that Redis runs and is reachable.",
    "journal": "This replica does not hear of the others' changes, and serves no hit until it "
    "does. Check that Redis runs and is reachable.",
}


class Upstream(NamedTuple):
    """One upstream, as balancing sees it."""

    name: str
    models: str
    in_flight: int
    p95: float | None  # seconds to the first byte, of its group
    failures: int  # in a row
    state: str
    kind: str  # of the badge


class Figures(NamedTuple):
    """What the ledger says, ready to be shown."""

    today: Summary
    hour: Summary
    window: Summary
    charts: tuple[Chart, ...]


class OverviewPage:
    """Shows the numbers of all replicas, and what this process knows of its parts."""

    def __init__(
        self,
        *,
        pages: Pages,
        trail: TrailAdmin,
        usage: UsageReader,
        readiness: Readiness,
        upstreams: Upstreams,
        currency: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._pages = pages
        self._trail = trail
        self._usage = usage
        self._readiness = readiness
        self._upstreams = upstreams
        self._currency = currency
        self._clock = clock

    async def show(self, request: Request) -> Response:
        """Return the page."""
        return await self._show(request, "overview.html")

    async def live(self, request: Request) -> Response:
        """Return what changes by itself."""
        return await self._show(request, "overview_live.html")

    async def _show(self, request: Request, template: str) -> Response:
        window = request.query_params.get("window", "hour")
        if window not in WINDOWS:
            allowed = ", ".join(WINDOWS)
            raise ApiError(
                400, f"window: {window!r} is not allowed; allowed: {allowed}", param="window"
            )
        figures, changes, fault = None, [], ""
        try:
            figures = await self._figures(window)
            changes = (await self._trail.list_audit(limit=_CHANGES))["audit"]
        except StoreUnavailable as error:  # what this process knows by itself is shown anyway
            fault = str(as_api_error(error))  # its own words name paths of this machine
        seen = await self._readiness.recent()
        numbers = await self._trail.overview()
        return self._pages.show(
            request,
            template,
            windows=WINDOWS,
            window=window,
            span=WINDOWS[window][1],
            figures=figures,
            fault=fault,
            changes=changes,
            working=[] if seen is None else seen.ok,
            failing=[] if seen is None else [(n, ADVICE.get(n, "")) for n in seen.failing],
            upstreams=upstreams_of(self._upstreams, time.monotonic()),
            budgets=numbers["error_budgets"],
            currency=self._currency,
            price_list=bundled() if self._currency.upper() == CURRENCY else None,
            address=str(request.base_url).rstrip("/"),
        )

    async def _figures(self, window: str) -> Figures:
        now = self._clock()
        minutes = await self._usage.recent(Span.MINUTE)
        quarters = await self._usage.recent(Span.QUARTER)
        hour = summary(since(minutes, start_of(Span.MINUTE, now) - timedelta(minutes=59)))
        span = WINDOWS[window][0]
        rows: Sequence[UsageRow] = minutes if span is Span.MINUTE else quarters
        went = course(rows, span, now, SHOWN[span])
        return Figures(
            today=summary(since(quarters, start_of(Span.DAY, now))),
            hour=hour,
            window=hour if span is Span.MINUTE else summary(since(rows, went.times[0])),
            charts=charts_of(went),
        )


def charts_of(went: Course) -> tuple[Chart, ...]:
    """Return requests by who answered, the hit rate, and how long hits and misses took."""
    requests = [Series(name, values) for name, values in went.groups.items()]
    rate = [Series("hit rate", went.hit_rate)]
    times = [
        Series("hits, median", went.hit_p50),
        Series("hits, p95", went.hit_p95),
        Series("misses, median", went.miss_p50),
        Series("misses, p95", went.miss_p95),
    ]
    return (
        chart("Requests", went.times, requests, formats.count, stacked=True, whole=True),
        chart("Hit rate", went.times, rate, formats.percent, most=1.0),
        chart("Time to answer", went.times, times, formats.seconds),
    )


def upstreams_of(upstreams: Upstreams, now: float) -> list[Upstream]:
    """Return every upstream as this process sees it; `now` in monotonic seconds."""
    return [
        Upstream(
            name=member.name,
            models=", ".join(member.spec.models),
            in_flight=member.in_flight,
            p95=group.latency_p95(now),
            failures=member.failures,
            state=state,
            kind=_KINDS[state],
        )
        for group in upstreams.groups
        for member in group.members
        for state in (state_of(member, now),)
    ]


def state_of(replica: Replica, now: float) -> str:
    """Say in a word whether calls go to an upstream."""
    if replica.ejections:
        return "probed next" if replica.due(now) or replica.probing else "ejected"
    return "failing" if replica.failures else "healthy"


_KINDS: Mapping[str, Any] = {
    "healthy": "good", "failing": "warn", "probed next": "warn", "ejected": "bad",
}  # fmt: skip
