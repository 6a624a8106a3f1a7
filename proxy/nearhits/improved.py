"""Better answers that replays have found, to be shown as examples in place of the stored ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from store.entry import EntryId

LARGEST = 2 * 2**20  # bytes of all together, as they are written down


class Improved:
    """Answers by the entry that they improve; bounded, the oldest leave."""

    def __init__(self, most: int = LARGEST) -> None:
        """`most` is in bytes of ASCII JSON: how large a state may be is counted in those."""
        self._most = most
        self._answers: dict[EntryId, str] = {}
        self._bytes = 0

    def __contains__(self, id: EntryId) -> bool:
        return id in self._answers

    def __iter__(self) -> Iterator[EntryId]:
        return iter(self._answers)

    def get(self, id: EntryId) -> str | None:
        """Return the answer to show for an entry; None: its own."""
        return self._answers.get(id)

    def put(self, id: EntryId, answer: str) -> None:
        """Show this answer from now on."""
        self.forget([id])
        self._answers[id] = answer
        self._bytes += _size(id, answer)
        while self._bytes > self._most:
            self.forget([next(iter(self._answers))])

    def forget(self, ids: Iterable[EntryId]) -> None:
        """Let go of entries that are gone or have a new answer of their own."""
        for id in ids:
            answer = self._answers.pop(id, None)
            if answer is not None:
                self._bytes -= _size(id, answer)

    def as_data(self) -> dict[EntryId, str]:
        """Return all of them, for JSON, the oldest first."""
        return dict(self._answers)

    @classmethod
    def from_data(cls, data: Mapping[str, object], most: int = LARGEST) -> Improved:
        """Return what `as_data` returned; what is no text is left out."""
        improved = cls(most)
        for id, answer in data.items():
            if isinstance(answer, str):
                improved.put(EntryId(id), answer)
        return improved


def _size(id: EntryId, answer: str) -> int:
    return len(json.dumps({id: answer}))
