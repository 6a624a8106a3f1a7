"""Better answers that replays have found, to be shown as examples in place of the stored ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from store.documents.heads import microseconds
from store.entry import EntryId, Held

LARGEST = 2 * 2**20  # bytes of all together, as they are written down
Row = tuple[int, str]  # when the answer that it improves was stored, in microseconds; what to show


class Improved:
    """Answers by the entry that they improve; bounded, the oldest leave.

    Each is of one version of its entry: what is written down may be of the one before.
    """

    def __init__(self, most: int = LARGEST) -> None:
        """`most` is in bytes of ASCII JSON: how large a state may be is counted in those."""
        self._most = most
        self._rows: dict[EntryId, Row] = {}
        self._bytes = 0

    def __contains__(self, id: EntryId) -> bool:
        return id in self._rows

    def __iter__(self) -> Iterator[EntryId]:
        return iter(self._rows)

    def get(self, held: Held) -> str | None:
        """Return the answer to show for this version of an entry; None: its own."""
        stored, answer = self._rows.get(held.id, (None, None))
        return answer if stored == microseconds(held.created_at) else None

    def put(self, held: Held, answer: str) -> None:
        """Show this answer from now on."""
        self._put(held.id, (microseconds(held.created_at), answer))

    def forget(self, ids: Iterable[EntryId]) -> None:
        """Let go of entries that are gone or have a new answer of their own."""
        for id in ids:
            row = self._rows.pop(id, None)
            if row is not None:
                self._bytes -= _size(id, row)

    def as_data(self) -> dict[EntryId, Row]:
        """Return all of them, for JSON, the oldest first."""
        return dict(self._rows)

    @classmethod
    def from_data(cls, data: Mapping[str, object], most: int = LARGEST) -> Improved:
        """Return what `as_data` returned; what does not say of which version it is is left out."""
        improved = cls(most)
        for id, row in data.items():
            match row:
                case [int(stored), str(answer)]:
                    improved._put(EntryId(id), (stored, answer))
        return improved

    def _put(self, id: EntryId, row: Row) -> None:
        self.forget([id])
        self._rows[id] = row
        self._bytes += _size(id, row)
        while self._bytes > self._most:
            self.forget([next(iter(self._rows))])


def _size(id: EntryId, row: Row) -> int:
    return len(json.dumps({id: row}))
