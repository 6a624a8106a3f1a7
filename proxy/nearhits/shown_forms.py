"""Entries as they may be shown, made before they are needed and kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import NamedTuple

from icl.shown import Shown
from store.entry import EntryId, Held

ROOM = 32 * 2**20  # bytes: some 10,000 entries of 800 characters
_UNSHOWN = 256  # bytes that it takes to know that there is nothing to show


class Form(NamedTuple):
    """What is shown of one version of an entry."""

    created_at: datetime  # of the version
    shown: Shown | None  # None: its answer is no text, too long, or private
    size: int


class ShownForms:
    """Forms by entry, within a number of bytes; those not used for longest leave."""

    def __init__(self, room: int = ROOM) -> None:
        """`room` is in bytes."""
        self._room = room
        self._forms: OrderedDict[EntryId, Form] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._forms)

    @property
    def has_room(self) -> bool:
        """Whether a tenth of the room or more is free."""
        return self.bytes * 10 <= self._room * 9

    def get(self, held: Held) -> Form | None:
        """Return the form of this version of an entry and count it as just used; None: unknown."""
        if not self.knows(held):
            return None
        self._forms.move_to_end(held.id)
        return self._forms[held.id]

    def knows(self, held: Held) -> bool:
        """Whether there is a form of this version; it does not count as used."""
        form = self._forms.get(held.id)
        return form is not None and form.created_at == held.created_at

    def put(self, held: Held, shown: Shown | None) -> None:
        """Keep what is shown of an entry, in place of any other version."""
        self.forget(held.id)
        self._keep(held, shown)
        while self.bytes > self._room:
            _, oldest = self._forms.popitem(last=False)
            self.bytes -= oldest.size

    def put_last(self, held: Held, shown: Shown | None) -> None:
        """Keep a form if there is room; it leaves before all others."""
        self.forget(held.id)
        if self.bytes + _size(shown) <= self._room:
            self._keep(held, shown)
            self._forms.move_to_end(held.id, last=False)

    def forget(self, id: EntryId) -> None:
        """Let go of an entry: it is gone, or shows something else from now on."""
        form = self._forms.pop(id, None)
        if form is not None:
            self.bytes -= form.size

    def _keep(self, held: Held, shown: Shown | None) -> None:
        size = _size(shown)
        self._forms[held.id] = Form(held.created_at, shown, size)
        self.bytes += size


def _size(shown: Shown | None) -> int:
    return _UNSHOWN if shown is None else shown.size
