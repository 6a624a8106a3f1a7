"""A replica takes part in what another one promotes, and says how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from embed.errors import CheckpointInvalid
from proxy import following
from proxy.checkpoint_state import CheckpointState, save_staging
from proxy.following import Following, NotStaged, Replicas
from store.documents.records import Records
from store.errors import StoreUnavailable
from store.membership import Membership
from tests.fakes_documents import MemoryDocuments

STAGING = CheckpointState(staging="better-1", attempt="one")


class Seat:
    """A replica's place among two."""

    shared = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def others(self) -> set[str]:
        return {"one", "two"} - {self.name}

    async def tell(self, change: object) -> None:
        pass


class Cut:
    """Records that a replica cannot reach the first times that it writes."""

    def __init__(self, records: Records, fails: int) -> None:
        self._records = records
        self.fails = fails

    async def save_state(self, name: str, state: str) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("timed out")
        await self._records.save_state(name, state)

    async def states(self) -> dict[str, str]:
        return await self._records.states()


def replicas(records: object, name: str) -> Replicas:
    return Replicas(cast(Records, records), cast(Membership, Seat(name)), f"{name}:8080")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(following, "ASK_EVERY", 0.02)


async def waited_for(stages: Sequence[Exception | None], fails: int) -> None:
    """Have one wait for two, whose tries to stage come to this, and whose first reports fail."""
    shared = MemoryDocuments().records
    cut, tries = Cut(shared, fails), list(stages)

    async def help_stage(state: CheckpointState) -> None:
        assert state.staging == "better-1"
        fault = tries.pop(0) if len(tries) > 1 else tries[0]
        if fault is not None:
            raise fault

    async def take_up(state: CheckpointState) -> None:
        pass

    helper = Following(
        cast(Records, cut),
        replicas(cut, "two"),
        busy=lambda: False,
        take_up=take_up,
        help_stage=help_stage,
    )
    await save_staging(shared, STAGING)
    helper.start()
    try:
        async with asyncio.timeout(5):
            await replicas(shared, "one").staged(STAGING.attempt)
    finally:
        await helper.aclose()


async def test_a_replica_that_could_not_say_that_it_has_staged_says_it_again() -> None:
    await waited_for([None], fails=2)


async def test_a_replica_that_could_not_say_why_it_cannot_stage_says_it_again() -> None:
    with pytest.raises(NotStaged, match="two:8080 cannot take it up: no manifest"):
        await waited_for([CheckpointInvalid("no manifest")], fails=2)


async def test_a_replica_stages_again_once_the_store_tells_what_it_did_not() -> None:
    await waited_for([StoreUnavailable("timed out"), None], fails=0)
