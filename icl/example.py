"""A stored question and answer that may be shown to a small model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from icl.shown import Shown
from store.entry import EntryId


class TrackRecord(NamedTuple):
    """How one stored answer has done as an example so far."""

    offered: float = 0.0  # decayed count of near-hits that it helped to answer
    quality: float = 0.5  # mean judged quality of the answers it helped, shrunk to 0.5; [0, 1]
    own_quality: float | None = None  # judged quality of its own answer, if it ever was judged
    replays: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A candidate, with its texts as they would be shown (scrubbed)."""

    id: EntryId
    shown: Shown
    similarity: float  # cosine to the request
    age: float  # seconds
    record: TrackRecord = TrackRecord()

    @property
    def question(self) -> str:
        """The question that was asked."""
        return self.shown.question

    @property
    def answer(self) -> str:
        """What it was answered."""
        return self.shown.answer
