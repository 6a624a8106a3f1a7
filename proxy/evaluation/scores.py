"""What the answers that questions got are worth, in CONTRACT.md's numbers. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.text_table import text_table

ALL = "ALL"


class Served(NamedTuple):
    """The stored question whose answer was served, and how near it is."""

    question: Asked
    similarity: float  # cosine


Right = Mapping[Asked, frozenset[Asked]]  # for an asked question, the stored ones that answer it


@dataclass(frozen=True, slots=True)
class Score:
    """How the rows of one file fared. A ratio of nothing to nothing is 0."""

    file: str
    n: int  # rows that were asked
    positives: int  # of them, labelled 1
    hits: int
    wrong_hits: int
    precision: float  # right hits / hits
    recall: float  # rows labelled 1 that got a right hit / rows labelled 1
    f05: float
    f1: float
    false_hit_rate: float  # rows labelled 0 that got a wrong hit / rows labelled 0

    def as_data(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self)


def right_answers(rows: Iterable[PairRow]) -> Right:
    """Return which stored questions answer each asked one: those that some row labels 1 with it."""
    found: defaultdict[Asked, set[Asked]] = defaultdict(set)
    for row in rows:
        if row.label == 1:
            found[row.q2].add(row.q1)
    return {question: frozenset(answers) for question, answers in found.items()}


def score(
    file: str, rows: Sequence[PairRow], served: Mapping[Asked, Served | None], right: Right
) -> Score:
    """Return the score of these rows, each of which counts once.

    `served` says what each `q2` was answered with; rows whose `q2` is not in it were not asked.
    """
    asked = [row for row in rows if row.q2 in served]
    positives = sum(row.label for row in asked)
    hits = wrong = found = strayed = 0
    for row in asked:
        answer = served[row.q2]
        if answer is None:
            continue
        good = answer.question in right.get(row.q2, ())
        hits += 1
        wrong += not good
        found += good and row.label == 1
        strayed += not good and row.label == 0
    precision, recall = _ratio(hits - wrong, hits), _ratio(found, positives)
    return Score(
        file=file,
        n=len(asked),
        positives=positives,
        hits=hits,
        wrong_hits=wrong,
        precision=precision,
        recall=recall,
        f05=f_score(precision, recall, 0.5),
        f1=f_score(precision, recall, 1.0),
        false_hit_rate=_ratio(strayed, len(asked) - positives),
    )


def f_score(precision: float, recall: float, beta: float) -> float:
    """Return F-beta: below 1, precision counts for more."""
    weight = beta * beta
    return _ratio((1 + weight) * precision * recall, weight * precision + recall)


def by_file(
    rows: Sequence[PairRow], served: Mapping[Asked, Served | None], right: Right
) -> list[Score]:
    """Return a score a file in the order of the rows, and one for ALL."""
    files = list(dict.fromkeys(row.file for row in rows))
    parts = [[row for row in rows if row.file == file] for file in files]
    scores = [score(file, part, served, right) for file, part in zip(files, parts, strict=True)]
    return [*scores, score(ALL, rows, served, right)]


def table(scores: Sequence[Score]) -> str:
    """Return the scores for a terminal."""
    names = ("n", "positives", "hits", "wrong", "precision", "recall", "F0.5", "F1", "false hits")
    return text_table(("file", names), [(each.file, _cells(each)) for each in scores])


def _cells(each: Score) -> tuple[str, ...]:
    counts = (each.n, each.positives, each.hits, each.wrong_hits)
    ratios = (each.precision, each.recall, each.f05, each.f1, each.false_hit_rate)
    return (*map(str, counts), *(f"{ratio:.3f}" for ratio in ratios))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
