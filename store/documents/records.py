"""What must outlive a restart besides entries: policy versions, the audit trail, labelled pairs,
quarantine, error budgets, what was learnt. Values and the protocol; every kind is bounded: its
oldest leave first, of budgets there is one a category, and of what was learnt one state a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from store.entry import EntryId

T = TypeVar("T")

BY_ADMIN = "admin: "  # how the reason of what an operator has stopped begins
STATE_BYTES = 4 * 2**20  # of a learned state in UTF-8: the longest

Source = Literal["file", "starter", "api", "rollback"]
# Who says whether they agree: a client, or the judge of a hit, or of an answer that nearly hit.
PairSource = Literal["feedback", "audit", "near-miss"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many of each kind are kept, at least 1."""

    versions: int = 1_000
    audit: int = 100_000
    pairs: int = 100_000
    quarantine: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A state of all policies, and how it came about."""

    number: int = 0  # given by the store: 1 for the first, larger is newer
    at: datetime  # aware, UTC; here and below
    who: str
    source: Source
    seed: str  # digest of the file that it began from
    document: str  # JSON
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Something that an operator did."""

    at: datetime
    who: str
    action: str
    category: str | None = None
    before: str | None = None  # JSON; here and below None: there was nothing
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two questions, and whether the answer to one served the other. Trained from later."""

    at: datetime
    tenant: str
    event: str  # the serving event; a tenant's second word on it replaces the first
    query: str
    entry_query: str
    entry_id: EntryId
    similarity: float  # cosine in [-1, 1]
    label: int  # 1: the answer was right, 0: it was wrong
    category: str
    comment: str = ""
    source: PairSource = "feedback"


class Listing(NamedTuple, Generic[T]):
    """A part of a list, newest first."""

    items: tuple[T, ...]
    next: str | None  # the cursor of the next part; None at the end


class Forgotten(NamedTuple):
    """How many rows of a tenant were deleted."""

    pairs: int
    quarantined: int


def check_state(state: str) -> None:
    """Raise ValueError for a learned state that is too large, or no Unicode."""
    if len(state) > STATE_BYTES or len(state.encode()) > STATE_BYTES:
        raise ValueError(f"a learned state may have {STATE_BYTES} bytes in UTF-8, and no more")


class Records(Protocol):
    """Implemented by SQLite here, and by a fake in memory for tests.

    Every method raises StoreUnavailable when the store cannot do it now; none waits for ever.
    A write is durable on return, and writes take effect in the order in which their coroutines
    begin to run. The listings raise ValueError for a foreign cursor, and leave damaged rows out.
    """

    async def add_version(
        self,
        version: PolicyVersion,
        audit: AuditRow,
        *,
        after: int | None = None,
        state: tuple[str, str] | None = None,
    ) -> int:
        """Store all or nothing; return the version's number, whatever it had before.

        `state` is a name and what belongs to the version under it, as by `save_state`, not "".

        With `after`, only while the newest version has that number, or 0: there is none. Else it
        raises VersionTaken.
        """
        ...

    async def latest_version(self) -> PolicyVersion | None:
        """Return the newest version; StoreUnavailable if it is damaged, not an older one."""
        ...

    async def version(self, number: int) -> PolicyVersion | None:
        """Return the version; None if there is none, StoreUnavailable if it is damaged."""
        ...

    async def versions(self, *, limit: int, cursor: str | None = None) -> Listing[PolicyVersion]:
        """Return a part of the versions."""
        ...

    async def add_audit(self, row: AuditRow) -> None:
        """Append to the audit trail."""
        ...

    async def audit(self, *, limit: int, cursor: str | None = None) -> Listing[AuditRow]:
        """Return a part of the audit trail."""
        ...

    async def add_pair(self, pair: Pair) -> None:
        """Store the pair, in place of any other of its tenant and event, as the newest."""
        ...

    async def pairs(
        self, *, limit: int, cursor: str | None = None, category: str | None = None
    ) -> Listing[Pair]:
        """Return a part of the pairs, of one category if one is given."""
        ...

    async def quarantine(self, entry_id: EntryId, tenant: str, at: datetime, why: str) -> None:
        """Note that the entry must not serve the tenant; "" is everybody.

        When there are too many, the oldest for the same tenant is released, else the oldest; for
        one that is not BY_ADMIN none that is, even if the new one has to go.
        """
        ...

    async def release(self, entry_id: EntryId, tenant: str) -> bool:
        """Undo exactly that quarantine; return whether there was one."""
        ...

    async def quarantined(self) -> list[tuple[EntryId, str]]:
        """Return every quarantined entry with its tenant, the newest last."""
        ...

    async def forget_tenant(self, tenant: str) -> Forgotten:
        """Delete a tenant's pairs and what is kept from it by name; return how many of either."""
        ...

    async def find_answer(self, tenant: str, answer_id: str) -> EntryId | None:
        """Return the newest entry whose body has this id and which may serve the tenant.

        That is one of its own, before a shared and approved one of others. "" finds nothing.
        """
        ...

    async def save_budget(self, category: str, state: str) -> None:
        """Store the state of a category's error budget in place of the one before; "" drops it."""
        ...

    async def budgets(self) -> dict[str, str]:
        """Return every stored state by category; damaged ones are left out."""
        ...

    async def save_state(self, name: str, state: str) -> None:
        """Store what was learnt under a name in place of what was there; "" drops it.

        All replicas share it. Raises ValueError for more than STATE_BYTES.
        """
        ...

    async def states(self) -> dict[str, str]:
        """Return every learned state by name; damaged ones are left out."""
        ...
