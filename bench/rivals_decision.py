"""Ways to decide whether the nearest stored answer is served: what ours is compared with.

They see nothing but the cosine of two texts, in one cache for everything, as the caches that are in
use do. Repeats find their own words at a cosine of 1 (or, with vCache's rule, may).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.vcache import Verified
from embed.encoder import Vector
from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.scores import Right, Score, Served, score
from proxy.evaluation.stream import Answered
from proxy.evaluation.stream_rows import StreamRow

FIXED = {"RedisVL (0.9)": 0.9, "LiteLLM (0.8)": 0.8, "GPTCache (0.6)": 0.6}  # their defaults
VectorOf = Mapping[str, Vector]  # of a text; absent: the encoder cannot read it


def nearest(
    rows: Sequence[PairRow], distractors: Sequence[str], vector_of: VectorOf
) -> dict[Asked, Served | None]:
    """Return for every `q2` that is not itself stored the nearest stored question."""
    known = dict.fromkeys([row.q1 for row in rows] + [Asked((), text) for text in distractors])
    readable = [question for question in known if question.text in vector_of]
    matrix = np.stack([vector_of[question.text] for question in readable])
    found: dict[Asked, Served | None] = {}
    for question in dict.fromkeys(row.q2 for row in rows):
        if question in known:
            continue
        if question.text not in vector_of:
            found[question] = None
            continue
        cosines = matrix @ vector_of[question.text]
        best = int(cosines.argmax())
        found[question] = Served(readable[best], float(cosines[best]))
    return found


def above(threshold: float, found: Mapping[Asked, Served | None]) -> dict[Asked, Served | None]:
    """Return what is served at this threshold, inclusive."""
    return {
        question: answer if answer is not None and answer.similarity >= threshold else None
        for question, answer in found.items()
    }


def best_threshold(
    rows: Sequence[PairRow], found: Mapping[Asked, Served | None], right: Right
) -> float:
    """Return the threshold with the best F0.5 on these very rows: nobody could have known it."""
    candidates = {answer.similarity for row in rows if (answer := found.get(row.q2)) is not None}
    grid = sorted({round(similarity - 0.0005, 3) for similarity in candidates} | {1.0})

    def worth(threshold: float) -> float:
        fared: Score = score("", rows, above(threshold, found), right)
        return fared.f05

    return max(grid, key=lambda threshold: (worth(threshold), threshold))


class Shelf:
    """Stored questions of a stream, found by cosine."""

    def __init__(self, vector_of: VectorOf, room: int) -> None:
        self._vector_of = vector_of
        dimension = len(next(iter(vector_of.values())))
        self._matrix = np.empty((room, dimension), np.float32)
        self.rows: list[StreamRow] = []

    def put(self, row: StreamRow) -> None:
        """Store a query's answer, if its text can be read."""
        if row.question.text in self._vector_of:
            self._matrix[len(self.rows)] = self._vector_of[row.question.text]
            self.rows.append(row)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Return the nearest stored question's place and its cosine."""
        if not self.rows or text not in self._vector_of:
            return None
        cosines = self._matrix[: len(self.rows)] @ self._vector_of[text]
        best = int(cosines.argmax())
        return best, float(cosines[best])

    def answered(self, place: int, text: str) -> Answered:
        """Return what serving a stored question's answer comes to."""
        row = self.rows[place]
        return Answered(row.answer_id, row.question, row.question.text == text, "", 0.0)


Respond = Callable[[StreamRow], Answered | None]


def cosine_alone(vector_of: VectorOf, room: int, threshold: float) -> Respond:
    """Return a cache that serves whatever is near enough, and stores every miss."""
    shelf = Shelf(vector_of, room)
    own: dict[str, int] = {}  # a stored text is its own nearest

    def respond(row: StreamRow) -> Answered | None:
        text = row.question.text
        if text in own:
            return shelf.answered(own[text], text)
        found = shelf.nearest(text)
        if found is not None and found[1] >= threshold:
            return shelf.answered(found[0], text)
        own[text] = len(shelf.rows)
        shelf.put(row)
        if own[text] == len(shelf.rows):
            del own[text]  # it could not be read
        return None

    return respond


def verified(
    vector_of: VectorOf, room: int, delta: float, noise: float, chance: random.Random
) -> Respond:
    """Return vCache: whoever is not served is judged, with `noise`; what differs is stored."""
    shelf = Shelf(vector_of, room)
    rule = Verified(delta, chance)

    def respond(row: StreamRow) -> Answered | None:
        text = row.question.text
        found = shelf.nearest(text)
        if found is None:
            shelf.put(row)
            return None
        place, similarity = found
        if rule.serves(place, similarity):
            return shelf.answered(place, text)
        right = shelf.rows[place].answer_id == row.answer_id
        judged = right != (chance.random() < noise)
        rule.learn(place, similarity, judged)
        if not judged:
            shelf.put(row)
        return None

    return respond
