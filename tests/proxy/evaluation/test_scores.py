"""The numbers of CONTRACT.md, by hand and whatever is served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.scores import Served, by_file, right_answers, score, table

KEYS = (
    "file n positives hits wrong_hits precision recall f05 f1 false_hit_rate"  # as CONTRACT.md has
).split()


def q(text: str, *context: str) -> Asked:
    return Asked(context, text)


def row(file: str, q1: str, q2: str, label: int) -> PairRow:
    return PairRow(file, f"{file}:1", q(q1), q(q2), label)


ROWS = [
    row("a", "tea", "green tea", 1),
    row("a", "tea", "brewed tea", 1),
    row("a", "tea", "cold tea", 0),
    row("a", "tea", "no tea", 0),
    row("a", "coffee", "iced coffee", 1),
    row("b", "coffee", "green tea", 0),
    row("b", "milk", "oat milk", 1),
]
SERVED = {
    q("green tea"): Served(q("tea"), 0.9),
    q("brewed tea"): Served(q("coffee"), 0.8),  # wrong, although the row is labelled 1
    q("cold tea"): Served(q("tea"), 0.9),  # wrong
    q("no tea"): None,
    q("iced coffee"): None,
}


def test_the_numbers_are_what_they_are_by_hand() -> None:
    a, b, every = by_file(ROWS, SERVED, right_answers(ROWS))
    assert (a.n, a.positives, a.hits, a.wrong_hits) == (5, 3, 3, 2)
    assert (a.precision, a.recall) == pytest.approx((1 / 3, 1 / 3))
    assert (a.f05, a.f1) == pytest.approx((1 / 3, 1 / 3))
    assert a.false_hit_rate == 0.5
    # "green tea" got "tea", which file a labels right: no wrong hit for the row in b either.
    # "oat milk" was not asked.
    assert (b.n, b.positives, b.hits, b.wrong_hits, b.false_hit_rate) == (1, 0, 1, 0, 0.0)
    assert (every.file, every.n, every.hits, every.wrong_hits) == ("ALL", 6, 4, 2)
    assert every.f05 == pytest.approx(1.25 * 0.5 / 3 / (0.25 * 0.5 + 1 / 3))


def test_a_right_answer_in_another_dialogue_is_wrong() -> None:
    rows = [PairRow("a", "a:1", q("When?", "Who?", "Ann."), q("At what time?", "Who?", "Ann."), 1)]
    right = right_answers(rows)
    other = Served(q("When?", "Who?", "Bob."), 0.99)
    assert score("a", rows, {rows[0].q2: other}, right).wrong_hits == 1
    assert score("a", rows, {rows[0].q2: Served(rows[0].q1, 0.9)}, right).wrong_hits == 0


def test_ratios_of_nothing_are_0() -> None:
    empty = score("a", ROWS, {}, right_answers(ROWS))
    assert [empty.as_data()[key] for key in KEYS[1:]] == [0] * 9


def test_json_has_the_keys_of_the_contract_and_the_table_a_line_a_file() -> None:
    scores = by_file(ROWS, SERVED, right_answers(ROWS))
    assert [list(each.as_data()) for each in scores] == [KEYS] * 3
    lines = table(scores).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == ["file", "a", "b", "ALL"]


words = st.sampled_from(["tea", "coffee", "milk", "juice"])
more = words.map("more {}".format)
drinks = st.builds(row, st.sampled_from("ab"), words, more, st.integers(0, 1))
answers = st.none() | st.builds(Served, words.map(q), st.floats(-1, 1))


@given(st.lists(drinks, min_size=1), st.dictionaries(more.map(q), answers))
def test_whatever_is_served_files_add_up_and_ratios_are_ratios(
    rows: list[PairRow], served: dict[Asked, Served | None]
) -> None:
    *files, every = by_file(rows, served, right_answers(rows))
    for name in ("n", "positives", "hits", "wrong_hits"):
        assert sum(getattr(each, name) for each in files) == getattr(every, name)
    for each in (*files, every):
        assert each.wrong_hits <= each.hits <= each.n
        for ratio in (each.precision, each.recall, each.f05, each.f1, each.false_hit_rate):
            assert 0 <= ratio <= 1
        assert each.precision * each.hits == pytest.approx(each.hits - each.wrong_hits)
