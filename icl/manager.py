"""What stored answers are worth as examples, and which to generate anew (PAPERS.md 2.5).

Two running values an entry. How often it helps to answer near-hits, a count that decays by 0.9 an
hour; and what a better answer of it would gain,

    G = (1 - quality of the answers it helped) * cost of the model that answered them

as an exponential mean. An idle upstream generates the answers of largest G anew, while each of
them saves more than the generation costs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from icl.example import TrackRecord
from store.entry import EntryId

HOURLY_DECAY = 0.9
MOST_REPLAYS = 5
VERSION = 1
_HOUR = 3600.0  # seconds
_FRESH = 0.2  # share of the newest value in the mean of G
_DOUBT = 2.0  # answers of quality 0.5 that every entry starts with
_MEMORY = 50.0  # answers helped that the mean quality remembers
_LOOKED_AT = 16  # pages among which the least valuable leaves, so that room is made in no time


@dataclass(slots=True)
class _Page:
    """The account of one entry."""

    offers: float = 0.0  # as of `at`
    at: float = 0.0  # Unix seconds
    quality: float = 0.0  # sum over the answers helped
    helped: float = 0.0  # their number, both bounded by _MEMORY
    gain: float | None = None  # the mean of G
    own: float | None = None
    replays: int = 0

    def offers_at(self, at: float) -> float:
        return float(self.offers * HOURLY_DECAY ** (max(0.0, at - self.at) / _HOUR))


class Account(NamedTuple):
    """What a replay is planned from."""

    id: EntryId
    gain: float  # G
    offered: float  # decayed count
    replays: int


class ExampleBook:
    """Track records by entry; bounded: of those looked at longest ago, the least valuable leave.

    Times in Unix seconds.
    """

    def __init__(self, *, most: int = 100_000) -> None:
        if most < 1:
            raise ValueError(f"a book needs room for an entry, got {most}")
        self._most = most
        self._pages = OrderedDict[EntryId, _Page]()

    def __len__(self) -> int:
        return len(self._pages)

    def __contains__(self, id: EntryId) -> bool:
        return id in self._pages

    def __iter__(self) -> Iterator[EntryId]:
        return iter(self._pages)

    def offered(self, id: EntryId, at: float) -> None:
        """Count that the entry was an example for a near-hit that a small model answered."""
        page = self._page(id, at)
        page.offers = page.offers_at(at) + 1.0
        page.at = max(page.at, at)
        self._make_room(page.at)

    def helped(self, id: EntryId, quality: float, cost: float, at: float) -> None:
        """Take up how good such an answer was; `cost` is the price relative to the dear model."""
        page = self._page(id, at)
        quality = min(max(quality, 0.0), 1.0)
        page.quality += quality
        page.helped += 1.0
        if page.helped > _MEMORY:
            page.quality *= _MEMORY / page.helped
            page.helped = _MEMORY
        gain = (1.0 - quality) * max(cost, 0.0)
        page.gain = gain if page.gain is None else page.gain + _FRESH * (gain - page.gain)
        self._make_room(at)

    def judged(self, id: EntryId, quality: float, at: float) -> None:
        """Take up how good the entry's own answer is."""
        self._page(id, at).own = min(max(quality, 0.0), 1.0)
        self._make_room(at)

    def replayed(self, id: EntryId, quality: float | None) -> None:
        """Count a replay; `quality` is that of the answer kept, None if nobody judged it.

        What a better answer would gain is open again: it is learnt from the next answers helped.
        """
        page = self._pages.get(id)
        if page is None:
            return
        page.replays += 1
        page.gain = None
        if quality is not None:
            page.own = min(max(quality, 0.0), 1.0)

    def record(self, id: EntryId, at: float) -> TrackRecord:
        """Return the entry's record as an example; the empty one for an unknown entry."""
        page = self._pages.get(id)
        if page is None:
            return TrackRecord()
        mean = (page.quality + 0.5 * _DOUBT) / (page.helped + _DOUBT)
        return TrackRecord(page.offers_at(at), mean, page.own, page.replays)

    def value(self, id: EntryId, at: float) -> float:
        """Return the offload value: decayed offers, each worth the quality of its answer."""
        record = self.record(id, at)
        return record.offered * record.quality

    def accounts(self, at: float) -> list[Account]:
        """Return what `plan_replays` ranks: every entry with a gain known."""
        return [
            Account(id, page.gain, page.offers_at(at), page.replays)
            for id, page in self._pages.items()
            if page.gain is not None
        ]

    def forget(self, ids: Iterable[EntryId]) -> None:
        """Let go of entries that are gone."""
        for id in ids:
            self._pages.pop(id, None)

    def as_data(self) -> dict[str, Any]:
        """Return the whole book, for JSON."""
        pages = [
            [id, page.offers, page.at, page.quality, page.helped, page.gain, page.own, page.replays]
            for id, page in self._pages.items()
        ]
        return {"version": VERSION, "pages": pages}

    @classmethod
    def from_data(cls, data: Any, *, most: int = 100_000) -> ExampleBook:
        """Return the book that `as_data` wrote; an empty one for any other data."""
        book = cls(most=most)
        try:
            if data["version"] != VERSION:
                return book
            for id, *values in data["pages"]:
                book._pages[EntryId(str(id))] = _page_of(values)
        except (LookupError, TypeError, ValueError):
            return cls(most=most)
        now = max((page.at for page in book._pages.values()), default=0.0)
        kept = nlargest(most, book._pages, key=lambda id: book.value(id, now))
        book._pages = OrderedDict((id, book._pages[id]) for id in kept)
        return book

    def _page(self, id: EntryId, at: float) -> _Page:
        page = self._pages.get(id)
        if page is None:
            page = self._pages[id] = _Page(at=at)
        return page

    def _make_room(self, at: float) -> None:
        while len(self._pages) > self._most:
            oldest = list(islice(self._pages, _LOOKED_AT))
            for id in oldest:
                self._pages.move_to_end(id)
            del self._pages[min(oldest, key=lambda id: self.value(id, at))]


def expected_saving(account: Account) -> float:
    """Return what a perfect answer would save from now on, in the unit of `helped`'s cost.

    The offers to come are taken to be as many as are on the account: an interest that fades by
    0.9 an hour brings that many more.
    """
    return account.gain * account.offered


def plan_replays(accounts: Iterable[Account], most: int, generation_cost: float) -> list[EntryId]:
    """Return the entries to generate anew, largest G first, at most `most`.

    Left out are those replayed MOST_REPLAYS times, and those whose expected saving is below
    `generation_cost`, that of one replay in the unit of `helped`'s cost.
    """
    able = [
        account
        for account in accounts
        if account.replays < MOST_REPLAYS and expected_saving(account) >= generation_cost
    ]
    able.sort(key=lambda account: (-account.gain, -account.offered, account.id))
    return [account.id for account in able[: max(0, most)]]


def _page_of(values: list[Any]) -> _Page:
    offers, at, quality, helped, gain, own, replays = values
    page = _Page(
        offers=float(offers),
        at=float(at),
        quality=float(quality),
        helped=float(helped),
        gain=None if gain is None else float(gain),
        own=None if own is None else float(own),
        replays=int(replays),
    )
    numbers = [page.offers, page.at, page.quality, page.helped, page.gain or 0.0, page.own or 0.0]
    if not all(isfinite(number) and number >= 0.0 for number in numbers) or page.replays < 0:
        raise ValueError("an account with numbers that can't be")
    return page
