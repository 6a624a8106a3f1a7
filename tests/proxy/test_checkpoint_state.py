"""Which checkpoint serves, as it is recorded, and how a switch that was cut off ends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.checkpoint_state import (
    STATE,
    CheckpointState,
    Pending,
    open_state,
    read_state,
    save_state,
)
from store.policy import Policy, PolicyBook
from store.policy_history import PolicyHistory, Seed, digest_of
from tests.entries import NOON
from tests.fakes_documents import MemoryDocuments

BOOK = PolicyBook({"default": Policy(name="default")})
RAISED = PolicyBook({"default": Policy(name="default", hit_threshold=0.97)})
STAGED = CheckpointState(staging="b-1", configured="a-1", former=None)
NAMES = st.sampled_from(["", "a-1", "b-1"])
STATES = st.builds(
    CheckpointState,
    active=NAMES,
    former=st.none() | NAMES,
    staging=st.none() | NAMES,
    configured=NAMES,
)


async def test_without_a_record_the_configured_encoder_serves() -> None:
    state = await read_state(MemoryDocuments().records)
    assert state == CheckpointState()
    assert state.never_switched


@given(state=STATES)
async def test_a_state_comes_back_as_it_was(state: CheckpointState) -> None:
    records = MemoryDocuments().records
    await save_state(records, state)
    assert await open_state(records) == state


async def test_a_state_that_cannot_be_read_is_the_configured_encoders() -> None:
    records = MemoryDocuments().records
    for text in ("{", "[]", '{"active": 3, "former": null, "staging": null, "configured": ""}'):
        await records.save_state(STATE, text)
        assert await read_state(records) == CheckpointState()


async def test_a_switch_that_was_cut_off_before_its_policies_did_not_happen() -> None:
    records = MemoryDocuments().records
    history = PolicyHistory(records)
    await history.current(Seed("file", "1", BOOK), NOON)
    await save_state(records, replace(STAGED, pending=Pending("b-1", 8, digest_of(RAISED))))
    assert await open_state(records) == STAGED


async def test_a_switch_that_was_cut_off_after_its_policies_is_finished_for_good() -> None:
    records = MemoryDocuments().records
    history = PolicyHistory(records)
    await history.current(Seed("file", "1", BOOK), NOON)
    await save_state(records, replace(STAGED, pending=Pending("b-1", 8, digest_of(RAISED))))
    change = ("checkpoint.promote", None, None, None)
    await history.edit(RAISED, change, "ops", NOON, base=BOOK)
    state = await open_state(records)
    assert (state.active, state.former, state.pending) == ("b-1", "", None)
    assert state.dimension == 8
    assert state.id_of("") == "a-1"
    await history.edit(BOOK, ("put", "default", None, None), "ops", NOON, base=RAISED)
    assert await open_state(records) == state  # later edits do not undo it
