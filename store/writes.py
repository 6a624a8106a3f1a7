"""Entries on their way into the documents: who is under way, and what must not become visible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from store.documents.base import held_of
from store.entry import Entry, EntryId, Version


class Write:
    """An entry on its way into the documents."""

    __slots__ = ("entry", "held", "over", "void")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.held = held_of(entry)
        self.void = False  # set when it must not become visible any more
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Writes:
    """The writes that are under way. All methods are called from one event loop."""

    def __init__(self) -> None:
        self._writes: dict[EntryId, list[Write]] = {}  # in the order in which they began

    def __contains__(self, id: EntryId) -> bool:
        return id in self._writes

    def begin(self, entry: Entry) -> Write:
        """Note that a write begins."""
        write = Write(entry)
        self._writes.setdefault(entry.id, []).append(write)
        return write

    def end(self, write: Write) -> None:
        """Note that it is over, whatever came of it."""
        writes = self._writes[write.held.id]
        writes.remove(write)
        if not writes:
            del self._writes[write.held.id]
        write.over.set_result(None)

    def give_up(self, id: EntryId) -> None:
        """Have what is being written under an id not become visible."""
        for write in self._writes.get(id, ()):
            write.void = True

    def give_up_all(self, selects: Callable[[Entry], bool]) -> list[asyncio.Future[None]]:
        """Have what is being written, and selected, not become visible; return when it is over."""
        given_up = [w for writes in self._writes.values() for w in writes if selects(w.entry)]
        for write in given_up:
            write.void = True
        return [write.over for write in given_up]

    async def over(self) -> None:
        """Return once all that are under way now are over."""
        under_way = [write.over for writes in self._writes.values() for write in writes]
        if under_way:
            await asyncio.wait(under_way)

    def of(self, version: Version) -> list[Write]:
        """Return the writes of one version."""
        writes = self._writes.get(version.id, [])
        return [write for write in writes if write.held.version == version]
