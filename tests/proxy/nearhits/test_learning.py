"""What near-hits have taught is kept, taken up again, and the same whoever observed it."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from icl.manager import ExampleBook
from icl.router import Router
from icl.utility import UtilityModel
from proxy.admin.sessions import STATE as SESSIONS
from proxy.nearhits import learning as learning_module
from proxy.nearhits.learning import MOST_EXAMPLES, Learning
from store.documents.base import Stored, held_of
from store.documents.heads import microseconds
from store.documents.records import STATE_BYTES
from store.entry import EntryId
from store.errors import StoreUnavailable
from store.journal import Approved, Change, Learnt, Put, Record, Removed
from tests.entries import NOON, entry
from tests.fakes_documents import MemoryDocuments
from tests.fakes_records import MemoryRecords
from tests.proxy.nearhits.calls import observation

A, B = EntryId("a"), EntryId("b")
OF_A, OF_B = held_of(entry("a")), held_of(entry("b"))
AT = NOON.timestamp()
AT_US = microseconds(NOON)


class Journal:
    """Takes what is told to other replicas. Set `failing` to refuse it."""

    def __init__(self) -> None:
        self.told: list[Change] = []
        self.failing = False

    async def tell(self, change: Change) -> None:
        if self.failing:
            raise StoreUnavailable("out of order")
        self.told.append(change)


def learning_on(records: MemoryRecords, journal: Journal | None = None) -> Learning:
    draw = random.Random(7)
    return Learning(
        router=Router(draw=draw),
        utility=UtilityModel(),
        book=ExampleBook(most=MOST_EXAMPLES),
        records=records,
        tell=(journal or Journal()).tell,
        price_of=lambda small: 0.1,
        draw=draw,
    )


async def restarted(records: MemoryRecords) -> Learning:
    learning = learning_on(records)
    await learning.load(partial(Router.from_data, draw=random.Random(7)))
    return learning


def known(learning: Learning) -> dict[str, Any]:
    return {
        "router": learning.router.as_data(),
        "utility": learning.utility.as_data(),
        "threshold": learning.tuner.as_data(),
        "examples": learning.book.as_data(),
    }


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryDocuments().records


async def taught(records: MemoryRecords) -> Learning:
    """Return one that has learnt something of every kind."""
    learning = learning_on(records)
    for quality in (1.0, 1.0, 0.0, 1.0):
        await learning.observe(observation(quality, features=((0.5,) * 12,)))
    learning.offered((A, B), AT)
    learning.replayed(A, 0.4)
    learning.improve(OF_A, "With graphite.")
    return learning


async def test_what_others_keep_beside_it_is_not_looked_at(
    records: MemoryRecords, caplog: pytest.LogCaptureFixture
) -> None:
    await records.save_state(SESSIONS, "d1e96e62")  # not JSON, and no fault
    await restarted(records)
    assert caplog.messages == []


async def test_all_that_was_learnt_is_known_again_after_a_restart(records: MemoryRecords) -> None:
    before = await taught(records)
    await before.save()
    after = await restarted(records)
    assert known(after) == known(before)
    assert after.router.standings() == before.router.standings() != []
    assert after.improved(OF_A) == "With graphite."
    assert after.improved(OF_B) is None
    assert after.book.record(A, AT) == before.book.record(A, AT)
    assert after.book.record(A, AT).replays == 1


@pytest.mark.parametrize("name", ["router", "utility", "threshold", "examples", "improved"])
@pytest.mark.parametrize("state", ["", "{", "null", "[]", "7", '"x"', "{}", '{"version": 99}'])
async def test_a_state_that_cannot_be_read_begins_anew_and_costs_no_other(
    records: MemoryRecords, name: str, state: str
) -> None:
    before = await taught(records)
    await before.save()
    await records.save_state(name, state)
    after, fresh = known(await restarted(records)), known(learning_on(records))
    for each, data in known(before).items():
        assert after[each] == (fresh[each] if each == name else data)


async def test_a_state_of_an_unknown_name_is_passed_over(records: MemoryRecords) -> None:
    await records.save_state("of a later version", "{}")
    assert known(await restarted(records)) == known(learning_on(records))


async def test_improved_answers_of_no_known_version_are_passed_over(records: MemoryRecords) -> None:
    await records.save_state(
        "improved", json.dumps({"a": "of no version", "b": [AT_US, "With oil."]})
    )
    after = await restarted(records)
    assert after.improved(OF_B) == "With oil."
    assert after.improved(OF_A) is None


async def test_nothing_new_writes_nothing(records: MemoryRecords) -> None:
    learning = learning_on(records)
    await learning.save()
    learning.offered((), AT)
    await learning.save()
    assert await records.states() == {}


async def test_a_store_that_fails_is_asked_again(records: MemoryRecords) -> None:
    learning = await taught(records)
    records.failing = True
    await learning.save()
    records.failing = False
    assert await records.states() == {}
    await learning.save()
    assert known(await restarted(records)) == known(learning)


async def test_what_is_learnt_while_it_is_written_down_is_written_next(
    records: MemoryRecords,
) -> None:
    learning = await taught(records)
    saving = asyncio.create_task(learning.save())
    await asyncio.sleep(0)  # it takes the states in its first step
    await learning.observe(observation(0.0))
    await saving
    await learning.save()
    assert known(await restarted(records)) == known(learning)


async def test_a_save_that_is_cut_short_is_made_up_for(
    records: MemoryRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = await taught(records)
    begun, save_state = asyncio.Event(), records.save_state

    async def hangs(name: str, state: str) -> None:
        begun.set()
        await asyncio.sleep(30)

    monkeypatch.setattr(records, "save_state", hangs)
    saving = asyncio.create_task(learning.save())
    await begun.wait()
    saving.cancel()
    await asyncio.gather(saving, return_exceptions=True)
    monkeypatch.setattr(records, "save_state", save_state)
    await learning.save()
    assert known(await restarted(records)) == known(learning)


async def test_it_is_written_down_every_few_seconds(
    records: MemoryRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_module, "_EVERY", 0.005)
    learning = learning_on(records)
    keeping = asyncio.create_task(learning.keep())
    await learning.observe(observation())
    async with asyncio.timeout(10):
        while "improved" not in await records.states():  # noqa: ASYNC110 - the last one written
            await asyncio.sleep(0.005)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert known(await restarted(records)) == known(learning)


async def test_what_one_replica_observes_the_other_knows(records: MemoryRecords) -> None:
    journal = Journal()
    here, there = learning_on(records, journal), learning_on(MemoryDocuments().records)
    for quality in (1.0, 0.0, 1.0):
        await here.observe(observation(quality, features=((0.5,) * 12,)))
    for position, change in enumerate(journal.told):
        there.apply(Record(position, change, own=False))
    assert known(there) == known(here)


async def test_one_s_own_observations_are_not_taken_up_twice(records: MemoryRecords) -> None:
    journal = Journal()
    learning = learning_on(records, journal)
    await learning.observe(observation())
    before = known(learning)
    for change in journal.told:
        learning.apply(Record(1, change, own=True))
    assert known(learning) == before


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", observation().to_bytes()[:-9]])
async def test_an_observation_that_cannot_be_read_changes_nothing(
    records: MemoryRecords, data: bytes
) -> None:
    learning = await taught(records)
    before = known(learning)
    learning.apply(Record(1, Learnt(data), own=False))
    learning.apply(Record(2, Approved((A,)), own=False))
    assert known(learning) == before


async def test_an_observation_counts_though_the_others_cannot_be_told(
    records: MemoryRecords,
) -> None:
    journal = Journal()
    journal.failing = True
    learning = learning_on(records, journal)
    await learning.observe(observation())
    assert learning.router.standings()


async def test_without_examples_only_the_router_learns(records: MemoryRecords) -> None:
    learning, fresh = learning_on(records), learning_on(records)
    await learning.observe(observation(arm="small", examples=(), level=-1.0))
    known_now, known_first = known(learning), known(fresh)
    assert known_now.pop("router") != known_first.pop("router")
    assert known_now == known_first


async def test_as_many_improved_answers_as_are_kept_can_be_written_down(
    records: MemoryRecords,
) -> None:
    learning = learning_on(records)
    for number in range(1000):
        learning.improve(held_of(entry(f"{number:032x}")), "漢" * 4000)
    await learning.save()
    (state,) = [state for name, state in (await records.states()).items() if name == "improved"]
    assert len(state.encode()) <= STATE_BYTES
    assert (await restarted(records)).improved(held_of(entry(f"{999:032x}"))) == "漢" * 4000


@pytest.mark.parametrize("purged", [True, False])
@pytest.mark.parametrize("own", [True, False])
async def test_an_entry_that_is_gone_takes_what_was_learnt_of_it_along(
    records: MemoryRecords, purged: bool, own: bool
) -> None:
    learning = await taught(records)
    learning.improve(OF_B, "With butter.")
    await learning.save()
    learning.apply(Record(1, Removed((A,), purged=purged), own=own))
    assert learning.improved(OF_A) is None
    assert learning.book.record(A, AT).offered == 0.0
    assert learning.improved(OF_B) == "With butter."
    await learning.save()
    assert (await restarted(records)).improved(OF_A) is None


async def test_what_improved_an_answer_is_not_shown_for_the_next_after_a_kill(
    records: MemoryRecords,
) -> None:
    learning = await taught(records)
    await learning.save()  # and is killed, once the entry is replaced, before it saves again
    replaced = held_of(entry("a", created_at=NOON + timedelta(seconds=1)))
    after = await restarted(records)
    assert after.improved(replaced) is None
    assert after.improved(OF_A) == "With graphite."


async def test_a_new_answer_is_shown_and_not_what_improved_the_old_one(
    records: MemoryRecords,
) -> None:
    learning = await taught(records)
    new = entry("a")
    learning.apply(Record(1, Put(Stored(held_of(new), new.checkpoint, new.vector))))
    assert learning.improved(OF_A) is None


async def test_entries_that_went_while_nobody_was_looking_are_let_go(
    records: MemoryRecords,
) -> None:
    learning = await taught(records)
    learning.forget_lost(lambda id: id == B)
    assert learning.improved(OF_A) is None
    assert list(learning.book) == [B]


async def test_what_was_asked_under_instructions_is_not_worth_a_replay(
    records: MemoryRecords,
) -> None:
    learning = learning_on(records)
    for id, bare in ((A, True), (B, False)):
        await learning.observe(observation(0.0, examples=(id,), bare=bare))
    assert {each.id: each.gain for each in learning.book.accounts(AT)} == {A: 0.9, B: 0.0}
