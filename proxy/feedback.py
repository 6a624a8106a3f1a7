"""Feedback on one answer that a caller got: a wrong one is stopped at once, and both are kept.

Feedback only ever tightens: `right` lifts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from icl.arms import Observation
from proxy.auth import Caller
from proxy.errors import ApiError
from proxy.events import LONGEST_QUESTION, ServingEvent, ServingEvents
from proxy.metrics import Metrics
from proxy.nearhits.served import Recent
from proxy.nearhits.tier import NearHits
from proxy.rate_limit import RateLimit
from store.cache import Cache
from store.documents.records import Pair, Records
from store.entry import EntryId
from store.quarantine import EVERYBODY, Quarantine, names_of


class Feedback(BaseModel):
    """A verdict on one answer."""

    model_config = ConfigDict(extra="forbid")

    response_id: str = Field(min_length=1, max_length=256)
    verdict: Literal["wrong", "right"]
    comment: str = Field("", max_length=2000)


class FeedbackDesk:
    """Takes feedback in."""

    def __init__(
        self,
        *,
        events: ServingEvents,
        elsewhere: Callable[[str, str], Awaitable[ServingEvent | Observation | None]],
        cache: Cache,
        quarantine: Quarantine,
        records: Records,
        limit: RateLimit,
        metrics: Metrics,
        complained: Callable[[str], Awaitable[None]],
        near_hits: NearHits | None,
        settled: Callable[[], Awaitable[None]],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        """`elsewhere` finds a tenant's event or near-hit that another replica has; never raises.

        `complained` is told the category of a hit by meaning that was wrong.

        `settled` returns once no replica serves what is stopped.
        """
        self._events = events
        self._elsewhere = elsewhere
        self._cache = cache
        self._quarantine = quarantine
        self._records = records
        self._limit = limit
        self._metrics = metrics
        self._complained = complained
        self._near_hits = near_hits
        self._settled = settled
        self._clock = clock
        self._monotonic = monotonic
        # Answers by (tenant, name) whose verdict has moved something: it does so once, though a
        # client that got no reply, or a person who is cross, says it again.
        self._complaints: Recent[tuple[str, str], None] = Recent()
        self._near_verdicts: Recent[tuple[str, str], None] = Recent()

    async def take(self, caller: Caller, feedback: Feedback) -> None:
        """Stop the entry if it was wrong, and keep the labelled pair. Durable on return.

        Raises ApiError 429 for too much of it, 404 for an answer that is not this tenant's, and
        StoreUnavailable.
        """
        pause = self._limit.wait(caller.key_id or caller.tenant, self._monotonic())
        if pause:
            raise ApiError(
                429,
                "too much feedback with this key: try again later",
                type="rate_limit_error",
                code="feedback_rate_limited",
                retry_after=math.ceil(pause),
            )
        now, name = self._clock(), (caller.tenant, feedback.response_id)
        found = await self._find(caller.tenant, feedback.response_id, now)
        if isinstance(found, Observation):
            self._near_verdicts.note(name, None)
            await self._judge(found, feedback)
            return
        event = found
        id = event.entry_id if event is not None else await self._named(caller.tenant, feedback)
        if id is None and name in self._near_verdicts:
            return
        if id is None:
            raise ApiError(
                404,
                f"response_id: {feedback.response_id!r} names no answer that this key got",
                param="response_id",
                code="not_found",
            )
        if feedback.verdict == "wrong":
            named = self._cache.exact(id) if event is None else event
            key = "" if named is None else named.shared_key
            await stop_for(self._quarantine, names_of(id, key), caller.tenant, now, "feedback")
            await self._settled()
            by_meaning = event is not None and event.hit and event.entry_query != event.query
            if event is not None and by_meaning and name not in self._complaints:
                self._complaints.note(name, None)
                await self._complained(event.category)
        # After different dialogues, a verdict says nothing of the two questions alone.
        if event is not None and event.hit and event.same_past and _short(event):
            await self._records.add_pair(_pair(caller.tenant, feedback, event, now))
        self._metrics.feedback.labels(feedback.verdict).inc()
        if self._near_hits is not None and event is not None:
            self._near_hits.heard(event.category)

    async def _find(
        self, tenant: str, name: str, now: datetime
    ) -> ServingEvent | Observation | None:
        """Return what the tenant got under this name, here or from another replica."""
        near = None if self._near_hits is None else self._near_hits.given(tenant, name)
        return near or self._events.find(tenant, name, now) or await self._elsewhere(tenant, name)

    async def _judge(self, given: Observation, feedback: Feedback) -> None:
        """Take the verdict on a small model's answer: no entry is at fault."""
        if self._near_hits is not None:
            await self._near_hits.verdict(given, wrong=feedback.verdict == "wrong")
        self._metrics.feedback.labels(feedback.verdict).inc()

    async def _named(self, tenant: str, feedback: Feedback) -> EntryId | None:
        """Return the entry with this id, or whose answer has it, if the tenant may have it."""
        id = EntryId(feedback.response_id)
        held = self._cache.exact(id)
        if held is not None and (held.tenant == tenant or held.approved):
            return id
        return await self._records.find_answer(tenant, feedback.response_id)


async def stop_for(
    quarantine: Quarantine, names: tuple[EntryId, ...], tenant: str, now: datetime, why: str
) -> None:
    """Keep the entry of these names from the tenant.

    From everybody once a second tenant has it, or a twin of it, stopped too.
    """
    stopped = frozenset[str]().union(*(quarantine.tenants(name) for name in names))
    for name in names:
        await quarantine.add(name, tenant, now, why)
    if stopped - {tenant, EVERYBODY}:
        for name in names:
            await quarantine.add(name, EVERYBODY, now, f"{why} of two tenants")


def _short(event: ServingEvent) -> bool:
    """Whether the questions are short enough to be kept: the pairs are bounded by number only."""
    return max(len(event.query), len(event.entry_query)) <= LONGEST_QUESTION


def _pair(tenant: str, feedback: Feedback, event: ServingEvent, now: datetime) -> Pair:
    return Pair(
        at=now,
        tenant=tenant,
        event=feedback.response_id,
        query=event.query,
        entry_query=event.entry_query,
        entry_id=event.entry_id,
        similarity=event.similarity,
        label=1 if feedback.verdict == "right" else 0,
        category=event.category,
        comment=feedback.comment,
    )
