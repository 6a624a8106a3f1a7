"""What every document store offers. The cache and the command line know stores by this only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import NamedTuple, Protocol

from store.entry import Entry, EntryId, Held, Version, kept_key, size_of
from store.entry import Stored as Stored
from store.journal import Apply

NEWEST = 2**63 - 1  # above every row number


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries to list; an empty field lets everything pass."""

    id: str = ""
    category: str = ""
    tenant: str = ""
    model: str = ""
    tag: str = ""  # one of the entry's tags, to the letter
    prefix: str = ""  # how the query begins, to the letter
    text: str = ""  # a part of the query; ASCII letters match in either case


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line of a listing."""

    id: EntryId
    tenant: str
    user: str
    category: str
    route: str
    model: str
    query: str
    tags: tuple[str, ...]
    created_at: datetime
    size: int
    approved: bool


class Page(NamedTuple):
    """A part of a listing, newest entry first."""

    entries: tuple[Summary, ...]
    next: str | None  # the cursor of the next page; None at the end


class DocumentStore(Protocol):
    """Entries by id. Implemented by SQLite here, and by a fake in memory for tests.

    Every method raises StoreUnavailable when the store cannot do it now; none waits for ever.
    Writes take effect in the order in which their coroutines begin to run.
    """

    @property
    def waiting(self) -> int:
        """How many writes wait for their turn."""
        ...

    def follow(self, apply: Apply) -> None:
        """Tell `apply` every change from now on, in order.

        A change of this process is told once it is durable and before the call that made it
        returns; `apply` runs in the event loop, and more than one may follow.
        """
        ...

    async def put(self, entry: Entry) -> None:
        """Store the entry in place of any other with its id; it is durable on return."""
        ...

    async def get(self, id: EntryId) -> Entry | None:
        """Return the entry; None when there is none, or what is there is damaged."""
        ...

    async def purge(self, ids: Sequence[EntryId]) -> int:
        """Delete durably whatever is there; return how many there were.

        They must not come back even if the store loses what was written last.
        """
        ...

    async def discard(self, versions: Sequence[Version]) -> int:
        """Delete durably those that are still what is stored; return how many.

        An entry that another process has stored in their place stays.
        """
        ...

    async def approve(self, ids: Sequence[EntryId]) -> int:
        """Let shared entries serve other tenants, durably; return how many of the ids may now.

        Entries of another scope, and damaged ones, stay as they are.
        """
        ...

    def load_all(self, batch: int) -> AsyncIterator[list[Stored]]:
        """Yield all undamaged entries, oldest put first, up to `batch` at a time."""
        ...

    async def browse(self, filter: Filter, *, limit: int, cursor: str | None = None) -> Page:
        """Return a page of the entries that pass the filter; ValueError for a foreign cursor."""
        ...

    async def count(self) -> int:
        """Return how many entries are stored."""
        ...

    async def ping(self) -> None:
        """Return if the store can be read and written."""
        ...

    async def aclose(self) -> None:
        """Finish the writes that were accepted and close."""
        ...


def held_of(entry: Entry) -> Held:
    """Return what memory keeps of the entry."""
    return Held(
        id=entry.id,
        key=kept_key(*entry.key),
        tenant=entry.tenant,
        category=entry.category,
        query=entry.query,
        created_at=entry.created_at,
        size=size_of(entry),
        model=intern(entry.model),
        classifier=intern(entry.classifier),
        shared_key=entry.shared_key,
        approved=entry.approved,
        cost=entry.cost,
        earlier=entry.earlier,
        user=intern(entry.user),
    )


def without_body(entry: Entry) -> Stored:
    """Return the entry without its body."""
    return Stored(held_of(entry), entry.checkpoint, entry.vector, entry.earlier_vectors)


def position(cursor: str | None) -> int:
    """Return the row number that a listing goes on below; ValueError for a foreign cursor."""
    if cursor is None:
        return NEWEST
    if not cursor.isdecimal():
        raise ValueError(f"cursor {cursor!r} is not one that a listing returned")
    return min(int(cursor), NEWEST)
