from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.entry import EntryId
from store.redis.keys import Keys

PREFIXES = st.from_regex(r"\A[A-Za-z0-9_.:-]{1,64}\Z")
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


def slot_of(key: str) -> str:
    """Return what Redis hashes of a key: what is between the first brace and the next closing."""
    start = key.index("{") + 1
    return key[start : key.index("}", start)]


@given(PREFIXES, st.text(max_size=20), st.text(max_size=20))
def test_journal_and_records_share_a_slot_whatever_they_are_named_after(
    prefix: str, answer_id: str, replica: str
) -> None:
    keys = Keys(prefix)
    common = (
        keys.journal,
        keys.entries,
        keys.puts,
        keys.schema,
        keys.states,
        keys.common("audit:rows"),
    )
    named = (keys.answer(answer_id), keys.budgets(replica))
    assert {slot_of(key) for key in (*common, *named)} == {prefix}
    assert len({*common, *named}) == 8


@given(PREFIXES, HEX)
def test_an_entrys_keys_share_a_slot_of_their_own(prefix: str, id: str) -> None:
    assert slot_of(Keys(prefix).entry(EntryId(id))) == f"{prefix}:{id}"


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", "two words", "x" * 65, "a\n"])
def test_a_prefix_that_would_break_the_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 64"):
        Keys(prefix)
