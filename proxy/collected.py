"""Labels that were collected while serving, as what the score is calibrated from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from embed.held_out import components
from store.decision.calibration import SHIPPED, Labels
from store.decision.guards import veto
from store.decision.score import POOLED, Score
from store.decision.score_model import Floats, wrong_of
from store.documents.records import Pair, Records
from store.policy import PolicyBook

FOLDS = 5
_PAGE = 1000
_NO_SAMPLE = "feedback"


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """The labels of one category."""

    category: str
    head: str  # of the score's heads, the one that scores it as shipped
    labels: Labels
    current: Floats  # P(wrong) of each as it is in force, shape (n,)
    budget: float | None
    sources: dict[str, int]


async def read_pairs(records: Records) -> list[Pair]:
    """Return every pair, newest first; raise StoreUnavailable."""
    pairs: list[Pair] = []
    cursor = None
    while True:
        page = await records.pairs(limit=_PAGE, cursor=cursor)
        pairs += page.items
        if page.next is None:
            return pairs
        cursor = page.next


def counted_once(pairs: Iterable[Pair], book: PolicyBook) -> list[Pair]:
    """Return the pairs that the score decides about, each once; `pairs` are newest first.

    Two questions that come again count with their newest verdict, a judge's before a client's.
    What the cosine or a guard forbids is never served, whatever the score says; equal texts need no
    score.
    """
    newest: dict[tuple[str, str, str], Pair] = {}
    for pair in pairs:
        key = (pair.category, pair.query, pair.entry_query)
        known = newest.get(key)
        if known is None or (known.source == _NO_SAMPLE and pair.source != _NO_SAMPLE):
            newest[key] = pair
    return [
        pair
        for pair in newest.values()
        if pair.category in book
        and pair.query != pair.entry_query
        and pair.similarity >= book[pair.category].hit_threshold
        and veto(pair.query, pair.entry_query) is None
    ]


def collected(
    pairs: Sequence[Pair], book: PolicyBook, shipped: Score, current: Score
) -> list[Collected]:
    """Return what there is of each category, as the score sees it: by the category's name."""
    groups = components([(pair.query, pair.entry_query) for pair in pairs])
    by_category: defaultdict[str, list[tuple[Pair, int]]] = defaultdict(list)
    for pair, group in zip(pairs, groups, strict=True):
        by_category[pair.category].append((pair, group % FOLDS))
    found = []
    for category, placed in sorted(by_category.items()):
        rows = [(pair.query, pair.entry_query, pair.similarity) for pair, _ in placed]
        labels = Labels(
            log_odds=shipped.alone(rows, category),
            right=np.array([pair.label == 1 for pair, _ in placed]),
            random=np.array([pair.source != _NO_SAMPLE for pair, _ in placed]),
            fold=np.array([fold for _, fold in placed]),
        )
        sources: dict[str, int] = {}
        for pair, _ in placed:
            sources[pair.source] = sources.get(pair.source, 0) + 1
        risks = wrong_of(current.alone(rows, category), SHIPPED)
        budget = book[category].error_budget
        head = shipped.head_name(category)
        found.append(Collected(category, head, labels, risks, budget, sources))
    return found


def pooled(parts: Sequence[Collected]) -> Collected | None:
    """Return the labels of several categories as one of no name, None if there are none."""
    if not parts:
        return None
    every = [part.labels for part in parts]
    labels = Labels(
        log_odds=np.concatenate([each.log_odds for each in every]),
        right=np.concatenate([each.right for each in every]),
        random=np.concatenate([each.random for each in every]),
        fold=np.concatenate([each.fold for each in every]),
    )
    sources: dict[str, int] = {}
    for part in parts:
        for source, count in part.sources.items():
            sources[source] = sources.get(source, 0) + count
    current = np.concatenate([part.current for part in parts])
    budgets = [part.budget for part in parts if part.budget is not None]
    return Collected(POOLED, POOLED, labels, current, min(budgets, default=None), sources)
