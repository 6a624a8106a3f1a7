"""One side of labelled pairs is stored, the other asked, through the real decision path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow, folds_of
from proxy.evaluation.scores import Right, Score, Served, by_file, right_answers, score
from proxy.evaluation.stage import Finder, Progress, Stage

# Makes what decides about a fold's questions from the rows of all other folds.
Retrain = Callable[[Sequence[PairRow]], Awaitable[Finder]]

_SAID_EVERY = 500  # questions


@dataclass(frozen=True, slots=True)
class WrongHit:
    """A row that was served an answer which no row labels right."""

    row: PairRow
    served: Served


@dataclass(frozen=True, slots=True)
class PairsReport:
    """How all rows fared."""

    scores: list[Score]  # a file, and ALL
    folds: list[Score]  # a fold over all files; none when rows were not parted
    rows: list[PairRow]
    served: dict[Asked, Served | None]
    right: Right

    def wrong_hits(self) -> list[WrongHit]:
        """Return the wrong hits, the most similar first."""
        found = [
            WrongHit(row, answer)
            for row in self.rows
            if (answer := self.served.get(row.q2)) is not None
            and answer.question not in self.right.get(row.q2, ())
        ]
        return sorted(found, key=lambda hit: -hit.served.similarity)


async def evaluate_pairs(
    stage: Stage,
    rows: Sequence[PairRow],
    distractors: Sequence[str],
    on_progress: Progress,
    *,
    folds: int = 1,
    retrain: Retrain | None = None,
) -> PairsReport:
    """Store every `q1` and distractor, then ask every `q2` that is not itself stored.

    With `folds` above 1 the rows are parted so that no text is in two folds. Each fold's questions
    are asked of the one cache that holds everything; `retrain` makes what decides about them, from
    all other folds' rows. Without it the stage's own searcher decides about all of them.
    """
    stored = dict.fromkeys([row.q1 for row in rows] + [Asked((), d) for d in distractors])
    parted = folds_of(rows, folds)
    asked = [(row.q2, fold) for row, fold in zip(rows, parted, strict=True) if row.q2 not in stored]
    every = [*stored, *(question for question, _ in asked)]
    await stage.prepare(text for question in every for text in question.user_texts)
    held = await stage.fill(list(stored), on_progress)
    if held < len(stored):
        on_progress(f"{len(stored) - held} questions have no room or no right in this cache")
    served: dict[Asked, Served | None] = {}
    for fold in range(folds):
        finder = stage.searcher
        if retrain is not None:
            others = [row for row, its in zip(rows, parted, strict=True) if its != fold]
            finder = await retrain(others)
        own = list(dict.fromkeys(question for question, its in asked if its == fold))
        for number, question in enumerate(own, 1):
            served[question] = await _served(stage, question, finder)
            if number % _SAID_EVERY == 0 or number == len(own):
                of = f" (fold {fold + 1} of {folds})" if folds > 1 else ""
                on_progress(f"asked {number} of {len(own)} questions{of}")
    right = right_answers(rows)
    return PairsReport(
        scores=by_file(rows, served, right),
        folds=_by_fold(rows, parted, folds, served, right) if folds > 1 else [],
        rows=list(rows),
        served=served,
        right=right,
    )


def _by_fold(
    rows: Sequence[PairRow],
    parted: Sequence[int],
    folds: int,
    served: dict[Asked, Served | None],
    right: Right,
) -> list[Score]:
    own = [[row for row, its in zip(rows, parted, strict=True) if its == f] for f in range(folds)]
    return [score(f"fold {f + 1}", part, served, right) for f, part in enumerate(own)]


async def _served(stage: Stage, question: Asked, finder: Finder) -> Served | None:
    reply = await stage.ask(question, finder)
    if not reply.hit:
        return None
    assert reply.lookup.found is not None
    return Served(stage.question(reply), reply.lookup.found.similarity)
