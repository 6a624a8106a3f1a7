from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from store import snapshot
from store.documents.base import held_of
from store.entry import EntryId, Held, PartitionKey, Vector, Version
from store.errors import SnapshotFailed, SnapshotInvalid
from store.index import PartitionedIndex
from store.journal import Mark
from store.snapshot import Contents
from tests.entries import CHECKPOINT, DIMENSION, KEY, NOON, OTHER_KEY, directions, entry

PROMOTE = 32
VECTORS = directions(400)
MARK = Mark("first", 41)


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def new_index() -> PartitionedIndex:
    return PartitionedIndex(DIMENSION, promote_rows=PROMOTE, threads=2)


def held(number: int, key: PartitionKey = KEY) -> Held:
    return held_of(entry(f"e{number}", key=key))


def contents(*entries: Held, owed: tuple[str, ...] = ()) -> Callable[[], Contents]:
    return lambda: Contents(MARK, entries, {}, [Version(EntryId(id), NOON) for id in owed])


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
    return [one for block in taken.held() for one, _ in block]


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
    assert (back.mark, back.entries, back.vectors, back.owed) == (MARK, 200, 200, (("gone", NOON),))
    assert [one for block in back.held() for one, _ in block] == entries
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
    )
    index, past = new_index(), (VECTORS[3], None)
    entries = (rich, held(2, OTHER_KEY), replace(rich, id=EntryId("e3")))
    now = Contents(MARK, entries, {rich.id: past, EntryId("e3"): past}, [])
    snapshot.write(tmp_path, checkpoint=CHECKPOINT, index=index, contents=now)
    taken = read(tmp_path)
    assert taken is not None
    ((one, one_past), (two, two_past), (three, three_past)) = next(iter(taken.held()))
    await taken.index.aclose()
    assert (one, two.key, three.id) == (rich, OTHER_KEY, "e3")
    assert one.approved
    assert not two.approved
    assert two_past == ()
    for first, second in (one_past, three_past):
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
    assert neighbor.id is block[1][0].id
    for one in (index, back.index):
        await one.aclose()


async def test_entries_that_many_blocks_hold_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.held_file.BLOCK", 7)
    index = new_index()
    entries = [held(number, (KEY, OTHER_KEY)[number % 3 == 0]) for number in range(50)]
    write(tmp_path, index, *entries)
    assert await read_and_close(tmp_path) == entries
    await index.aclose()


async def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    index, _ = await filled(3)

    class Endless:
        def __iter__(self) -> Iterator[Held]:
            signal.pause()
            yield held(0)

    with pytest.raises(SnapshotFailed, match="not done after"):
        await snapshot.take(
            tmp_path,
            checkpoint=CHECKPOINT,
            index=index,
            contents=lambda: Contents(MARK, Endless(), {}, []),
            patience=0.2,
        )
    assert read(tmp_path) is None
    await index.aclose()


async def test_vectors_on_their_way_arrive_before_memory_is_copied(tmp_path: Path) -> None:
    index, entries = await filled(3)
    for number in range(3, 100):
        index.put(KEY, EntryId(f"e{number}"), VECTORS[number])
    await asyncio.sleep(0)
    assert index._slice.locked()

    def now() -> Contents:
        (graph,) = index._partitions[KEY].graphs
        assert graph.live == graph.taken > 0
        return Contents(MARK, map(held, range(100)), {}, [])

    await snapshot.take(tmp_path, checkpoint=CHECKPOINT, index=index, contents=now)
    assert len(await read_and_close(tmp_path)) == 100
    await index.aclose()


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
    with monkeypatch.context() as before:
        before.setattr(snapshot, "FORMAT", 1)
        write(tmp_path, index, *entries)
    with pytest.raises(SnapshotInvalid, match="format is 1, not 3"):
        read(tmp_path)
    await index.aclose()


async def test_a_flipped_byte_anywhere_is_refused(tmp_path: Path) -> None:
    index, entries = await filled(60)
    write(tmp_path, index, *entries)
    written = {path: path.read_bytes() for path in files(tmp_path)}
    assert len([whole for whole in written.values() if whole]) >= 9
    for path, whole in written.items():
        if not whole:
            continue
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
    for path in files(tmp_path):
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
    assert names(tmp_path) == ["0000000002"]
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
    assert names(tmp_path) == ["0000000001"]
    assert await read_and_close(tmp_path) == entries
    await index.aclose()


async def test_a_child_that_is_killed_in_the_middle_leaves_the_former_snapshot(
    tmp_path: Path,
) -> None:
    index, entries = await filled(3)
    write(tmp_path, index, *entries)

    class Deadly:
        def __getattr__(self, name: str) -> Any:
            if name == "cost":
                os.kill(os.getpid(), signal.SIGKILL)
            return getattr(entries[0], name)

    deadly = cast(Held, Deadly())
    with pytest.raises(SnapshotFailed, match="ended by signal 9"):
        await snapshot.take(tmp_path, checkpoint=CHECKPOINT, index=index, contents=contents(deadly))
    assert [name.rpartition(".")[2] for name in names(tmp_path)] == ["0000000001", "partial"]
    assert await read_and_close(tmp_path) == entries
    await index.aclose()


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
    assert [one.id for block in back.held() for one, _ in block] == list(alive)
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
