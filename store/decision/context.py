"""Whether two dialogues are the same so far: their earlier user turns, by meaning. Pure.

What else there was before a question (what the assistant said, tools, roles, order, depth) is in
the digest `PartitionKey.context`, so that two questions of one partition agree in it. Left are the
users' own texts. Each must be the other's word for word, or mean the same: a cosine at or above
the threshold, no guard's veto, and nothing suspicious either, for no score weighs earlier turns.
All of them, to the first: the context chain of MeanCache, from which the idea comes, goes one turn
back only and lets stand-alone answers serve follow-ups.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.decision.guards import SIGNAL_NAMES, signals, veto
from store.entry import Vector

# Signals that are no veto, for a score may outweigh them. There is none here, so one is enough.
SUSPICIOUS = (
    "numbers_left_query",
    "numbers_left_stored",
    "names_left_query",
    "names_left_stored",
    "calendar_left",
    "asked_conflict",
    "order_turned",
    "order_swapped",
    "polarity_opposed",
    "negation_differs",
    "quotes_left",
    "code_left",
    "letters_differ",
)
_SUSPICIOUS = tuple(map(SIGNAL_NAMES.index, SUSPICIOUS))


def open_places(
    asked: Sequence[str], stored: Sequence[str], vectors: Sequence[Vector | None]
) -> tuple[int, ...] | None:
    """Return the places of the turns that only their vectors can tell apart; () if all are equal.

    `asked` and `stored` are the user texts before a question and before an entry's, `vectors` those
    of `stored`, () if none was kept. None: the pasts differ whatever vectors say, in depth, by what
    guards see, or because a text that is not equal has no vector to be compared by.
    """
    if len(asked) != len(stored):
        return None
    places = tuple(n for n, text in enumerate(asked) if text != stored[n])
    if any(n >= len(vectors) or vectors[n] is None for n in places):
        return None
    return None if any(_may_differ(asked[n], stored[n]) for n in places) else places


def _may_differ(asked: str, stored: str) -> bool:
    if veto(asked, stored) is not None:
        return True
    seen = signals(asked, stored)
    return any(seen[place] for place in _SUSPICIOUS)


def same_past(
    asked: Sequence[Vector | None], stored: Sequence[Vector | None], threshold: float
) -> bool:
    """Whether turns in pairs all mean the same: each cosine at or above the threshold.

    Both are unit vectors of shape (d,) of one checkpoint, or None, which never means the same
    however low the threshold is. ValueError unless there are as many.
    """
    return all(
        ours is not None and theirs is not None and float(ours @ theirs) >= threshold
        for ours, theirs in zip(asked, stored, strict=True)
    )
