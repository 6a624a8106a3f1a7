from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.documents import rows
from store.documents.base import held_of
from store.entry import EntryId, PartitionKey
from tests.entries import axis, entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(rows.SCHEMA)
    yield connection
    connection.close()


def test_a_body_is_compressed_only_where_that_helps() -> None:
    *_, compressed, body = rows.encode(entry("a", body=b"the tide is low. " * 50))
    assert compressed
    assert len(body) < 100
    *_, compressed, body = rows.encode(entry("a", body=b"short"))
    assert (compressed, body) == (False, b"short")


@given(
    query=TEXT,
    tenant=TEXT,
    partition=TEXT,
    tags=st.lists(TEXT, max_size=3).map(tuple),
    body=st.binary(max_size=600),
    later=st.fixed_dictionaries(
        {
            "user": TEXT,
            "classifier": TEXT,
            "shared_key": TEXT,
            "approved": st.booleans(),
            "cost": st.floats(allow_nan=False),
            "answer_id": TEXT,
            "key_id": TEXT,
            "earlier": st.lists(TEXT, max_size=3).map(tuple),
        }
    ),
)
def test_any_entry_survives_the_table(
    query: str,
    tenant: str,
    partition: str,
    tags: tuple[str, ...],
    body: bytes,
    later: dict[str, Any],
) -> None:
    key = PartitionKey(partition, query)
    stored = entry("a", query=query, tenant=tenant, tags=tags, body=body, key=key, **later)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(rows.SCHEMA)
    connection.execute(rows.INSERT, rows.encode(stored))
    assert rows.decode(connection.execute(rows.SELECT_ONE, ("a",)).fetchone()) == stored
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("body = x'00'", id="another body"),
        pytest.param("body = substr(body, 1, 20)", id="half a body"),
        pytest.param("compressed = 1 - compressed", id="body under the wrong encoding"),
    ],
)
def test_a_damaged_body_reads_as_absent(connection: sqlite3.Connection, damage: str) -> None:
    connection.execute(rows.INSERT, rows.encode(entry("a", body=b"the tide is low. " * 50)))
    connection.execute(f"UPDATE entries SET {damage}")
    assert rows.decode(connection.execute(rows.SELECT_ONE, ("a",)).fetchone()) is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("vector = zeroblob(32)", id="another vector"),
        pytest.param("vector = NULL", id="no vector"),
        pytest.param("vector = x'0102'", id="half a vector"),
        pytest.param("query = 'something else'", id="another question"),
        pytest.param("partition = 'elsewhere'", id="another partition"),
        pytest.param("tenant = 'somebody'", id="another tenant"),
        pytest.param("created_us = created_us + 1", id="another age"),
        pytest.param("created_us = 'noon'", id="an age that is no number"),
        pytest.param("checkpoint = 'other'", id="another checkpoint"),
        pytest.param("tags = '['", id="tags that do not parse"),
        pytest.param("user = 'somebody'", id="another user"),
        pytest.param("classifier = ''", id="no classifier"),
        pytest.param("shared_key = 'elsewhere'", id="another shared key"),
        pytest.param("approved = 1", id="approved by nobody"),
        pytest.param("cost = cost * 2", id="another cost"),
        pytest.param("answer_id = 'another'", id="another answer id"),
        pytest.param('earlier = \'["three", "two"]\'', id="other earlier turns"),
        pytest.param("earlier = '[\"one\"]'", id="an earlier turn less"),
        pytest.param("earlier = '['", id="earlier turns that do not parse"),
        pytest.param("earlier_vectors = NULL", id="no vectors of earlier turns"),
        pytest.param("earlier_vectors = zeroblob(64)", id="other vectors of earlier turns"),
        pytest.param("earlier_vectors = x'0102'", id="part of a vector of an earlier turn"),
        pytest.param("earlier = '', earlier_vectors = NULL", id="as if from version 2"),
        pytest.param(
            "user = '', classifier = '', shared_key = '', cost = 0, answer_id = ''",
            id="as if from version 1",
        ),
    ],
)
def test_a_damaged_head_reads_as_absent(connection: sqlite3.Connection, damage: str) -> None:
    stored = entry("a", vector=axis(3), user="u", classifier="c", shared_key="s", cost=1.5)
    stored = replace(stored, earlier=("one", "two"), earlier_vectors=(axis(1), axis(2)))
    connection.execute(rows.INSERT, rows.encode(stored))
    head = connection.execute(rows.SELECT_HEADS, (0, 1)).fetchone()
    assert rows.head_decoder()(head) is not None
    connection.execute(f"UPDATE entries SET {damage}")
    head = connection.execute(rows.SELECT_HEADS, (0, 1)).fetchone()
    assert rows.head_decoder()(head) is None
    assert rows.decode(connection.execute(rows.SELECT_ONE, ("a",)).fetchone()) is None


def test_an_approval_that_nobody_gave_reads_as_damage_on_a_plain_row_too(
    connection: sqlite3.Connection,
) -> None:
    connection.execute(rows.INSERT, rows.encode(entry("a")))
    connection.execute("UPDATE entries SET approved = 1")
    assert rows.decode(connection.execute(rows.SELECT_ONE, ("a",)).fetchone()) is None


def test_finding_an_answer_uses_its_index(connection: sqlite3.Connection) -> None:
    connection.execute(rows.ANSWER_INDEX)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {rows.FIND_ANSWER}", ("x", "acme")).fetchall()
    assert any("USING INDEX entries_by_answer" in step[-1] for step in plan)


def test_equal_keys_share_memory(connection: sqlite3.Connection) -> None:
    for id in ("a", "b"):
        connection.execute(rows.INSERT, rows.encode(entry(id)))
    decode = rows.head_decoder()
    heads = [decode(row) for row in connection.execute(rows.SELECT_HEADS, (0, 9)).fetchall()]
    first, second = [head for head in heads if head is not None]
    assert first.held.id == EntryId("a")
    assert first.held.key is second.held.key
    assert first.held.model is second.held.model


def test_equal_models_and_classifiers_of_new_entries_share_memory() -> None:
    first, second = [
        held_of(entry("a", model="".join(["gull", "-3"]), classifier="".join(["c", "-1"])))
        for _ in range(2)
    ]
    assert first.model is second.model
    assert first.classifier is second.classifier
