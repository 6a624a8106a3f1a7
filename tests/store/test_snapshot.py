from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import snapshot
from store.documents.base import held_of
from store.documents.lock import DirectoryLock
from store.entry import EntryId, Held, PartitionKey, Vector
from store.errors import SnapshotFailed, SnapshotInvalid
from store.forked import Child, ChildFailed
from store.index import PartitionedIndex
from store.journal import Mark
from store.snapshot import Contents
from tests.entries import CHECKPOINT, DIMENSION, KEY, NOON, OTHER_KEY, directions, entry

PROMOTE = 32
VECTORS = directions(400)
MARK = Mark("first", 41)


def new_index() -> PartitionedIndex:
    return PartitionedIndex(DIMENSION, promote_rows=PROMOTE, threads=2)


def held(number: int, key: PartitionKey = KEY) -> Held:
    return held_of(entry(f"e{number}", key=key))


def contents(*entries: Held, owed: tuple[str, ...] = ()) -> Callable[[], Contents]:
    return lambda: Contents(MARK, entries, [EntryId(id) for id in owed])


def write(directory: Path, index: PartitionedIndex, *entries: Held) -> None:
    now = contents(*entries)()
    snapshot.write(directory, checkpoint=CHECKPOINT, index=index, contents=now)


def read(directory: Path, **changes: object) -> snapshot.Snapshot | None:
    wanted = {"checkpoint": CHECKPOINT, "dimension": DIMENSION} | changes
    return snapshot.read(directory, promote_rows=PROMOTE, threads=2, **wanted)  # type: ignore[arg-type]


async def read_and_close(directory: Path) -> list[Held]:
    taken = read(directory)
    assert taken is not None
    await taken.index.aclose()
    return [one for block in taken.held() for one in block]


async def filled(count: int) -> tuple[PartitionedIndex, list[Held]]:
    index = new_index()
    for number in range(count):
        index.put(KEY, EntryId(f"e{number}"), VECTORS[number])
    await index.settled()
    return index, [held(number) for number in range(count)]


async def test_what_is_written_in_a_child_is_read_back(tmp_path: Path) -> None:
    index, entries = await filled(200)
    taken = await snapshot.take(
        tmp_path, checkpoint=CHECKPOINT, index=index, contents=contents(*entries, owed=("gone",))
    )
    assert taken.mark == MARK
    back = read(tmp_path)
    assert back is not None
    assert (back.mark, back.entries, back.vectors, back.owed) == (MARK, 200, 200, ("gone",))
    assert [one for block in back.held() for one in block] == entries
    for vector in VECTORS[:200]:
        assert await back.index.search(KEY, vector, 5) == await index.search(KEY, vector, 5)
    for one in (index, back.index):
        await one.aclose()


async def test_every_field_comes_back_with_the_vectors_of_earlier_turns(tmp_path: Path) -> None:
    turns = ("is there a ferry?", "and on Sunday?")
    rich = replace(
        held(1),
        created_at=NOON,
        classifier="c1",
        shared_key="s1",
        approved=True,
        cost=1.25,
        earlier=turns,
        earlier_vectors=(VECTORS[3], None),
    )
    index = new_index()
    write(tmp_path, index, rich, held(2, OTHER_KEY), replace(rich, id=EntryId("e3")))
    one, two, three = await read_and_close(tmp_path)
    assert (one, two.key, three.id) == (rich, OTHER_KEY, "e3")
    assert one.approved
    assert not two.approved
    assert two.earlier_vectors == ()
    for back in (one, three):
        first, second = back.earlier_vectors
        assert second is None
        assert first is not None
        np.testing.assert_array_equal(first, VECTORS[3])
    assert one.key is three.key
    assert one.tenant is two.tenant
    await index.aclose()


async def test_a_directory_without_a_snapshot_has_none(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") is None


async def test_ids_of_the_index_are_those_of_the_entries(tmp_path: Path) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries)
    back = read(tmp_path)
    assert back is not None
    (block,) = back.held()
    (neighbor,) = await back.index.search(KEY, VECTORS[1], 1)
    assert neighbor.id is block[1].id
    for one in (index, back.index):
        await one.aclose()


@pytest.mark.parametrize(
    "changes", [{"checkpoint": "mini-2"}, {"dimension": 16}], ids=["checkpoint", "dimension"]
)
async def test_a_snapshot_of_another_kind_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries)
    with pytest.raises(SnapshotInvalid, match=next(iter(changes))):
        read(tmp_path, **changes)
    await index.aclose()


async def test_a_snapshot_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries)
    monkeypatch.setattr(snapshot, "FORMAT", 2)
    with pytest.raises(SnapshotInvalid, match="format is 1, not 2"):
        read(tmp_path)
    await index.aclose()


async def test_a_flipped_byte_anywhere_is_refused(tmp_path: Path) -> None:
    index, entries = await filled(60)
    write(tmp_path, index, *entries)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) >= 9
    for path in files:
        whole = path.read_bytes()
        for place in {0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            damaged = bytearray(whole)
            damaged[place] ^= 0x20
            path.write_bytes(damaged)
            with pytest.raises(SnapshotInvalid):
                read(tmp_path)
        path.write_bytes(whole)
    assert await read_and_close(tmp_path) == entries
    await index.aclose()


async def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    index, entries = await filled(60)
    write(tmp_path, index, *entries)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(SnapshotInvalid):
            read(tmp_path)
        path.write_bytes(whole)
    (path.parent / "more").touch()
    with pytest.raises(SnapshotInvalid, match="there are others"):
        read(tmp_path)
    await index.aclose()


async def test_the_next_snapshot_replaces_the_former_and_sweeps_up_broken_ones(
    tmp_path: Path,
) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries[:3])
    (tmp_path / "0000000009.77.partial").mkdir()
    write(tmp_path, index, *entries, held(7))
    assert [path.name for path in tmp_path.iterdir()] == ["0000000002"]
    assert len(await read_and_close(tmp_path)) == 4
    await index.aclose()


async def test_a_failure_in_the_child_is_told_and_leaves_the_former_snapshot(
    tmp_path: Path,
) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries)
    with pytest.raises(SnapshotFailed, match="KeyError: 'e0'"):  # the index holds it, memory not
        await snapshot.take(
            tmp_path, checkpoint=CHECKPOINT, index=index, contents=contents(held(9))
        )
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001"]
    assert await read_and_close(tmp_path) == entries
    await index.aclose()


async def test_a_child_that_is_killed_in_the_middle_leaves_the_former_snapshot(
    tmp_path: Path,
) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries)

    class Deadly(Held):
        @property
        def cost(self) -> float:  # type: ignore[override]
            os.kill(os.getpid(), signal.SIGKILL)
            return 0.0

    deadly = object.__new__(Deadly)
    for name in Held.__slots__:
        if name != "cost":
            object.__setattr__(deadly, name, getattr(entries[0], name))
    with pytest.raises(SnapshotFailed, match="ended by signal 9"):
        await snapshot.take(tmp_path, checkpoint=CHECKPOINT, index=index, contents=contents(deadly))
    assert len(list(tmp_path.glob("*.partial"))) == 1
    assert await read_and_close(tmp_path) == entries
    await index.aclose()


async def test_a_child_inherits_neither_locks_nor_sockets(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    reader, writer = os.pipe()
    child = Child(lambda: os.abort() if os.read(0, 1) else signal.pause())
    child.ended  # noqa: B018  it only reads nothing from a closed standard input and waits
    lock.release()
    again = os.open(tmp_path / "nearhit.lock", os.O_RDWR)
    for _ in range(200):
        try:
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            await asyncio.sleep(0.01)
    else:
        pytest.fail("the child still holds the lock")
    os.close(writer)
    assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), 5) == b""
    with pytest.raises(ChildFailed, match="not done after"):
        await child.ended(0.05)
    os.close(reader)
    os.close(again)


async def test_a_child_ends_with_whoever_waits_for_it() -> None:
    child = Child(signal.pause)
    waiting = asyncio.create_task(child.ended(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(child._process, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "remove", "remove", "turn", "settle"]),
        st.integers(min_value=0, max_value=39),
        st.integers(min_value=0, max_value=399),
        st.sampled_from([KEY, OTHER_KEY]),
    ),
    min_size=10,
    max_size=150,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.booleans())
def test_after_any_history_the_index_comes_back_and_lives_on(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int, int, PartitionKey]],
    quiet: bool,
) -> None:
    asyncio.run(live_through(tmp_path_factory.mktemp("snapshots"), steps, quiet))


async def live_through(
    directory: Path, steps: list[tuple[str, int, int, PartitionKey]], quiet: bool
) -> None:
    index = PartitionedIndex(DIMENSION, promote_rows=8, threads=1)
    alive: dict[EntryId, tuple[PartitionKey, Vector]] = {}
    for verb, number, vector, key in steps:
        id = EntryId(f"{key.partition}-{number}")
        if verb == "put":
            alive[id] = (key, VECTORS[vector])
            index.put(key, id, VECTORS[vector])
        elif verb == "remove":
            assert index.remove(key, id) == (alive.pop(id, None) is not None)
        elif verb == "turn":
            await asyncio.sleep(0)
        else:
            await index.settled()
    entries = [replace(held(0, key), id=id) for id, (key, _) in alive.items()]
    if quiet:
        async with index.still():
            write(directory, index, *entries)
        await index.aclose()
    else:  # closed in the middle of a slice: a graph has taken vectors that no book knows of
        await index.aclose()
        write(directory, index, *entries)
    back = snapshot.read(
        directory, checkpoint=CHECKPOINT, dimension=DIMENSION, promote_rows=8, threads=1
    )
    assert back is not None
    index = back.index
    assert [one.id for block in back.held() for one in block] == list(alive)
    await agrees(index, alive)
    for number in range(40, 60):
        id = EntryId(f"{KEY.partition}-{number}")
        alive[id] = (KEY, VECTORS[number])
        index.put(KEY, id, VECTORS[number])
    for id in list(alive)[::2]:
        assert index.remove(alive.pop(id)[0], id)
    await index.settled()
    await agrees(index, alive)
    await index.aclose()


async def agrees(
    index: PartitionedIndex, alive: dict[EntryId, tuple[PartitionKey, Vector]]
) -> None:
    for key in (KEY, OTHER_KEY):
        here = {id: vector for id, (place, vector) in alive.items() if place == key}
        assert index.count(key) == len(here)
        neighbors = await index.search(key, VECTORS[0], 128)
        assert {neighbor.id for neighbor in neighbors} == here.keys()
        assert len(neighbors) == len(here)
        for neighbor in neighbors:
            assert abs(neighbor.similarity - float(here[neighbor.id] @ VECTORS[0])) < 1e-5
