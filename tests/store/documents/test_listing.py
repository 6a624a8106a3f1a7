from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.documents import rows
from store.documents.base import Filter
from store.documents.listing import SUMMARY, summary, where
from store.entry import Entry
from tests.entries import entry

# A small alphabet, so that filters meet texts: wildcards, quotes, what JSON escapes, a NUL.
QUERY = st.text('aA%_"\\é🦊\x00', max_size=4)
TAG = st.text('a,A%"\\é🦊 ', max_size=3)  # tags come from a header, which holds no NUL
NAME = st.sampled_from(["x", "X", "y"])


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(rows.SCHEMA)
    yield connection
    connection.close()


def found(connection: sqlite3.Connection, filter: Filter) -> list[str]:
    clauses, values = where(filter)
    statement = f"SELECT {SUMMARY} FROM entries WHERE n > ?{clauses} ORDER BY n"
    lines = [summary(row) for row in connection.execute(statement, (0, *values))]
    return [line.id for line in lines if line is not None]


def passes(filter: Filter, stored: Entry) -> bool:
    return (
        filter.id in ("", stored.id)
        and filter.category in ("", stored.category)
        and filter.model in ("", stored.model)
        and filter.tenant in ("", stored.tenant)
        and (not filter.tag or filter.tag in stored.tags)
        and stored.query.startswith(filter.prefix)
    )


STORED = st.builds(
    lambda query, tags, category, tenant, model: {
        "query": query,
        "tags": tuple(tags),
        "category": category,
        "tenant": tenant,
        "model": model,
    },
    QUERY,
    st.lists(TAG, max_size=3),
    NAME,
    NAME,
    NAME,
)
FILTERS = st.one_of(
    st.builds(Filter, tag=TAG),
    st.builds(Filter, prefix=QUERY),
    st.builds(Filter, category=NAME, tenant=st.just("") | NAME, model=st.just("") | NAME, tag=TAG),
    st.builds(Filter, id=st.sampled_from(["e0", "e1", "nobody"]), prefix=QUERY),
)


@given(stored=st.lists(STORED, min_size=1, max_size=4), filter=FILTERS)
def test_sqlite_lets_pass_exactly_what_the_filter_says(
    connection: sqlite3.Connection, stored: list[dict[str, str]], filter: Filter
) -> None:
    connection.execute("DELETE FROM entries")
    entries = [entry(f"e{number}", **changes) for number, changes in enumerate(stored)]
    for one in entries:
        connection.execute(rows.INSERT, rows.encode(one))
    assert found(connection, filter) == [one.id for one in entries if passes(filter, one)]


@pytest.mark.parametrize("damage", ["tags = '['", "tags = '7'", "created_us = 'noon'"])
def test_a_row_that_cannot_be_read_has_no_line(connection: sqlite3.Connection, damage: str) -> None:
    connection.execute("DELETE FROM entries")
    connection.execute(rows.INSERT, rows.encode(entry("a")))
    assert found(connection, Filter()) == ["a"]
    connection.execute(f"UPDATE entries SET {damage}")
    assert found(connection, Filter()) == []
