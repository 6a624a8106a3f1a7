"""The last lookups by meaning of this process, for whoever asks what another threshold would do.

They are kept in memory and nowhere else: never logged, never written, and gone with what they
speak of, when that is purged or quarantined.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from proxy.call import Call
from proxy.dashboard_settings import DashboardSettings
from proxy.outcome import Barrier, Judgement, Lookup, Outcome, exact_outcome
from store.decision.features import NEIGHBORS
from store.decision.what_if import (
    AGE,
    CLEARED,
    CONTEXT,
    EXPIRED,
    GUARD,
    LEAST,
    SCOPE,
    SCORE,
    THRESHOLD,
    Near,
    PastLookup,
)
from store.documents.base import DocumentStore
from store.entry import Candidate, EntryId
from store.journal import Record, Removed, Stopped, TenantForgotten

NEAREST = 3  # entries that are remembered of one lookup, and the one that answered
_SHARE = 10  # a category may have one in so many of all that are kept
_BAR_OF = {Outcome.STALE: EXPIRED, Outcome.REQUEST: AGE}
_UNREAD = (Barrier.THRESHOLD, Barrier.ASKED, Barrier.FARTHER)
_BARS = {
    Barrier.CATEGORY: SCOPE,
    Barrier.MODE: SCOPE,
    Barrier.QUARANTINE: SCOPE,
    Barrier.TENANT: SCOPE,
    Barrier.EXPIRED: EXPIRED,
    Barrier.AGE: AGE,
    Barrier.CROWDED: SCORE,
    Barrier.SCORE: SCORE,
    Barrier.CONTEXT: CONTEXT,
}


class RecentLookups:
    """The last lookups, so many of each category and so many in all.

    All methods are called from one event loop.
    """

    def __init__(self, most: int) -> None:
        """Keep `most` in all, a tenth of them of one category; 0 keeps none."""
        self._most = most
        self._most_each = max(1, most // _SHARE)
        self._rows: OrderedDict[int, PastLookup] = OrderedDict()  # by number, the oldest first
        self._numbers: dict[str, deque[int]] = {}  # of each category, the oldest first
        self._next = 0

    def note(self, call: Call, lookup: Lookup, now: datetime) -> None:
        """Remember a lookup by meaning, unless its caller wants nothing to be kept."""
        if not self._most or call.directives.no_store or lookup.searched is None:
            return
        found, judgements = lookup.searched
        best = None if lookup.found is None else lookup.found.held.id
        near: list[Near] = []
        answered = -1
        for rank, candidate in enumerate(found):
            if candidate.held.id == best:
                answered = len(near)
            elif rank >= NEAREST:
                if best is None or answered >= 0:
                    break
                continue
            elif candidate.similarity < LEAST:
                continue
            near.append(_near(call, candidate, rank, judgements[rank], now))
        self._add(
            PastLookup(
                at=now,
                id=call.id,
                category=call.category,
                tenant=call.caller.tenant,
                query=call.question.text,
                checkpoint=call.rules.encoding.checkpoint,
                follow_up=bool(call.question.earlier),
                threshold=call.policy.hit_threshold,
                near_threshold=call.policy.near_threshold,
                similarities=tuple([each.similarity for each in found[:NEIGHBORS]]),
                near=tuple(near),
                served=answered,
            )
        )

    def of(self, category: str) -> dict[int, PastLookup]:
        """Return a category's lookups by number, the oldest first."""
        return {number: self._rows[number] for number in self._numbers.get(category, ())}

    def put_back(self, rows: Mapping[int, PastLookup]) -> None:
        """Take rows that more was found out about in place of those that are kept still."""
        for number, row in rows.items():
            if number in self._rows:
                self._rows[number] = row

    def keep(self, categories: Iterable[str]) -> None:
        """Forget the lookups of every other category."""
        known = set(categories)
        self._forget(lambda row: row.category not in known)

    def apply(self, record: Record) -> None:
        """Forget what a purge, a quarantine or the forgetting of a tenant is about."""
        change = record.change
        if isinstance(change, Removed) and change.purged:
            self._forget_entries(set(change.ids))
        elif isinstance(change, Stopped):
            self._forget_entries({change.entry_id})
        elif isinstance(change, TenantForgotten):
            self._forget(lambda row: row.tenant == change.tenant)

    def _forget_entries(self, ids: set[EntryId]) -> None:
        self._forget(lambda row: row.id in ids or any(near.id in ids for near in row.near))

    def _forget(self, doomed: Callable[[PastLookup], bool]) -> None:
        for number in [number for number, row in self._rows.items() if doomed(row)]:
            row = self._rows.pop(number)
            numbers = self._numbers[row.category]
            numbers.remove(number)
            if not numbers:
                del self._numbers[row.category]

    def _add(self, row: PastLookup) -> None:
        numbers = self._numbers.get(row.category)
        if numbers is None:
            numbers = self._numbers[row.category] = deque()
        elif len(numbers) >= self._most_each:
            del self._rows[numbers.popleft()]
        if len(self._rows) >= self._most:
            _, oldest = self._rows.popitem(last=False)
            others = self._numbers[oldest.category]
            others.popleft()
            if not others and others is not numbers:
                del self._numbers[oldest.category]
        numbers.append(self._next)
        self._rows[self._next] = row
        self._next += 1

    def __len__(self) -> int:
        return len(self._rows)


def recent_lookups(wanted: DashboardSettings, documents: DocumentStore) -> RecentLookups:
    """Return what remembers lookups for the dashboard; none where there is no dashboard."""
    recent = RecentLookups(wanted.recent_lookups if wanted.enabled else 0)
    documents.follow(recent.apply)
    return recent


def _near(call: Call, candidate: Candidate, rank: int, judgement: Judgement, now: datetime) -> Near:
    held, similarity, _ = candidate
    barrier = judgement.barrier
    same_past = held.earlier == call.question.earlier
    floor = call.asked_threshold
    if held.category != call.policy.name and held.category in call.rules.book:
        floor = max(floor, call.policy_of(held.category).hit_threshold)
    if barrier is None:
        bar = ""
    elif barrier in _UNREAD:  # the texts: whether that alone keeps it away
        bar = _BAR_OF.get(exact_outcome(call, held, call.policy_over(held), now), THRESHOLD)
    elif barrier is Barrier.GUARD:
        bar = GUARD + judgement.veto
    elif barrier is Barrier.OUTDONE:
        bar = "" if same_past else CLEARED  # its past was not compared
    else:
        bar = _BARS[barrier]
    return Near(
        held.id, held.query, held.category, similarity, rank, floor, same_past, bar, judgement.risk
    )
