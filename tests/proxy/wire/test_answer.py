"""Cutting texts for replay, and telling errors from answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.answer import is_error, is_writable, pieces
from proxy.wire.base import Json
from tests.proxy.wire.strategies import prose


@given(st.text() | prose)
def test_pieces_join_to_the_text(text: str) -> None:
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 81 for piece in cut)


def test_words_stay_whole_where_they_fit() -> None:
    text = "sky " * 100
    assert all(piece.endswith(" ") for piece in pieces(text))
    assert pieces("a" * 200) == ["a" * 80, "a" * 80, "a" * 40]
    assert pieces("one\ntwo") == ["one\ntwo"]
    assert pieces("") == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param({"error": {"message": "no"}}, True, id="OpenAI's envelope"),
        pytest.param({"error": "no"}, True, id="a bare message"),
        pytest.param({"error": ""}, True, id="an empty message"),
        pytest.param({"type": "error"}, True, id="Anthropic's envelope"),
        pytest.param({"error": None, "id": "resp_1"}, False, id="an answer without error"),
        pytest.param({"type": "message"}, False, id="a message"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_errors_are_told_from_answers(answer: dict[str, Json], error: bool) -> None:
    assert is_error(answer) is error


def test_what_orjson_reads_but_does_not_write_is_not_writable() -> None:
    deep: Json = 1
    for _ in range(240):
        deep = [deep]
    assert is_writable({"x": deep})
    assert not is_writable({"x": [[[[[[[[[[[[deep]]]]]]]]]]]]})
