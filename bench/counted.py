"""How ways to decide fared on labelled pairs: counted by the labels, and by what was read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.mislabelled import same_meaning
from bench.rivals_decision import above, best_threshold
from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.scores import ALL, Right, Score, Served, by_file, right_answers, score

ALL_ROWS, UNREAD = "all rows", "without rows read by hand"

Way = Mapping[Asked, Served | None]  # what each question is served


def counted(
    view: str,
    rows: Sequence[PairRow],
    right: Right,
    ways: Mapping[str, Way],
    found: Way,
) -> list[dict[str, Any]]:
    """Return how each way fared, and the cosine alone at its best threshold: a row a file."""
    made = [(name, each) for name, way in ways.items() for each in by_file(rows, way, right)]
    for name in (*dict.fromkeys(row.file for row in rows), ALL):
        own = [row for row in rows if name in (row.file, ALL)]
        threshold = best_threshold(own, found, right)
        best: Score = score(name, own, above(threshold, found), right)
        made.append((f"best cosine ({threshold:.3f})", best))
    return [{"rows": view, "way": name, **each.as_data()} for name, each in made]


def reread(rows: Sequence[PairRow]) -> tuple[list[PairRow], Right]:
    """Return the rows that were not found to be labelled wrongly, and what is right by reading.

    Left out is a row labelled 0 whose `q2` means the same as some stored `q1` of its file by what
    was read; rows labelled 1 stay, with one more right answer.
    """
    same: defaultdict[Asked, set[Asked]] = defaultdict(set)
    for file in dict.fromkeys(row.file for row in rows):
        own = [row for row in rows if row.file == file and not row.q1.context + row.q2.context]
        ones = dict.fromkeys(row.q1.text for row in own)
        others = dict.fromkeys(row.q2.text for row in own)
        pairs = ((one, other) for one in ones for other in others)
        for one, other in same_meaning(set_of(file), pairs):
            same[Asked((), other)].add(Asked((), one))
    kept = [row for row in rows if row.label == 1 or row.q2 not in same]
    right = dict(right_answers(rows))
    for question, answers in same.items():
        right[question] = right.get(question, frozenset()) | answers
    return kept, right


def set_of(file: str) -> str:
    """Return the name of a file's set."""
    return file.removeprefix("pairs_")
