"""Which pairing a model has, how much room examples have, and what counts as load."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model_settings import Offload
from proxy.nearhits.planning import load_of, pairing_for, room_for_examples

PAIRINGS = [Offload(model="gpt-4o*", small="tiny"), Offload(model="*", small="other")]


def test_the_first_pairing_whose_pattern_matches_counts() -> None:
    found = pairing_for("gpt-4o-mini", PAIRINGS)
    assert found is not None
    assert found.small == "tiny"
    found = pairing_for("claude", PAIRINGS)
    assert found is not None
    assert found.small == "other"


def test_a_small_model_stands_in_for_nobody_when_it_is_asked_itself() -> None:
    assert pairing_for("tiny", PAIRINGS) is None
    assert pairing_for("gpt-4o", []) is None


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_a_long_question_leaves_examples_less_room() -> None:
    short = room_for_examples(body("Why?", max_tokens=100), 2048, 1024)
    long = room_for_examples(body("Why is it so? " * 300, max_tokens=100), 2048, 1024)
    assert short == 1024
    assert 0 <= long < short


def test_parts_of_a_message_are_counted_as_its_text() -> None:
    parts = [{"type": "text", "text": "Why is it so? " * 300}]
    in_parts = {"messages": [{"role": "user", "content": parts}]}
    assert room_for_examples(in_parts, 2048, 1024) == room_for_examples(
        body("Why is it so? " * 300), 2048, 1024
    )


@given(st.text(max_size=3000), st.integers(256, 8192), st.integers(0, 4096), st.integers(1, 4096))
def test_the_room_is_never_negative_nor_beyond_the_window(
    text: str, window: int, most: int, answer: int
) -> None:
    room = room_for_examples(body(text, max_tokens=answer), window, most)
    assert 0 <= room <= min(most, max(0, window - answer))


@pytest.mark.parametrize(
    ("in_flight", "p95", "target", "load"),
    [
        (0, None, None, 0.0),
        (16, None, None, 0.0),
        (32, None, None, 1.0),
        (0, 2.0, 1.0, 1.0),
        (0, 0.5, 1.0, 0.0),
        (24, 1.5, 1.0, 1.0),
        (0, 9.0, None, 0.0),
    ],
)
def test_load_is_what_goes_beyond_the_operating_point(
    in_flight: int, p95: float | None, target: float | None, load: float
) -> None:
    assert load_of(in_flight, 16, p95, target) == pytest.approx(load)
