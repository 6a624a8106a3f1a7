from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.documents.base import held_of
from store.entry import Held, PartitionKey, Vector
from store.held_file import HELD, NameLists, Past, load_held, save_held
from tests.entries import DIMENSION, directions, entry

VECTORS = directions(5)
TEXTS = st.text('ab\u00e9\u6f22\U0001f600 "\\\n\0', max_size=6)
TIMES = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2200, 1, 1))
EARLIER = st.lists(st.tuples(TEXTS, st.none() | st.sampled_from(range(5))), max_size=3)


def vectors_of(turns: list[tuple[str, int | None]]) -> tuple[Vector | None, ...]:
    return tuple(None if number is None else VECTORS[number] for _, number in turns)


@st.composite
def held_entries(draw: st.DrawFn) -> list[tuple[Held, Past]]:
    return [draw(one_held(number)) for number in range(draw(st.integers(0, 8)))]


@st.composite
def one_held(draw: st.DrawFn, number: int) -> tuple[Held, Past]:
    turns = draw(EARLIER)
    held = Held(
        id=held_of(entry(f"e{number}")).id,
        key=PartitionKey(draw(TEXTS), draw(TEXTS)),
        tenant=draw(TEXTS),
        category=draw(TEXTS),
        query=draw(TEXTS),
        created_at=draw(TIMES).replace(tzinfo=UTC),
        size=draw(st.integers(min_value=0, max_value=2**40)),
        model=draw(TEXTS),
        classifier=draw(TEXTS),
        shared_key=draw(TEXTS),
        approved=draw(st.booleans()),
        cost=draw(st.floats(min_value=0, max_value=1e6)),
        earlier=tuple(text for text, _ in turns),
        user=draw(TEXTS),
    )
    return held, vectors_of(turns)


@settings(deadline=None)
@given(entries=held_entries())
def test_every_entry_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[Held, Past]]
) -> None:
    folder = tmp_path_factory.mktemp("held")
    save_held([held for held, _ in entries], folder, {held.id: past for held, past in entries})
    blocks = load_held(folder, DIMENSION, NameLists(folder))
    back = [each for block in blocks for each in block]
    assert [held for held, _ in back] == [held for held, _ in entries]
    for (one, past), (other, other_past) in zip(back, entries, strict=True):
        assert one.approved == other.approved
        assert len(past) == len(other_past)
        for mine, theirs in zip(past, other_past, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                np.testing.assert_array_equal(mine, theirs)


def test_times_of_another_zone_come_back_as_the_same_moment(tmp_path: Path) -> None:
    there = datetime(2031, 5, 4, 12, 0, 0, 7).astimezone()
    save_held([held_of(entry("e1", created_at=there))], tmp_path)
    (((back, _),),) = load_held(tmp_path, DIMENSION, NameLists(tmp_path))
    assert back.created_at == there
    assert back.created_at.utcoffset() == timedelta(0)


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    save_held([held_of(entry("e1"))], tmp_path)
    (tmp_path / HELD).write_bytes(b"")
    with pytest.raises(ValueError, match="ends after 0 entries of 1"):
        list(load_held(tmp_path, DIMENSION, NameLists(tmp_path)))
