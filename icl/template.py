"""Whether a stored question gives the same instruction as the request, only with another input.

"Choose the first of these words: a, b" and "choose the last of these words: c, d" are near in
every encoder, and an example of the one ruins the other. Nothing marks where an instruction ends,
so it is read off the candidates: words that several questions begin (or end) with are the
instruction, and what follows differs from question to question. A question that leaves these
words and comes back to them puts another instruction; one that leaves them for good has reached
its input. Pure; counts and compares words only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from operator import ne

_TOKEN = re.compile(r"\w+|[^\w\s]")
_HEAD, _TAIL = 400, 200  # characters that are read of a longer question
_SUPPORT = 2  # other questions that share words, before these count as an instruction
_FRAME = 4  # words; a shorter one is no template
_SHARE = 0.5  # of the frame, that a question of the same template has at least
_AHEAD = 4  # words within which a question is back in the instruction

Tokens = list[str]


def tokens_of(question: str) -> Tokens:
    """Return the words and signs of a question in lower case; of a long one both ends."""
    if len(question) > _HEAD + _TAIL:
        question = f"{question[:_HEAD]} {question[-_TAIL:]}"
    return _TOKEN.findall(question.casefold())


class Template:
    """What a request and the stored questions around it have in common."""

    def __init__(self, request: Tokens, candidates: Sequence[Tokens]) -> None:
        self._ahead = _Side(request, candidates)
        self._behind = _Side(request[::-1], [candidate[::-1] for candidate in candidates])
        self._size = len(candidates)
        frame = self._ahead.head + self._behind.head
        self._frame = frame if frame >= _FRAME else 0

    def agreeing(self) -> list[bool]:
        """Return for each candidate whether it may be of the request's template.

        Where the candidates show no template, because people ask freely, all of them may.
        """
        ahead, behind = self._ahead, self._behind
        return [
            not (
                ahead.departs(at)
                or behind.departs(at)
                or ahead.shared[at] + behind.shared[at] < _SHARE * self._frame
            )
            for at in range(self._size)
        ]

    def input_of(self, candidate: Tokens) -> frozenset[str]:
        """Return the words of an agreeing candidate that are not the template's."""
        if not self._frame:
            return frozenset(candidate)
        return frozenset(candidate[self._ahead.head : len(candidate) - self._behind.head])


def common(a: Tokens, b: Tokens) -> int:
    """Return how many words two texts share at their beginning."""
    for count, differ in enumerate(map(ne, a, b)):
        if differ:
            return count
    return min(len(a), len(b))


def heads(texts: Sequence[Tokens]) -> list[int]:
    """Return for each text how many words it shares at its beginning with _SUPPORT (2) others.

    In alphabetical order two texts share what all neighbours between them share. So only neighbours
    are compared word by word, and what shares most with a text stands next to it.
    """
    order = sorted(range(len(texts)), key=texts.__getitem__)
    beside = [0, 0, *(common(texts[a], texts[b]) for a, b in pairwise(order)), 0, 0]
    found = [0] * len(texts)
    for place, at in enumerate(order):
        before_that, before, behind, behind_that = beside[place : place + 4]
        # The second of the four nearest, which are `before`, `behind` and, one farther on, these:
        farther = max(min(before_that, before), min(behind, behind_that))
        found[at] = max(min(before, behind), farther)
    return found


class _Side:
    """The questions read from one end."""

    def __init__(self, request: Tokens, candidates: Sequence[Tokens]) -> None:
        self._request = request
        self._candidates = candidates
        # Words in common with the request, by candidate.
        self.shared = [common(request, candidate) for candidate in candidates]
        self.head = sorted(self.shared)[-_SUPPORT] if len(candidates) >= _SUPPORT else 0
        self._heads = heads(candidates)

    def departs(self, at: int) -> bool:
        """Whether request and candidate differ inside words that other questions share."""
        request, candidate = self._request, self._candidates[at]
        split, head = self.shared[at], self._heads[at]
        if split < self.head and _returns(request, split, self.head, candidate):
            return True
        return split < head and _returns(candidate, split, head, request)


def _returns(text: Tokens, split: int, head: int, other: Tokens) -> bool:
    """Whether `other`, which leaves `text` at `split`, is back in it before its head ends."""
    rest = text[split + 1 : head]
    if not rest or split == 0:
        return False
    window = other[split : head + _AHEAD]
    if len(rest) == 1:
        return rest[0] in window[:_AHEAD]
    last = rest[-2:]
    return any(window[i : i + 2] == last for i in range(len(window) - 1))
