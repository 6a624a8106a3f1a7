"""A stream is answered as the server would answer it, and counted as it should be."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.checkpoint import BUNDLED
from proxy.evaluation.jsonl import Asked, RowsInvalid
from proxy.evaluation.stream import (
    Answered,
    Judgement,
    StreamClock,
    replay,
    replay_on_stage,
)
from proxy.evaluation.stream_rows import StreamRow, read_stream
from proxy.evaluation.windows import Prices, Window, table, total
from store.policy_history import Seed
from tests.proxy.evaluation.stages import TableEncoder, category, print_nothing, staged

FREE = Prices(0.0, 0.0)
ANGLES = {
    "Where is the harbour?": 0.0,
    "Where's the harbour?": 5.0,
    "Where is a harbour?": 8.0,
    "Where is the bakery?": 40.0,
}


def row(text: str, answer_id: str, t: float = 0.0) -> StreamRow:
    return StreamRow(Asked((), text), answer_id, t, 1000.0, 100.0)


HARBOUR = row("Where is the harbour?", "harbour")
SAME = row("Where's the harbour?", "harbour")
ANOTHER = row("Where is a harbour?", "any harbour")
BAKERY = row("Where is the bakery?", "bakery")


async def windows_of(
    folder: Path,
    rows: list[StreamRow],
    seed: Seed,
    *,
    window: int = 100,
    prices: Prices = FREE,
    judgement: Judgement | None = None,
) -> list[Window]:
    clock = StreamClock()
    async with staged(folder, TableEncoder(ANGLES), seed, clock) as stage:
        return await replay_on_stage(
            stage, clock, rows, print_nothing, window=window, prices=prices, judgement=judgement
        )


async def test_misses_are_stored_hits_are_right_or_wrong_and_repeats_stand_apart(
    tmp_path: Path,
) -> None:
    rows = [HARBOUR, SAME, ANOTHER, BAKERY, HARBOUR, BAKERY, ANOTHER]
    (window,) = await windows_of(tmp_path, rows, category(hit_threshold=0.9))
    assert (window.queries, window.repeats) == (7, 3)
    assert (window.semantic_hits, window.false_hits) == (2, 1)
    # ANOTHER was never stored, as it had been a hit; so it gets the same wrong answer again.
    assert (window.repeat_hits, window.repeat_false_hits) == (3, 1)
    assert (window.realised_error, window.hit_rate) == (0.5, 0.5)


async def test_windows_follow_each_other_and_add_up(tmp_path: Path) -> None:
    rows = [HARBOUR, SAME, BAKERY, HARBOUR, SAME]
    windows = await windows_of(tmp_path, rows, category(hit_threshold=0.9), window=2)
    assert [each.queries for each in windows] == [2, 2, 1]
    assert [each.semantic_hits for each in windows] == [1, 0, 0]
    assert total(windows).repeat_hits == 2
    lines = table(windows).splitlines()
    assert [line.split()[0] for line in lines] == ["up", "2", "4", "5", "ALL"]
    assert len({len(line) for line in lines}) == 1


async def test_time_is_what_the_rows_say_it_is(tmp_path: Path) -> None:
    early = row("Where's the harbour?", "harbour", 60.0)
    seed = category(hit_threshold=0.9, ttl="60s")
    assert total(await windows_of(tmp_path, [HARBOUR, early], seed)).semantic_hits == 1
    late = row("Where's the harbour?", "harbour", 60.1)
    assert total(await windows_of(tmp_path, [HARBOUR, late], seed)).semantic_hits == 0


async def test_right_answers_save_what_they_would_have_cost(tmp_path: Path) -> None:
    rows = [HARBOUR, SAME, ANOTHER, HARBOUR]
    seed, prices = category(hit_threshold=0.9), Prices(1.0, 20.0)
    (window,) = await windows_of(tmp_path, rows, seed, prices=prices)
    assert window.cost == pytest.approx(4 * 0.003)
    assert window.cost_saved == pytest.approx(2 * 0.003)  # the wrong answer saved nothing
    assert window.cost_saved_by_repeats == pytest.approx(0.003)


async def test_whoever_learns_is_told_of_hits_and_of_the_judges_mistakes(tmp_path: Path) -> None:
    told: list[tuple[str, float, bool]] = []
    exact: list[tuple[str, bool]] = []

    def judged(noise: float) -> Judgement:
        told.clear()
        exact.clear()
        return Judgement(
            on_semantic_hit=lambda *hit: told.append(hit),
            on_exact_hit=lambda *hit: exact.append(hit),
            noise=noise,
        )

    rows, seed = [HARBOUR, SAME, ANOTHER, HARBOUR], category(hit_threshold=0.9)
    await windows_of(tmp_path, rows, seed, judgement=judged(0.0))
    assert [(name, wrong) for name, _, wrong in told] == [("default", False), ("default", True)]
    assert 0 < told[0][1] < told[1][1] < 0.1  # the farther one is the riskier
    assert exact == [("default", False)]
    await windows_of(tmp_path, rows, seed, judgement=judged(1.0))
    assert [wrong for _, _, wrong in told] == [True, False]
    assert exact == [("default", True)]


async def test_whoever_learns_is_told_of_what_the_score_alone_kept_from_being_served(
    tmp_path: Path,
) -> None:
    told: list[tuple[str, float, bool]] = []
    hits: list[object] = []
    judgement = Judgement(
        on_semantic_hit=lambda *hit: hits.append(hit),
        on_near_miss=lambda *miss: told.append(miss),
        noise=0.0,
    )
    encoder, clock = TableEncoder(ANGLES), StreamClock()
    encoder.checkpoint = f"{BUNDLED}-0"  # which the shipped score is fitted to
    seed = category(hit_threshold=0.9, error_budget=0.00001)  # of which it can promise nothing
    async with staged(tmp_path, encoder, seed, clock) as stage:
        rows = [HARBOUR, SAME, ANOTHER, BAKERY]
        await replay_on_stage(
            stage, clock, rows, print_nothing, window=10, prices=FREE, judgement=judgement
        )
    assert hits == []
    assert [(name, wrong) for name, _, wrong in told] == [("default", False), ("default", True)]
    assert all(0 < risk < 1 for _, risk, _ in told)


async def test_each_false_hit_is_shown_with_what_was_served(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    clock = StreamClock()
    seed = category(hit_threshold=0.9)
    async with staged(tmp_path, TableEncoder(ANGLES), seed, clock) as stage:
        await replay_on_stage(
            stage,
            clock,
            [HARBOUR, SAME, ANOTHER],
            print_nothing,
            window=10,
            prices=FREE,
            on_false_hit=lambda row, answer: shown.append(
                (row.question.text, answer.question.text)
            ),
        )
    assert shown == [(ANOTHER.question.text, HARBOUR.question.text)]


async def test_judges_err_as_often_as_they_are_said_to_and_by_the_seed() -> None:
    async def always(row: StreamRow) -> Answered:
        return Answered("harbour", HARBOUR.question, False, "default", 0.1)

    async def verdicts(seed: int) -> list[bool]:
        told: list[bool] = []
        judgement = Judgement(on_semantic_hit=lambda *hit: told.append(hit[2]), seed=seed)
        await replay(
            [HARBOUR] * 4000, always, print_nothing, window=4000, prices=FREE, judgement=judgement
        )
        return told

    first = await verdicts(1)
    assert 0.035 < sum(first) / 4000 < 0.065
    assert first == await verdicts(1) != await verdicts(2)


ids = st.sampled_from(["a", "b", "c"])
answers = st.none() | ids.map(lambda id: Answered(id, Asked((), id), False, "default", 0.0))


@given(st.lists(st.tuples(ids, ids, answers), min_size=1), st.integers(1, 5))
async def test_whatever_is_answered_the_counts_are_those_of_the_slow_way(
    asked: list[tuple[str, str, Answered | None]], window: int
) -> None:
    rows = [row(text, wanted) for text, wanted, _ in asked]
    given_answers = iter([answer for _, _, answer in asked])

    async def respond(row: StreamRow) -> Answered | None:
        return next(given_answers)

    windows = await replay(rows, respond, print_nothing, window=window, prices=FREE)
    whole = total(windows)
    texts = [text for text, _, _ in asked]
    fresh = [place for place, text in enumerate(texts) if text not in texts[:place]]
    hits = [asked[place] for place in fresh if asked[place][2] is not None]
    assert whole.queries - whole.repeats == len(fresh)
    assert whole.semantic_hits == len(hits)
    assert whole.false_hits == sum(a is not None and a.answer_id != w for _, w, a in hits)
    assert all(each.queries == window for each in windows[:-1])


def file_of(folder: Path, *rows: object) -> Path:
    file = folder / "stream.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return file


def test_rows_have_times_and_lengths_where_they_say_so(tmp_path: Path) -> None:
    first, second, third = read_stream(
        file_of(
            tmp_path,
            {"q": "one two three", "answer_id": 7},
            {"q": "b", "answer_id": "x", "t": 9, "context": ["T", "u", "a"]},
            {"q": "c", "answer_id": "x", "tokens_in": 5, "tokens_out": 6.5, "kind": "fresh"},
        )
    )
    assert (first.answer_id, first.t, first.tokens_in, first.tokens_out) == ("7", 0.0, 4.0, 250.0)
    assert (second.t, second.question) == (9.0, Asked(("u", "a"), "b"))
    assert (third.t, third.tokens_in, third.tokens_out) == (10.0, 5.0, 6.5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"answer_id": "x"}], ":1: q: nothing is not allowed"),
        ([{"q": "a"}], ":1: answer_id: nothing is not allowed; allowed: a text or a whole number"),
        ([{"q": "a", "answer_id": ""}], ":1: answer_id: '' is not allowed"),
        ([{"q": "a", "answer_id": 1.5}], ":1: answer_id: 1.5 is not allowed"),
        ([{"q": "a", "answer_id": 1, "t": "now"}], ":1: t: 'now' is not allowed"),
        (
            [{"q": "a", "answer_id": 1, "t": 1_700_000_000_000}],  # milliseconds
            ":1: t: 1700000000000 is not allowed; allowed: seconds, at most 1e+11",
        ),
        (
            [{"q": "a", "answer_id": 1, "t": 5}, {"q": "a", "answer_id": 1, "t": 4}],
            ":2: t: 4 is not allowed; allowed: a number of at least 5",
        ),
        ([{"q": "a", "answer_id": 1, "tokens_out": -1}], ":1: tokens_out: -1 is not allowed"),
        ([], "holds no rows"),
    ],
)
def test_a_faulty_row_is_refused_by_its_place(
    rows: list[object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RowsInvalid) as refused:
        read_stream(file_of(tmp_path, *rows))
    assert said in str(refused.value)
