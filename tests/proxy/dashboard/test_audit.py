"""The page of the audit trail: what an action changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.audit import Change, changes

VALUES = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


def test_what_differs_is_told_key_by_key() -> None:
    before = {"ttl": "1h", "mode": "semantic", "match": []}
    after = {"ttl": "2h", "match": [], "priority": 2}
    assert changes(before, after) == [
        Change("ttl", "1h", "2h"), Change("mode", "semantic", None), Change("priority", None, "2")
    ]  # fmt: skip


def test_what_came_and_what_went() -> None:
    assert changes(None, {"id": "e"}) == [Change("id", None, "e")]
    assert changes({"id": "e"}, None) == [Change("id", "e", None)]
    assert changes(None, None) == []


@given(st.dictionaries(st.text(max_size=3), VALUES))
def test_nothing_differs_from_itself(value: dict[str, object]) -> None:
    assert changes(value, dict(value)) == []
