"""How sure a process may be of what it holds, and what it owes to others that hold the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from store.journal import Change, Mark

Reload = Callable[[], Awaitable[None]]


class Membership(Protocol):
    """A process's place among those that share a document store."""

    shared: bool  # whether others may change what is stored
    name: str  # of this process among them
    # Whether the store, when memory is read anew or at the start, has lost what was recorded there.
    forgotten: bool

    @property
    def fresh(self) -> bool:
        """Whether what memory holds may be served now."""
        ...

    @property
    def mark(self) -> Mark:
        """The end of the journal as far as memory reflects it."""
        ...

    @property
    def staleness(self) -> float:
        """Seconds since memory was last known to reflect all of the journal."""
        ...

    @property
    def reloads(self) -> int:
        """How often memory was read anew because it could not follow."""
        ...

    def on_reload(self, reload: Reload) -> None:
        """Have `reload` called, after the others, when memory has to be read anew."""
        ...

    async def start(self) -> None:
        """Follow the others, once what was stored has been loaded. Raises StoreUnavailable."""
        ...

    async def settled(self) -> None:
        """Wait until nobody can serve what has been taken back so far.

        Raises StoreUnavailable.
        """
        ...

    async def caught_up(self, seconds: float) -> bool:
        """Wait until memory may be served, at most so long; return whether it may."""
        ...

    def hold(self, works: Sequence[asyncio.Future[None]]) -> None:
        """Have nobody take the record that is just applied for settled here before all are done."""
        ...

    async def tell(self, change: Change) -> None:
        """Let the others know of a change that is not stored. Raises StoreUnavailable."""
        ...

    async def others(self) -> set[str]:
        """Return the names of the others that are alive. Raises StoreUnavailable."""
        ...

    async def ping(self) -> None:
        """Raise StoreUnavailable unless what memory holds may be served."""
        ...


class Alone:
    """The Membership of a process that shares its store with nobody."""

    fresh = True
    shared = False
    forgotten = False
    staleness = 0.0
    reloads = 0
    name = "alone"

    def __init__(self, mark: Mark) -> None:
        """`mark` is the end of the journal now."""
        self.mark = mark

    def note(self, position: int) -> None:
        """Note that memory reflects a record."""
        self.mark = self.mark._replace(position=position)

    def on_reload(self, reload: Reload) -> None:
        """Nobody else changes anything, so memory is never read anew."""

    async def start(self) -> None:
        """There is nobody to follow."""

    async def settled(self) -> None:
        """Nobody else could serve anything."""

    async def caught_up(self, seconds: float) -> bool:
        """Return True: what this process did is what there is."""
        return True

    def hold(self, works: Sequence[asyncio.Future[None]]) -> None:
        """Nobody else waits for this process."""

    async def tell(self, change: Change) -> None:
        """There is nobody to tell."""

    async def others(self) -> set[str]:
        """There is nobody else."""
        return set()

    async def ping(self) -> None:
        """What memory holds is what there is."""
