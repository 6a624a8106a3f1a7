"""Rows are read as they are meant, refused by place, and parted without a text on both sides."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.held_out import components
from proxy.evaluation.jsonl import Asked, RowsInvalid, texts_of
from proxy.evaluation.pair_rows import PairRow, folds_of, read_pairs

GOOD = {"q1": "When do ferries leave?", "q2": "Ferry times?", "label": 1}


def file_of(folder: Path, *rows: object) -> Path:
    file = folder / "pairs.jsonl"
    file.write_bytes(b"\n".join(r if isinstance(r, bytes) else orjson.dumps(r) for r in rows))
    return file


def test_a_row_is_two_questions_and_a_label(tmp_path: Path) -> None:
    file = file_of(tmp_path, GOOD, b"  ", {**GOOD, "label": 0, "site": "harbour"})
    first, second = read_pairs(file)
    assert first.q1 == Asked((), "When do ferries leave?")
    assert (first.label, second.label) == (1, 0)
    assert (first.file, second.place) == (str(file), f"{file}:3")


@pytest.mark.parametrize(
    ("context", "turns"),
    [
        ([], ()),
        (["Ferries"], ()),
        (["Who sails?", "Ann."], ("Who sails?", "Ann.")),
        (["Ferries", "Who sails?", "Ann."], ("Who sails?", "Ann.")),
        (["Ferries", "Who?", "Ann.", "Where?", "Out."], ("Who?", "Ann.", "Where?", "Out.")),
    ],
)
def test_a_title_is_no_turn_and_an_assistants_turn_comes_last(
    context: list[str], turns: tuple[str, ...], tmp_path: Path
) -> None:
    row = read_pairs(file_of(tmp_path, {**GOOD, "context1": context, "context2": None}))[0]
    assert (row.q1.context, row.q2.context) == (turns, ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"q1": "a", "label": 1}, "q2: nothing is not allowed; allowed: a text"),
        ({"q1": "a", "q2": " ", "label": 1}, "q2: ' ' is not allowed; allowed: a text"),
        ({"q1": 4, "q2": "b", "label": 1}, "q1: 4 is not allowed; allowed: a text"),
        ({"q1": "a", "q2": "b"}, "label: nothing is not allowed; allowed: 0 or 1"),
        ({"q1": "a", "q2": "b", "label": 2}, "label: 2 is not allowed; allowed: 0 or 1"),
        ({"q1": "a", "q2": "b", "label": True}, "label: True is not allowed; allowed: 0 or 1"),
        ({"q1": "a", "q2": "b", "label": [1]}, "label: [1] is not allowed; allowed: 0 or 1"),
        ({**GOOD, "context1": "Hi"}, "context1: 'Hi' is not allowed; allowed: a list of texts"),
        ({**GOOD, "context2": [1]}, "context2: [1] is not allowed; allowed: a list of texts"),
        (b"{", "is not JSON"),
        ([1], "list is not allowed; allowed: an object"),
    ],
)
def test_a_faulty_row_is_refused_in_one_line_that_names_it(
    row: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RowsInvalid) as refused:
        read_pairs(file_of(tmp_path, GOOD, row))
    (line,) = refused.value.faults
    assert line.startswith(f"{tmp_path / 'pairs.jsonl'}:2: ")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("text", ["", "\n \n"], ids=["empty", "blank lines"])
def test_a_file_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(text)
    with pytest.raises(RowsInvalid, match=f"{file}: holds no rows; allowed: at least one"):
        read_pairs(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowsInvalid, match="gone.jsonl: cannot be read: No such file"):
        read_pairs(tmp_path / "gone.jsonl")


def test_distractors_are_texts(tmp_path: Path) -> None:
    assert texts_of(file_of(tmp_path, {"text": "a"}, {"text": "b", "x": 1})) == ["a", "b"]
    with pytest.raises(RowsInvalid, match="text: nothing is not allowed"):
        texts_of(file_of(tmp_path, {"q1": "a"}))


letters = st.sampled_from("abcdefghijklmnop")
edges = st.lists(st.tuples(letters, letters), max_size=30)


def rows_of(pairs: list[tuple[str, str]]) -> list[PairRow]:
    # Under different contexts, which do not keep texts apart.
    return [
        PairRow("f", f"f:{n}", Asked((), a), Asked(("Hi", "Hi") * n, b), 1)
        for n, (a, b) in enumerate(pairs)
    ]


@given(edges, st.integers(1, 5))
def test_no_text_is_in_two_folds_and_folds_are_as_even_as_groups_allow(
    pairs: list[tuple[str, str]], folds: int
) -> None:
    placed = folds_of(rows_of(pairs), folds)
    assert len(placed) == len(pairs)
    assert all(0 <= fold < folds for fold in placed)
    texts = [{t for p, f in zip(pairs, placed, strict=True) if f == fold for t in p}
             for fold in range(folds)]  # fmt: skip
    assert sum(map(len, texts)) == len(set().union(*texts))
    groups = components(pairs)
    largest = max((groups.count(group) for group in set(groups)), default=0)
    sizes = [placed.count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= largest
