"""Who does what to whom: words that trade their places."""

from __future__ import annotations

from store.decision.guards.words import Words, overlap, substitutions

_NEARLY = 0.75  # of the words that carry something
_JOINING = frozenset("and or vs versus und oder et ou y e o".split())


def turned_round(a: Words, b: Words) -> bool:
    """Whether two texts say nearly the same words in another order; no proof of another question.

    "Regular season start" and "start of the regular season" are the same; the calibrated score
    weighs this.
    """
    shared = a.content & b.content
    if len(shared) < 2 or overlap(a, b) < _NEARLY:
        return False
    return [s for s in a.stems if s in shared] != [s for s in b.stems if s in shared]


def _traded(a: Words, b: Words) -> list[tuple[str, str]]:
    if not turned_round(a, b):
        return []
    both = a.content & b.content
    moved = {(x, y) for x, y in substitutions(a, b) if x in both and y in both}
    return [(x, y) for x, y in moved if (y, x) in moved]


def swapped(a: Words, b: Words) -> bool:
    """Whether two words hold each other's places: "does A beat B" and "does B beat A".

    "A and B" is "B and A".
    """
    traded = _traded(a, b)
    return bool(traded) and not _joined(a).issuperset(map(frozenset, traded))


def numbers_swapped(a: Words, b: Words) -> bool:
    """Whether two numbers hold each other's places: "5 from 2" and "2 from 5"."""
    return any(x.isdigit() and y.isdigit() for x, y in _traded(a, b))


def _joined(words: Words) -> set[frozenset[str]]:
    stems = [s for s in words.stems if s not in ("the", "a", "an")]
    return {
        frozenset((first, last))
        for first, middle, last in zip(stems, stems[1:], stems[2:], strict=False)
        if middle in _JOINING
    }
