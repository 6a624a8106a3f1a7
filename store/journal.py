"""What happened to the store, in order: the one way in which memory learns of a change.

Every put, removal, approval, quarantine and policy change is a record. The process that makes a
change applies the record when it is durable, a restarted process applies what came after its
snapshot, and other replicas apply what they read: by the same function, in the same order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from store.entry import EntryId, Stored


class Mark(NamedTuple):
    """A place in a journal."""

    epoch: str  # names the journal: one that has lost records goes on under another name
    position: int  # of the last record before this place; 0 is the beginning


@dataclass(frozen=True, slots=True)
class Put:
    """An entry was stored, in place of any other with its id."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class Removed:
    """Entries are gone."""

    ids: tuple[EntryId, ...]
    purged: bool  # on purpose: they must not come back even if the store forgets this record
    # Which version of each is gone, where newer ones may be there; (): whatever was there.
    created: tuple[datetime, ...] = ()
    # When what was there had been stored, by the clock of who stored it; (): not known. No version:
    # whatever is there goes.
    stored: tuple[datetime, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Purging:
    """A purge begins: what was asked for before it, and it takes, is not to be stored any more."""

    data: bytes  # what it takes, which the store does not know


@dataclass(frozen=True, slots=True)
class Approved:
    """Shared entries may serve other tenants."""

    ids: tuple[EntryId, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """An entry must not serve a tenant; "" is everybody."""

    entry_id: EntryId
    tenant: str


@dataclass(frozen=True, slots=True)
class Released:
    """Exactly that quarantine is undone."""

    entry_id: EntryId
    tenant: str


@dataclass(frozen=True, slots=True)
class TenantForgotten:
    """What was kept from a tenant by name is undone."""

    tenant: str


@dataclass(frozen=True, slots=True)
class PolicyAdded:
    """There is another version of the policies."""

    number: int


@dataclass(frozen=True, slots=True)
class Complained:
    """A client said that a hit by meaning in this category was wrong."""

    category: str


@dataclass(frozen=True, slots=True)
class Learnt:
    """Something was learnt that every replica takes up. What it is, the store does not know."""

    data: bytes


Change = (
    Put
    | Removed
    | Purging
    | Approved
    | Stopped
    | Released
    | TenantForgotten
    | PolicyAdded
    | Complained
    | Learnt
)


class Record(NamedTuple):
    """A change at its place."""

    position: int
    change: Change
    own: bool = True  # whether this process made it


Apply = Callable[[Record], None]  # runs in the event loop, in the order of positions


class Journal(Protocol):
    """The records of one document store.

    Every method raises StoreUnavailable when the store cannot do it now; none waits for ever.
    """

    async def mark(self) -> Mark:
        """Return the end of the journal."""
        ...

    def read(self, after: Mark, batch: int) -> AsyncIterator[list[Record]]:
        """Yield what came after a mark up to now, up to `batch` records at a time.

        Raises JournalGap when some of it is no longer kept, or the mark is of another epoch.
        """
        ...

    async def truncate(self, until: Mark) -> None:
        """Forget the records up to a mark, which a durable snapshot reflects or none is to."""
        ...
