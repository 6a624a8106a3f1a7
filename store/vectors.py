"""Vectors of entries, in an index of their own for each checkpoint that made any.

Vectors of two checkpoints cannot be compared, and here they are never in one place: a search names
the checkpoint of its vector and sees that index only, and the vectors of an entry's earlier turns
are kept beside the index that the entry is found in. Usually there is one index; while entries are
re-encoded for another checkpoint, and as long as one can go back, there are two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from store.entry import EntryId, Held, Neighbor, PartitionKey, Stored, Vector, check_vectors
from store.index import EarlySearch, VectorIndex

MOST_INDEXES = 2  # in force, and one beside it: each is as large as memory's largest part
NONE: tuple[Vector | None, ...] = ()


class Made(NamedTuple):
    """What one checkpoint makes of an entry's texts: unit vectors of shape (d,)."""

    vector: Vector
    earlier: tuple[Vector | None, ...]  # of the earlier turns; () if none has one


Maker = Callable[[Held], Made | None]


def nothing_made(held: Held) -> Made | None:
    """Know no vector."""
    return None


class CheckpointIndex:
    """What is searched by vectors of one checkpoint."""

    __slots__ = ("earlier", "index", "lacking", "made")

    def __init__(self, index: VectorIndex, made: Maker = nothing_made) -> None:
        """`made` gives what was made before of an entry that was stored under another one."""
        self.index = index
        self.made = made
        self.earlier: dict[EntryId, tuple[Vector | None, ...]] = {}
        self.lacking: dict[EntryId, None] = {}  # found by meaning elsewhere, and not yet here

    def put(self, held: Held, made: Made) -> None:
        """Have the entry found; raise ValueError for vectors that are not of this index."""
        check_vectors(made.earlier, self.index.dimension)
        self.index.put(held.key, held.id, made.vector)
        self.lacking.pop(held.id, None)
        if any(vector is not None for vector in made.earlier):
            self.earlier[held.id] = made.earlier

    def remove(self, held: Held) -> None:
        """Forget the entry."""
        self.index.remove(held.key, held.id)
        self.earlier.pop(held.id, None)
        self.lacking.pop(held.id, None)


class EntryVectors:
    """The indexes by checkpoint. All methods are called from one event loop."""

    def __init__(self, checkpoint: str, index: VectorIndex, made: Maker = nothing_made) -> None:
        self._indexes = {checkpoint: CheckpointIndex(index, made)}

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The checkpoints that there is an index of, the longest known first."""
        return tuple(self._indexes)

    def __getitem__(self, checkpoint: str) -> CheckpointIndex:
        """Return a checkpoint's index; raise KeyError."""
        return self._indexes[checkpoint]

    def open(self, checkpoint: str, index: VectorIndex, made: Maker = nothing_made) -> None:
        """Begin an index for another checkpoint, empty; raise ValueError if there are enough."""
        if checkpoint in self._indexes or len(self._indexes) >= MOST_INDEXES:
            raise ValueError(f"there is no room for an index of {checkpoint}: {self.checkpoints}")
        self._indexes[checkpoint] = CheckpointIndex(index, made)

    def drop(self, checkpoint: str) -> VectorIndex | None:
        """Forget a checkpoint's vectors; return its index, to be closed, if there was one."""
        dropped = self._indexes.pop(checkpoint, None)
        return None if dropped is None else dropped.index

    async def search(
        self, checkpoint: str, key: PartitionKey, vector: Vector, k: int
    ) -> list[Neighbor]:
        """Return up to k neighbors of a vector that this checkpoint has made, nearest first."""
        place = self._indexes.get(checkpoint)
        return [] if place is None else await place.index.search(key, vector, k)

    def early(self, checkpoint: str, key: PartitionKey, k: int) -> EarlySearch | None:
        """Return a search of what is there now for a vector that this checkpoint will have made.

        None where there is nothing.
        """
        place = self._indexes.get(checkpoint)
        return None if place is None else place.index.early(key, k)

    def earlier(self, id: EntryId, checkpoint: str) -> tuple[Vector | None, ...]:
        """Return the vectors of an entry's earlier turns by this checkpoint; () if none has one."""
        place = self._indexes.get(checkpoint)
        return NONE if place is None else place.earlier.get(id, NONE)

    def take_up(self, stored: Stored) -> None:
        """Have an entry found by meaning, if it is to be, wherever it is not yet found.

        Where no vector of it is known, it is noted as lacking.
        """
        if stored.vector is None:
            return
        for checkpoint, place in self._indexes.items():
            if place.index.holds(stored.held.key, stored.held.id):
                continue
            if checkpoint == stored.checkpoint:
                made: Made | None = Made(stored.vector, stored.earlier_vectors)
            else:
                made = place.made(stored.held)
            if made is None:
                place.lacking[stored.held.id] = None
            else:
                place.put(stored.held, made)

    def check(self, stored: Stored) -> None:
        """Raise ValueError unless an index could take the vectors that were made for it."""
        place = self._indexes.get(stored.checkpoint)
        if place is not None and stored.vector is not None:
            check_vectors((stored.vector, *stored.earlier_vectors), place.index.dimension)

    def remove(self, held: Held) -> None:
        """Forget an entry's vectors."""
        for place in self._indexes.values():
            place.remove(held)

    def lacks(self, held: Held, checkpoint: str) -> bool:
        """Whether the entry is found by meaning under another checkpoint and not under this."""
        if self.knows(held, checkpoint):
            return False
        return any(
            held.id in place.lacking or self.knows(held, other)
            for other, place in self._indexes.items()
        )

    def knows(self, held: Held, checkpoint: str) -> bool:
        """Whether the entry is found by meaning under this checkpoint."""
        place = self._indexes.get(checkpoint)
        return place is not None and place.index.holds(held.key, held.id)
