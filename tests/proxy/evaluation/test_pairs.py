"""The evaluation serves what the proxy would serve: its policies, its guards, its contexts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow, folds_of
from proxy.evaluation.pairs import evaluate_pairs
from proxy.evaluation.stage import Finder
from proxy.outcome import Lookup, Outcome
from tests.proxy.evaluation.stages import TableEncoder, category, print_nothing, staged

ANGLES = {
    "When does the ferry leave?": 0.0,
    "When will the ferry leave?": 5.0,  # cosine 0.996
    "When should the ferry leave?": 30.0,  # 0.866
    "Which day is the market open?": 60.0,
    "Which day is market open?": 62.0,
    "Pay 12 coins": 120.0,
    "Pay 13 coins": 120.5,
}


def q(text: str, *context: str) -> Asked:
    return Asked(context, text)


def row(q1: Asked, q2: Asked, label: int, file: str = "f") -> PairRow:
    return PairRow(file, f"{file}:1", q1, q2, label)


FERRY = row(q("When does the ferry leave?"), q("When will the ferry leave?"), 1)
LOOSE = row(q("When does the ferry leave?"), q("When should the ferry leave?"), 1)
COINS = row(q("Pay 12 coins"), q("Pay 13 coins"), 0)
MARKET = row(q("Which day is the market open?"), q("Which day is market open?"), 0)


async def test_the_threshold_of_the_policy_and_the_guards_decide(tmp_path: Path) -> None:
    rows = [FERRY, LOOSE, COINS, MARKET]
    async with staged(tmp_path, TableEncoder(ANGLES), category(hit_threshold=0.95)) as stage:
        report = await evaluate_pairs(stage, rows, [], print_nothing)
    served = {asked.text: found and found.question.text for asked, found in report.served.items()}
    assert served == {
        "When will the ferry leave?": "When does the ferry leave?",
        "When should the ferry leave?": None,
        "Pay 13 coins": None,  # the number differs
        "Which day is market open?": "Which day is the market open?",
    }  # fmt: skip
    (file, every) = report.scores
    assert (file.n, file.positives, file.hits, file.wrong_hits) == (4, 2, 2, 1)
    assert every.n == 4
    (wrong,) = report.wrong_hits()
    assert wrong.row is MARKET
    assert wrong.served.similarity > 0.99


async def test_a_lower_threshold_lets_more_through(tmp_path: Path) -> None:
    async with staged(tmp_path, TableEncoder(ANGLES), category(hit_threshold=0.85)) as stage:
        report = await evaluate_pairs(stage, [FERRY, LOOSE], [], print_nothing)
    assert report.scores[0].recall == 1.0


async def test_a_question_that_is_stored_is_not_asked_unless_elsewhere(tmp_path: Path) -> None:
    talk = ("Who sails?", "Ann.")
    when = "When does the ferry leave?"
    rows = [
        row(q("Pay 12 coins"), q(when), 0),  # a distractor holds it
        row(q("Pay 12 coins"), q(when, *talk), 0),
        row(q("Pay 12 coins", *talk), q("Pay 12 coins"), 0),
    ]
    async with staged(tmp_path, TableEncoder(ANGLES), category(hit_threshold=0.9)) as stage:
        report = await evaluate_pairs(stage, rows, [when], print_nothing)
    assert report.served == {q(when, *talk): None}  # a stand-alone answer is none for a follow-up
    assert report.scores[0].n == 1


async def test_a_follow_up_hits_in_its_own_dialogue_only(tmp_path: Path) -> None:
    stored = q("When does the ferry leave?", "Who sails?", "Ann.")
    same = q("When will the ferry leave?", "Who sails?", "Ann.")
    other = q("When will the ferry leave?", "Who sails?", "Bob.")
    rows = [row(stored, same, 1), row(stored, other, 0)]
    async with staged(tmp_path, TableEncoder(ANGLES), category(hit_threshold=0.9)) as stage:
        report = await evaluate_pairs(stage, rows, [], print_nothing)
    answer = report.served[same]
    assert answer is not None and answer.question == stored
    assert report.served[other] is None


async def test_a_category_that_is_off_neither_stores_nor_serves(tmp_path: Path) -> None:
    said: list[str] = []
    async with staged(tmp_path, TableEncoder(ANGLES), category(mode="off")) as stage:
        report = await evaluate_pairs(stage, [FERRY], [], said.append)
    assert (report.scores[0].n, report.scores[0].hits) == (1, 0)
    assert "1 questions have no room or no right in this cache" in said


async def test_texts_are_encoded_ahead_in_batches(tmp_path: Path) -> None:
    encoder = TableEncoder(ANGLES)
    others = [f"Distractor number {n}" for n in range(100)]
    async with staged(tmp_path, encoder, category()) as stage:
        await evaluate_pairs(stage, [FERRY, COINS], others, print_nothing)
    assert sorted(map(len, encoder.passes)) == [40, 64]
    texts = [text for part in encoder.passes for text in part]
    assert len(texts) == len(set(texts)) == 104


async def test_a_long_text_is_stored_and_asked_but_has_no_meaning(tmp_path: Path) -> None:
    rows = [row(q("a" * 300), q("a" * 299), 1)]
    async with staged(tmp_path, TableEncoder({"a" * 200: 10.0}), category()) as stage:
        report = await evaluate_pairs(stage, rows, [], print_nothing)
    assert (report.scores[0].n, report.scores[0].hits) == (1, 0)


class Never:
    """Decides against every hit."""

    async def find(self, call: object) -> Lookup:
        return Lookup(Outcome.MISS)


async def test_each_fold_is_decided_by_what_was_made_from_the_others(tmp_path: Path) -> None:
    rows = [FERRY, LOOSE, COINS, MARKET]
    given: list[list[PairRow]] = []

    async def retrain(others: Sequence[PairRow]) -> Finder:
        await asyncio.sleep(0)
        given.append(list(others))
        return Never() if FERRY in others else stage.searcher

    async with staged(tmp_path, TableEncoder(ANGLES), category(hit_threshold=0.85)) as stage:
        report = await evaluate_pairs(stage, rows, [], print_nothing, folds=2, retrain=retrain)
    placed = folds_of(rows, 2)
    assert placed[0] == placed[1] != placed[2]  # both ask about the ferry
    for fold, others in enumerate(given):
        assert others == [r for r, its in zip(rows, placed, strict=True) if its != fold]
    assert report.served[FERRY.q2] is not None and report.served[LOOSE.q2] is not None
    assert report.served[MARKET.q2] is None
    assert [each.file for each in report.folds] == ["fold 1", "fold 2"]
    assert sum(each.n for each in report.folds) == report.scores[-1].n == 4
