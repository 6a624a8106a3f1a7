from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.documents.base import Stored, without_body
from store.documents.heads import instant
from store.entry import EntryId, PartitionKey
from store.journal import (
    Approved,
    Change,
    Complained,
    Learnt,
    PolicyAdded,
    Purging,
    Put,
    Released,
    Removed,
    Stopped,
    TenantForgotten,
)
from store.redis.codec import (
    ENTRY_FIELDS,
    STORED_FIELDS,
    decode_change,
    decode_entry,
    decode_stored,
    encode_change,
    encode_entry,
    position_of,
    put_fields,
    stream_id,
)
from tests.entries import axis, entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ID = TEXT.map(EntryId)
IDS = st.lists(ID, max_size=4).map(tuple)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(Removed, IDS, st.booleans()),
    st.lists(st.tuples(ID, st.integers(0, 2**50).map(instant)), min_size=1, max_size=4).map(
        lambda gone: Removed(tuple(id for id, _ in gone), False, tuple(at for _, at in gone))
    ),
    st.builds(Approved, IDS),
    st.builds(Stopped, ID, TEXT),
    st.builds(Released, ID, TEXT),
    st.builds(TenantForgotten, TEXT),
    st.builds(PolicyAdded, st.integers(1, 2**53)),
    st.builds(Complained, TEXT),
    st.builds(Learnt, st.binary(max_size=40)),
    st.builds(Purging, st.binary(max_size=40)),
)
TEXTS = st.fixed_dictionaries(
    {
        "query": TEXT,
        "tenant": TEXT,
        "user": TEXT,
        "key": st.builds(PartitionKey, TEXT, TEXT),
        "tags": st.lists(TEXT, max_size=3).map(tuple),
        "body": st.binary(max_size=600),
        "approved": st.booleans(),
        "cost": st.floats(allow_nan=False),
        "shared_key": TEXT,
        "answer_id": TEXT,
        "earlier": st.lists(TEXT, min_size=2, max_size=2).map(tuple),
        "vector": st.sampled_from([None, axis(1)]),
        "earlier_vectors": st.sampled_from([(), (axis(2), None)]),
    }
)
FULL = entry("a", vector=axis(1), earlier=("x",), earlier_vectors=(axis(3),), answer_id="n-1")


def same(left: Any, right: Any) -> bool:
    """Whether both are equal, the arrays in them too."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return type(left) is type(right) and np.array_equal(left, right)
    if isinstance(left, tuple) and not hasattr(left, "_fields"):
        return len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "__dataclass_fields__"):
        return all(same(getattr(left, f), getattr(right, f)) for f in left.__dataclass_fields__)
    return bool(left == right)


def same_stored(left: Stored, right: Stored) -> bool:
    return all(map(same, left, right))


@given(CHANGES)
def test_any_change_survives_the_stream(change: Change) -> None:
    assert decode_change(encode_change(change)) == change


@given(TEXTS)
def test_any_entry_survives_its_hash_and_its_record(fields: dict[str, Any]) -> None:
    stored = entry("a", **fields)
    hashed = encode_entry(stored)
    found = decode_entry([hashed[name] for name in ENTRY_FIELDS])
    assert found is not None
    assert same(found, stored)
    expected = without_body(stored)
    head = decode_stored([hashed[name] for name in STORED_FIELDS])
    assert head is not None
    assert same_stored(head, expected)
    for record in (put_fields(hashed), encode_change(Put(expected))):
        put = decode_change(record)
        assert isinstance(put, Put)
        assert same_stored(put.stored, expected)


@pytest.mark.parametrize("field", ENTRY_FIELDS)
def test_a_damaged_field_reads_as_absence(field: bytes) -> None:
    hashed = encode_entry(FULL)
    raw = hashed[field]
    hashed[field] = bytes([raw[0] ^ 1]) + raw[1:]
    assert decode_entry([hashed[name] for name in ENTRY_FIELDS]) is None
    if field in STORED_FIELDS:
        assert decode_stored([hashed[name] for name in STORED_FIELDS]) is None
        assert decode_change(put_fields(hashed)) is None


@pytest.mark.parametrize("field", STORED_FIELDS)
def test_a_put_that_lacks_a_field_is_damaged(field: bytes) -> None:
    record = put_fields(encode_entry(FULL))
    del record[field]
    assert decode_change(record) is None


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="no kind"),
        pytest.param({b"kind": b"folded"}, id="a kind of a later version"),
        pytest.param({b"kind": b"removed", b"ids": b"[", b"purged": b"1"}, id="no JSON"),
        pytest.param({b"kind": b"removed", b"ids": b"[]"}, id="a field is missing"),
        pytest.param({b"kind": b"stopped", b"id": b"\xff", b"tenant": b""}, id="no text"),
        pytest.param({b"kind": b"learnt"}, id="nothing was learnt"),
        pytest.param({b"kind": b"policy", b"number": b"one"}, id="no number"),
    ],
)
def test_what_cannot_be_read_is_no_change(fields: dict[bytes, bytes]) -> None:
    assert decode_change(fields) is None


def test_entries_of_one_partition_share_its_key() -> None:
    first, second = (decode_change(put_fields(encode_entry(entry(id)))) for id in "ab")
    assert isinstance(first, Put)
    assert isinstance(second, Put)
    assert first.stored.held.key is second.stored.held.key


@given(st.integers(0, 2**42), st.integers(0, 2**20 - 1))
def test_a_position_is_a_stream_id_and_back(milliseconds: int, sequence: int) -> None:
    name = b"%d-%d" % (milliseconds, sequence)
    assert stream_id(position_of(name)) == name


@given(st.lists(st.tuples(st.integers(0, 2**42), st.integers(0, 2**20 - 1)), max_size=9))
def test_positions_are_in_the_order_of_stream_ids(ids: list[tuple[int, int]]) -> None:
    positions = [position_of(b"%d-%d" % each) for each in sorted(ids)]
    assert positions == sorted(positions)


@pytest.mark.parametrize("name", [b"", b"5", b"x-1", b"5-", b"1-1048576"])
def test_what_is_no_stream_id_has_no_position(name: bytes) -> None:
    with pytest.raises(ValueError):
        position_of(name)
