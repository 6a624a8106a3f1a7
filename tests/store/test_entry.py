from __future__ import annotations

import numpy as np
import pytest

from store.documents.base import held_of
from store.entry import OVERHEAD, PartitionKey, Vector, check_vector, size_of
from tests.entries import axis, entry


def test_a_unit_vector_passes() -> None:
    check_vector(axis(2), 8)


@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        pytest.param(axis(0, 7), r"shape \(8,\), got float32 \(7,\)", id="too short"),
        pytest.param(axis(0).reshape(1, 8), r"got float32 \(1, 8\)", id="a matrix"),
        pytest.param(axis(0).astype(np.float64), "got float64", id="double precision"),
        pytest.param(axis(0) * 2, "unit length, got 2.0000", id="too long"),
        pytest.param(np.zeros(8, np.float32), "unit length, got 0.0000", id="zero"),
        pytest.param(np.full(8, np.nan, np.float32), "unit length, got nan", id="not a number"),
    ],
)
def test_what_cannot_be_compared_is_refused(vector: Vector, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_vector(vector, 8)


def test_an_entry_counts_its_body_its_query_in_bytes_and_its_vector() -> None:
    assert size_of(entry("a", body=b"12345", query="é", vector=axis(0))) == 5 + 2 + 32 + OVERHEAD
    assert size_of(entry("a", body=b"12345", query="")) == 5 + OVERHEAD


def test_an_entry_counts_the_texts_and_vectors_of_its_earlier_turns() -> None:
    plain = size_of(entry("a"))
    assert size_of(entry("a", earlier=("é12", "one"))) == plain + 4 + 3
    vectors = (axis(0), None)
    assert size_of(entry("a", earlier=("é12", "one"), earlier_vectors=vectors)) == plain + 7 + 32


@pytest.mark.parametrize("field", ["user", "classifier", "shared_key", "answer_id"])
def test_an_entry_counts_its_other_texts(field: str) -> None:
    assert size_of(entry("a", **{field: "é12"})) == size_of(entry("a")) + 4


def test_what_memory_keeps_of_entries_shares_their_partitions_key() -> None:
    one, other = (
        held_of(entry(id, key=PartitionKey("".join(["p", "1"]), "c"))).key for id in ("a", "b")
    )
    assert one is other
