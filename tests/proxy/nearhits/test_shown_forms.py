"""What is kept of examples is bounded in bytes, and of the version that is held."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from icl.shown import Shown
from proxy.nearhits.shown_forms import ShownForms
from store.entry import EntryId, Held
from tests.entries import NOON
from tests.proxy.nearhits.calls import held_of

TEXT = Shown.read("How do I oil a hinge?", "With oil.")


def known(forms: ShownForms, *ids: str) -> list[str]:
    return [id for id in ids if forms.knows(held_of(id))]


def room_for(count: int) -> ShownForms:
    return ShownForms(count * TEXT.size)


def test_a_form_is_of_one_version() -> None:
    forms, newer = ShownForms(), held_of("a", created_at=NOON)
    forms.put(held_of("a"), TEXT)
    form = forms.get(held_of("a"))
    assert form is not None and form.shown is TEXT
    assert forms.get(newer) is None
    forms.put(newer, None)
    assert forms.get(held_of("a")) is None
    form = forms.get(newer)
    assert form is not None and form.shown is None


def test_what_was_not_used_for_longest_leaves() -> None:
    forms = room_for(2)
    for id in ("a", "b"):
        forms.put(held_of(id), TEXT)
    forms.get(held_of("a"))
    forms.put(held_of("c"), TEXT)
    assert known(forms, "a", "b", "c") == ["a", "c"]


def test_what_nobody_asked_for_takes_nobody_s_place_and_leaves_first() -> None:
    forms = room_for(2)
    forms.put(held_of("a"), TEXT)
    forms.put_last(held_of("b"), TEXT)
    forms.put_last(held_of("c"), TEXT)
    assert known(forms, "a", "b", "c") == ["a", "b"]
    forms.put(held_of("d"), TEXT)
    assert known(forms, "a", "b", "c", "d") == ["a", "d"]


def test_there_is_room_while_a_tenth_is_free() -> None:
    forms = room_for(10)
    for number in range(9):
        assert forms.has_room
        forms.put_last(held_of(str(number)), TEXT)
    assert forms.has_room
    forms.put_last(held_of("9"), TEXT)
    assert not forms.has_room


IDS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "last", "get", "forget"]), IDS, st.integers(0, 3))
)


def version(id: str, number: int) -> Held:
    return held_of(id, created_at=NOON + timedelta(seconds=number))


@given(STEPS, st.integers(1, 5))
def test_the_bytes_are_counted_and_bounded(steps: list[tuple[str, str, int]], most: int) -> None:
    forms = room_for(most)
    for what, id, number in steps:
        held = version(id, number)
        if what == "put":
            forms.put(held, TEXT)
            assert forms.knows(held)
        elif what == "last":
            forms.put_last(held, TEXT)
        elif what == "get":
            assert (forms.get(held) is not None) is forms.knows(held)
        else:
            forms.forget(EntryId(id))
            assert not forms.knows(held)
        assert forms.bytes == len(forms) * TEXT.size <= most * TEXT.size
