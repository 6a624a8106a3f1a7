"""Who leads a shared call among replicas, and what the leader has published so far. Values only.

A lease is held by one leader per exact key and carries a fencing token that only grows: a leader
that was paused while its lease went to another can neither publish nor store any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from store.flight import LeaderGone

LEASE_SECONDS = 1.5  # without a renewal a leader counts as dead: before patience runs out
RENEWAL_SECONDS = 0.5
LANDED_SECONDS = 2.5  # for which a stored answer is announced: a replica sees it within 2
JOINABLE_SECONDS = 1.0  # after its end an answer gets to be stored; then nobody joins it any more


class Kind(StrEnum):
    """What a piece of a leader's output is."""

    HEAD = "h"
    CHUNK = "c"
    END = "e"
    FAILED = "f"  # the upstream failed: everybody is told the same
    GONE = "g"  # the leader gave up: somebody else may lead


class Piece(NamedTuple):
    """One piece of a leader's output."""

    kind: Kind
    data: bytes = b""


class NotShareable(LeaderGone):
    """The answer is longer than what is kept for followers."""


class AnswerLanded(Exception):
    """Another replica has just stored an answer under this key: it should be looked up again."""


class Lease(Protocol):
    """The right to lead. What is published goes out beside the caller, who never waits for it."""

    token: int
    lost: bool  # it went to another leader, or may have
    unwanted: Callable[[], None]  # called now and then while no other replica follows

    @property
    def wanted(self) -> bool:
        """Whether another replica followed within the last LEASE_SECONDS, as far as is known."""

    def publish(self, piece: Piece) -> None:
        """Send a piece to the followers; END, FAILED and GONE are the last."""

    async def confirm(self) -> bool:
        """Whether the lease is still ours, and will be for LEASE_SECONDS or what is left of them.

        When nobody can be asked, time tells: until the last renewal's end nobody else leads.
        """

    def release(self, *, landed: bool) -> None:
        """Let go, once what was published is out; `landed`: the answer is stored and visible."""


class Partial(Protocol):
    """What another replica's leader has published, from the first piece on."""

    async def __aenter__(self) -> Self:
        """Begin to follow."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""

    async def next(self, patience: float | None = None) -> Piece:
        """Return the next piece: HEAD, then CHUNKs, then END or FAILED.

        Raises LeaderSilent when the leader gave no sign for `patience` seconds, LeaderGone when
        it died or gave up, and NotShareable when pieces are missing.
        """


@dataclass(frozen=True, slots=True)
class Leading:
    """Nobody leads under this key: we do."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Following:
    """Another replica leads."""

    token: int
    partial: Partial


@dataclass(frozen=True, slots=True)
class Landed:
    """An answer under this key was stored within LANDED_SECONDS."""

    token: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Another leads, but cannot be followed: too long an answer, or one that has ended."""

    token: int


Standing = Leading | Following | Landed | Closed


class Leases(Protocol):
    """Leases of one process. Belongs to one event loop."""

    async def acquire(self, id: str, *, mind_landed: bool = True) -> Standing:
        """Say who leads under an exact key; take the lease if nobody does.

        Without `mind_landed` an answer that was just stored is no reason not to lead: it was
        looked for. Raises StoreUnavailable, soon.
        """

    async def aclose(self) -> None:
        """Release what is held and let go of everything."""
