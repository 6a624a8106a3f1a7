"""Which stored question answers an asked one, with vectors of our own making."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench import pairs
from bench.pairs import answers, encode_all, rows_of


def at(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


ANGLES = {
    "open the red door": 0.0,
    "open the blue door": 10.0,
    "please open the red door": 2.0,
    "do not open the red door": 1.0,
    "shut 2 doors": 90.0,
    "shut 3 doors": 91.0,
    "noise": 180.0,
}


def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([at(ANGLES[text]) for text in texts], np.float32)


def pair(q1: str, q2: str, label: int) -> dict[str, Any]:
    return {"q1": q1, "q2": q2, "label": label}


FILES = {
    "doors": [
        pair("open the red door", "please open the red door", 1),
        pair("open the blue door", "do not open the red door", 0),
    ],
    "sums": [pair("shut 2 doors", "shut 3 doors", 0)],
}


def test_the_nearest_stored_question_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "encode", encode)
    bare, guarded = answers(FILES, ["noise"])
    found = bare["please open the red door"]
    assert found == guarded["please open the red door"]
    assert found.similarity == pytest.approx(math.cos(math.radians(2)), abs=1e-6)
    assert found.right


def test_a_guard_makes_way_for_the_next_nearest_or_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairs, "encode", encode)
    bare, guarded = answers(FILES, [])
    assert bare["shut 3 doors"].similarity == pytest.approx(math.cos(math.radians(1)), abs=1e-6)
    assert not bare["shut 3 doors"].right
    # Vetoed for its number; the doors that are left are vetoed too.
    assert "shut 3 doors" not in guarded
    assert "do not open the red door" not in guarded


def test_a_stored_question_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "encode", encode)
    bare, _ = answers({"a": [pair("noise", "shut 2 doors", 1)]}, ["shut 2 doors"])
    assert bare == {}


def test_rows_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": "é"}\n')
    assert rows_of(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": "é"}]


async def test_texts_are_encoded_in_order_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbers:
        checkpoint, dimension, max_tokens = "numbers", 1, 9

        def fits(self, text: str) -> bool:
            return True

        def first_window(self, text: str) -> str | None:
            return text

        async def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            return np.array([[float(text)] for text in texts], np.float32)

        async def aclose(self) -> None: ...

    monkeypatch.setattr(pairs, "TOGETHER", 4)
    found = await encode_all(Numbers(), [str(n) for n in range(10)])
    assert found[:, 0].tolist() == list(range(10))
    assert (await encode_all(Numbers(), [])).shape == (0, 1)
