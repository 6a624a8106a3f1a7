"""Values survive their lines, and no altered, cut or foreign file passes as an export."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.documents.records import Pair, PolicyVersion
from store.entry import EntryId, PartitionKey, Vector
from store.errors import TransferInvalid
from store.transfer.lines import Header, LineReader, LineWriter
from store.transfer.values import (
    Carried,
    Data,
    Stop,
    entry_data,
    pair_data,
    policy_data,
    stop_data,
    value_of,
)
from tests.entries import NOON, axis, directions, entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
HEADER = Header(at=NOON, nearhit="0", checkpoint=None, dimension=None, vectors=True, what=())


def written(*values: Data) -> list[bytes]:
    lines = LineWriter()
    return [lines.line(HEADER.as_data()), *map(lines.line, values), lines.footer()]


def read(raw: list[bytes]) -> list[Data]:
    reader = LineReader()
    data = [reader.read(line) for line in raw]
    reader.end()
    return data


def through_a_file(data: Data) -> Any:
    return value_of(read(written(data))[1])


@given(
    texts=st.lists(TEXT, min_size=12, max_size=12),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    earlier=st.lists(TEXT, max_size=3).map(tuple),
    body=st.one_of(st.binary(max_size=60), TEXT.map(str.encode)),
    at=TIMES,
    cost=st.floats(allow_nan=False, allow_infinity=False),
    approved=st.booleans(),
)
def test_any_entry_comes_back_as_it_was(
    texts: list[str],
    tags: tuple[str, ...],
    earlier: tuple[str, ...],
    body: bytes,
    at: datetime,
    cost: float,
    approved: bool,
) -> None:
    names = "tenant user category classifier route model query shared_key answer_id key_id".split()
    more: dict[str, Any] = dict(zip(names, texts, strict=False))
    stored = entry(
        "a",
        key=PartitionKey(texts[10], texts[11]),
        tags=tags,
        earlier=earlier,
        body=body,
        created_at=at,
        cost=cost,
        approved=approved,
        **more,
    )
    assert through_a_file(entry_data(stored, vectors=True)) == Carried(stored, False)


def test_vectors_come_back_to_the_last_bit() -> None:
    first, second = directions(2)
    past: tuple[Vector | None, ...] = (second, None)
    stored = entry("a", vector=first, earlier=("one", "two"), earlier_vectors=past)
    back = through_a_file(entry_data(stored, vectors=True))
    assert back.by_meaning
    np.testing.assert_array_equal(back.entry.vector, first)
    np.testing.assert_array_equal(back.entry.earlier_vectors[0], second)
    assert back.entry.earlier_vectors[1] is None


def test_without_vectors_an_entry_still_says_that_it_was_found_by_meaning() -> None:
    for vector in (axis(0), None):
        back = through_a_file(entry_data(entry("a", vector=vector), vectors=False))
        assert (back.entry.vector, back.by_meaning) == (None, vector is not None)


@given(texts=st.lists(TEXT, min_size=6, max_size=6), at=TIMES, label=st.sampled_from([0, 1]))
def test_records_come_back_as_they_were(texts: list[str], at: datetime, label: int) -> None:
    tenant, event, query, other, category, comment = texts
    pair = Pair(
        at=at,
        tenant=tenant,
        event=event,
        query=query,
        entry_query=other,
        entry_id=EntryId("e"),
        similarity=0.1,
        label=label,
        category=category,
        comment=comment,
        source="near-miss",
    )
    stop = Stop(EntryId("e"), tenant)
    version = PolicyVersion(
        number=7, at=at, who=tenant, source="api", seed=event, document='{"a": [1, 2.5]}'
    )
    assert through_a_file(pair_data(pair)) == pair
    assert through_a_file(stop_data(stop)) == stop
    assert through_a_file(policy_data(version)) == version


SOME = written(
    stop_data(Stop(EntryId("e"), "")),
    entry_data(entry("a", vector=axis(1)), vectors=True),
    entry_data(entry("b", query="Zoë?"), vectors=True),
)
WHOLE = b"".join(SOME)


@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_no_altered_byte_passes_and_the_line_is_named(place: int, bit: int) -> None:
    altered = bytearray(WHOLE)
    altered[place] ^= 1 << bit
    number = WHOLE[:place].count(b"\n") + 1
    with pytest.raises(TransferInvalid, match=rf"^line {number}: "):
        read(bytes(altered).splitlines(keepends=True) if b"\n" in altered else [bytes(altered)])


@given(place=st.integers(0, len(WHOLE) - 1))
def test_no_cut_file_passes(place: int) -> None:
    cut = [line + b"\n" for line in WHOLE[:place].split(b"\n")]
    cut[-1] = cut[-1][:-1]
    with pytest.raises(TransferInvalid, match=r"^line \d: "):
        read([line for line in cut if line])


def test_a_lost_or_moved_line_is_noticed_where_it_was() -> None:
    with pytest.raises(TransferInvalid, match="line 3: does not match"):
        read([SOME[0], SOME[1], *SOME[3:]])
    with pytest.raises(TransferInvalid, match="line 3: does not match"):
        read([SOME[0], SOME[1], SOME[3], SOME[2], SOME[4]])
    with pytest.raises(TransferInvalid, match="line 6: stands after the footer"):
        read([*SOME, SOME[1]])


def test_another_file_or_version_is_refused_by_its_first_line() -> None:
    for raw in (b"{}\n", b'{"q1": "a"}\n', b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(TransferInvalid, match="line 1: is not the first one of what"):
            read([raw])
    newer = LineWriter().line({**HEADER.as_data(), "version": 2})
    with pytest.raises(TransferInvalid, match="line 1: version: 2 is not allowed"):
        read([newer])
    with pytest.raises(TransferInvalid, match="the file is empty"):
        read([])


def test_a_quarantine_may_not_come_after_the_entries_that_it_stops() -> None:
    raw = written(entry_data(entry("a"), vectors=True), stop_data(Stop(EntryId("a"), "")))
    with pytest.raises(TransferInvalid, match="line 3: quarantine is out of order"):
        read(raw)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tenant": 3}, "tenant: 3 is not allowed; allowed: a text"),
        ({"created_at": "2026-11-24T12:00:00"}, "a time with its offset"),
        ({"tags": ["a", 1]}, "a list of texts"),
        ({"vector": "AAAA"}, "vector: "),
        ({"vector": "AACAQAAAgEA="}, "unit length"),
        ({"approved": 1}, "true or false"),
        ({"query": "\ud800"}, "a text"),
        ({"kind": "budget"}, "kind: 'budget'"),
    ],
)
def test_a_field_that_cannot_be_is_named(change: Data, fault: str) -> None:
    data = {**entry_data(entry("a", vector=axis(0)), vectors=True), "earlier": [], "tags": []}
    with pytest.raises(ValueError, match=fault):
        value_of({**data, **change})
