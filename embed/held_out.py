"""Which labelled pairs are never trained on: a site's trainer and its gate agree without talking.

Both read the same pairs, and choose by the texts alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

SHARE = 0.2  # of the groups of pairs


def components(pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Return for each pair the number of its group: pairs that share a text, directly or not.

    Groups are numbered from 0 in the order of their first pair.
    """
    above: dict[str, str] = {}

    def root(text: str) -> str:
        top = text
        while above.setdefault(top, top) != top:
            top = above[top]
        while above[text] != top:  # so that long chains are walked once
            above[text], text = top, above[text]
        return top

    for first, second in pairs:
        above[root(second)] = root(first)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(first), len(numbers)) for first, _ in pairs]


def held_out(pairs: Sequence[tuple[str, str]], share: float = SHARE) -> list[bool]:
    """Return for each pair whether it is held out; no text is on both sides.

    Whole groups of pairs that share a text are chosen by the SHA-256 of their smallest text, so
    that the order of the pairs and their labels do not matter, and a group stays where it is
    unless a new pair gives it a smaller text or joins it to another.
    """
    groups = components(pairs)
    smallest: dict[int, str] = {}
    for group, pair in zip(groups, pairs, strict=True):
        smallest[group] = min(smallest.get(group, pair[0]), *pair)
    chosen = {group: _place(text) < share for group, text in smallest.items()}
    return [chosen[group] for group in groups]


def _place(text: str) -> float:
    """Return where a text lies in [0, 1), evenly spread and the same everywhere."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
