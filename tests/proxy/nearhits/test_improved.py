"""Better answers to show are bounded as they are written down, and go with their entries."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.nearhits.improved import Improved
from store.documents.base import held_of
from store.documents.heads import microseconds
from store.entry import Held
from tests.entries import NOON, entry

A, B, C = (held_of(entry(id)) for id in "abc")
AT = microseconds(NOON)


def test_the_oldest_leave_and_one_that_is_improved_again_is_the_newest() -> None:
    improved = Improved(most=140)
    improved.put(A, "a" * 35)
    improved.put(B, "b" * 35)
    improved.put(A, "A" * 35)
    improved.put(C, "c" * 35)
    assert improved.as_data() == {"a": (AT, "A" * 35), "c": (AT, "c" * 35)}
    assert improved.get(B) is None


def test_one_that_is_too_large_by_itself_is_not_kept() -> None:
    improved = Improved(most=140)
    improved.put(A, "a" * 200)
    assert list(improved) == []


HELD = st.sampled_from([A, B, C])


@given(st.lists(st.tuples(HELD, st.none() | st.text(max_size=60))))
def test_what_is_written_down_fits_and_reads_back_the_same(
    steps: list[tuple[Held, str | None]],
) -> None:
    improved = Improved(most=200)
    for held, answer in steps:
        improved.forget([held.id]) if answer is None else improved.put(held, answer)
        written = json.dumps(improved.as_data())
        assert len(written.encode()) <= 200
        assert Improved.from_data(json.loads(written), 200).as_data() == improved.as_data()
    if steps and steps[-1][1] is not None and len(json.dumps(steps[-1][1])) < 150:
        assert improved.get(steps[-1][0]) == steps[-1][1]
