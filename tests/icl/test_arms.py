"""What is learnt travels as bytes and is checked on arrival."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.arms import MOST_BYTES, MOST_EXAMPLES, Arm, Observation
from icl.confidence import Confidence
from store.entry import EntryId

NUMBERS = st.floats(-1e6, 1e6)
ROWS = st.lists(NUMBERS, max_size=9).map(tuple)
OBSERVATIONS = st.builds(
    Observation,
    category=st.text(max_size=20),
    small=st.text(max_size=20),
    arm=st.sampled_from(Arm),
    context=ROWS,
    quality=st.floats(0.0, 1.0),
    weight=st.floats(0.0, 100.0),
    examples=st.lists(st.text(max_size=9).map(EntryId), max_size=5).map(tuple),
    features=st.lists(ROWS, max_size=5).map(tuple),
    at=st.floats(0.0, 4e9),
    confidence=st.none() | st.builds(Confidence, st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    sent=st.booleans(),
)
ONE = Observation(
    category="code", small="tiny", arm=Arm.SMALL, context=(1.0,), quality=0.5, weight=2.0
)


@given(OBSERVATIONS)
def test_an_observation_arrives_as_it_was_sent(sent: Observation) -> None:
    assert Observation.from_bytes(sent.to_bytes()) == sent


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"quality": 1.1}, id="quality above 1"),
        pytest.param({"quality": float("nan")}, id="quality that is no number"),
        pytest.param({"weight": -1.0}, id="negative weight"),
        pytest.param({"weight": float("inf")}, id="endless weight"),
        pytest.param({"context": [float("nan")]}, id="context that is no number"),
        pytest.param({"context": 3}, id="context that is no row"),
        pytest.param({"arm": "large"}, id="unknown arm"),
        pytest.param({"small": None}, id="no model"),
        pytest.param({"examples": [1]}, id="an id that is no text"),
        pytest.param({"examples": ["e"] * (MOST_EXAMPLES + 1)}, id="too many examples"),
        pytest.param({"confidence": [0.5]}, id="half a confidence"),
        pytest.param({"confidence": [0.5, 1.5]}, id="a confidence above 1"),
        pytest.param({"at": "noon"}, id="a time that is no number"),
    ],
)
def test_an_observation_that_cannot_be_is_refused(changed: dict[str, Any]) -> None:
    data = json.dumps(json.loads(ONE.to_bytes()) | changed).encode()
    with pytest.raises(ValueError):
        Observation.from_bytes(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b" " * (MOST_BYTES + 1)],
    ids=["empty", "cut off", "list", "null", "no fields", "no text", "deep", "large"],
)
def test_bytes_that_are_no_observation_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Observation.from_bytes(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        Observation.from_bytes(data)
    except ValueError:
        pass
