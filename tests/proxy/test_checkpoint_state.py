"""Which checkpoint serves, as it is recorded."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.checkpoint_state import STAGING, STATE, CheckpointState, read_state, save_staging
from tests.fakes_documents import MemoryDocuments

NAMES = st.sampled_from(["", "a-1", "b-1"])
STATES = st.builds(
    CheckpointState,
    active=NAMES,
    former=st.none() | NAMES,
    staging=st.none() | NAMES,
    attempt=st.sampled_from(["", "1"]),
    dimension=st.integers(0, 4096),
    configured=NAMES,
)


async def test_without_a_record_the_configured_encoder_serves() -> None:
    state = await read_state(MemoryDocuments().records)
    assert state == CheckpointState()
    assert state.never_switched


@given(state=STATES)
async def test_a_state_comes_back_as_it_was(state: CheckpointState) -> None:
    records = MemoryDocuments().records
    await records.save_state(*state.to_store)
    await save_staging(records, state)
    attempt = "" if state.staging is None else state.attempt
    expected = replace(state, attempt=attempt)
    if state.staging == state.active:  # it has been put in force
        expected = replace(expected, staging=None)
    assert await read_state(records) == expected


async def test_what_serves_is_written_without_a_look_at_what_is_being_prepared() -> None:
    records = MemoryDocuments().records
    await save_staging(records, CheckpointState(staging="b-1", attempt="1"))
    await records.save_state(*CheckpointState(active="c-1", former="").to_store)
    state = await read_state(records)
    assert (state.active, state.staging, state.attempt) == ("c-1", "b-1", "1")
    await save_staging(records, replace(state, staging=None))
    assert await read_state(records) == CheckpointState(active="c-1", former="")


async def test_a_state_that_cannot_be_read_is_the_configured_encoders() -> None:
    records = MemoryDocuments().records
    for text in ("{", "[]", '{"active": 3, "former": null, "dimension": 0, "configured": ""}'):
        await records.save_state(STATE, text)
        assert await read_state(records) == CheckpointState()
    await records.save_state(STATE, "")
    await records.save_state(STAGING, "7")
    assert await read_state(records) == CheckpointState()
