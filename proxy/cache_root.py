"""The composition of memory: restored from a snapshot and the journal, or from what is stored."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from proxy.documents_root import Shelves
from proxy.encoding import Encoding
from proxy.rules import InForce
from proxy.settings import Settings
from proxy.snapshots import FOLDER, SnapshotKeeper, read_snapshot
from store.cache import Cache
from store.errors import JournalGap, SnapshotInvalid
from store.index import PartitionedIndex
from store.policy import PolicyBook
from store.redis.replica import Replica
from store.snapshot import Snapshot
from store.vectors import Maker

Progress = Callable[[str], None]
REPLAYED_AT_ONCE = 500  # records


class Restored(NamedTuple):
    """Memory, and what keeps copies of it."""

    cache: Cache
    keeper: SnapshotKeeper


async def open_cache(
    settings: Settings,
    in_force: InForce,
    shelves: Shelves,
    made: Maker,
    stack: AsyncExitStack,
    on_progress: Progress,
) -> Restored:
    """Restore what is stored, to be closed with `stack`; raise StoreUnavailable.

    `made` gives vectors of entries that were stored under another checkpoint.
    """
    folder, encoding = settings.data_dir / FOLDER, in_force.rules.encoding
    snapshot = await read_snapshot(
        folder, checkpoint=encoding.checkpoint, dimension=encoding.dimension
    )
    if isinstance(shelves.membership, Replica):
        mark = None if snapshot is None else snapshot.mark
        if not await shelves.membership.join(mark) and snapshot is not None:
            await snapshot.index.aclose()
            snapshot = None
    cache = await _opened(
        settings, in_force.rules.book, shelves, encoding, made, snapshot, _ticker(on_progress)
    )
    stack.push_async_callback(_close_indexes, cache)
    stack.push_async_callback(cache.aclose)
    keeper = SnapshotKeeper(
        folder,
        cache=cache,
        current=partial(_current, cache, in_force),
        journal=shelves.journal,
        membership=shelves.membership,
    )
    # What was restored lives long: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    # Or whatever this app leaves in cycles would outlive it for as long as the process runs.
    stack.callback(gc.unfreeze)
    return Restored(cache, keeper)


async def _opened(
    settings: Settings,
    book: PolicyBook,
    shelves: Shelves,
    encoding: Encoding,
    made: Maker,
    snapshot: Snapshot | None,
    progress: Callable[[int, int], None],
) -> Cache:
    index = PartitionedIndex(encoding.dimension) if snapshot is None else snapshot.index
    replay = snapshot is not None and not isinstance(shelves.membership, Replica)
    try:
        with index.hurry():
            cache = await Cache.open(
                shelves.documents,
                index=index,
                shares=book.shares,
                checkpoint=encoding.checkpoint,
                hot_bytes=settings.hot_bytes,
                snapshot=snapshot,
                made=made,
                since=(
                    shelves.journal.read(snapshot.mark, REPLAYED_AT_ONCE)
                    if replay and snapshot is not None
                    else None
                ),
                barred=await shelves.barrier(),
                on_progress=progress,
            )
        return cache
    except (SnapshotInvalid, JournalGap):
        await index.aclose()
        return await _opened(settings, book, shelves, encoding, made, None, progress)
    except BaseException:
        await index.aclose()
        raise


def _current(cache: Cache, in_force: InForce) -> tuple[str, PartitionedIndex]:
    """Return the checkpoint in force and its index: a snapshot holds one, that one."""
    checkpoint = in_force.rules.encoding.checkpoint
    index = cache.vectors[checkpoint].index
    assert isinstance(index, PartitionedIndex)
    return checkpoint, index


async def _close_indexes(cache: Cache) -> None:
    for checkpoint in cache.vectors.checkpoints:
        await cache.vectors[checkpoint].index.aclose()


def _ticker(on_progress: Progress) -> Callable[[int, int], None]:
    """Return what tells of progress at most once a second."""
    said = time.monotonic()

    def restored(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > 1.0:
            said = time.monotonic()
            on_progress(f"restoring entries: {done} of {total}")

    return restored
