"""Snapshots of memory: what a restart reads instead of every document.

A snapshot is a directory of files and a manifest that says what they are and carries their digests.
It is written under a temporary name, synced, and renamed; only then is the former one removed.
Whatever is not exactly as it was written is refused, and the caller rebuilds from the documents.

    snapshots/0000000007/manifest          digest of the rest of the line; format, mark, digests
                         held.bin, names.json, owed.json
                         index/            see store.index_files
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from store.documents.heads import instant, microseconds
from store.entry import EntryId, Held, Version
from store.errors import SnapshotFailed, SnapshotInvalid
from store.forked import Child, ChildFailed
from store.held_file import HeldWithPast, NameLists, Past, load_held, save_held
from store.index import PROMOTE_ROWS, PartitionedIndex
from store.index_files import load_index, save_index
from store.journal import Mark

FORMAT = 3
MANIFEST, OWED, INDEX = "manifest", "owed.json", "index"
PARTIAL = ".partial"
SERIAL_DIGITS = 10
PATIENCE = 900.0  # seconds for a child to write it
# SHA-256 is twice as fast where the processor has it built in, but comes from OpenSSL, whose locks
# another thread may hold when the child is forked. The template is made before any fork.
DIGEST = hashlib.sha256()
READ_AT_ONCE = 2**20
DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, struct.error)


class Contents(NamedTuple):
    """What memory holds at one moment, besides the index."""

    mark: Mark  # the end of the journal that it reflects
    held: Iterable[Held]  # in the order of their puts
    earlier: Mapping[EntryId, Past]  # vectors of earlier turns, by the index's checkpoint
    owed: Sequence[Version]  # rows that memory does not hold and that are to be deleted


class Taken(NamedTuple):
    """What became of a snapshot."""

    mark: Mark  # the journal may be truncated up to here
    stall: float  # seconds for which the event loop stood still


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verified snapshot."""

    mark: Mark
    entries: int
    vectors: int
    owed: tuple[Version, ...]
    index: PartitionedIndex  # complete; close it if it is not used
    _folder: Path
    _names: NameLists

    def held(self) -> Iterator[list[HeldWithPast]]:
        """Yield the entries in the order of their puts, some 2,000 at a time, once.

        With each go the vectors of its earlier turns; its own, if it has one, is in `index`
        already. Raises SnapshotInvalid when the
        files are not those that were verified.
        """
        try:
            yield from load_held(self._folder, self.index.dimension, self._names)
        except DAMAGE as error:
            raise SnapshotInvalid(f"{self._folder}: {error}") from error


async def take(
    directory: Path,
    *,
    checkpoint: str,
    index: PartitionedIndex,
    contents: Callable[[], Contents],
    patience: float = PATIENCE,
) -> Taken:
    """Write a snapshot of this process's memory in a forked child; return when it is durable.

    `contents` is called when no vector is on its way, in the same step of the event loop in which
    memory is copied; what it returns may refer to living collections. Raises SnapshotFailed.
    """
    try:
        async with index.still():
            started = time.perf_counter()
            now = contents()
            child = Child(
                lambda: write(directory, checkpoint=checkpoint, index=index, contents=now)
            )
            stall = time.perf_counter() - started
        await child.ended(patience)
    except (OSError, ChildFailed) as error:
        raise SnapshotFailed(f"no snapshot in {directory}: {error}") from error
    return Taken(now.mark, stall)


def write(directory: Path, *, checkpoint: str, index: PartitionedIndex, contents: Contents) -> None:
    """Write a snapshot in this thread: it holds the interpreter for seconds if it is large.

    Nothing may change any of it meanwhile; take it inside `index.still()`. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    former = finished(directory)
    serial = int(former[-1].name) + 1 if former else 1
    final = directory / f"{serial:0{SERIAL_DIGITS}}"
    for left_over in directory.glob(f"*{PARTIAL}"):
        shutil.rmtree(left_over, ignore_errors=True)
    folder = final.with_suffix(f".{os.getpid()}{PARTIAL}")
    parent = os.getppid()
    try:
        (folder / INDEX).mkdir(parents=True)
        names = save_held(contents.held, folder, contents.earlier)
        vectors = save_index(index, folder / INDEX, names.ids, names.keys)
        owed = [(id, microseconds(at)) for id, at in contents.owed]
        (folder / OWED).write_bytes(orjson.dumps(owed))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        about = {
            "format": FORMAT,
            "mark": list(contents.mark),
            "checkpoint": checkpoint,
            "dimension": index.dimension,
            "entries": len(names.ids),
            "vectors": vectors,
            "files": {str(path.relative_to(folder)): digest_of(path) for path in files},
        }
        text = orjson.dumps(about)
        (folder / MANIFEST).write_bytes(digest(text).encode() + b"\n" + text)
        for path in (*files, folder / MANIFEST, folder / INDEX, folder):
            sync(path)
        if os.getppid() != parent:  # whoever forked us has ended, and another may write here now
            raise OSError("the process that wanted it has ended")
        folder.rename(final)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync(directory)
    for path in former:
        shutil.rmtree(path, ignore_errors=True)


def read(
    directory: Path,
    *,
    checkpoint: str,
    dimension: int,
    promote_rows: int = PROMOTE_ROWS,
    threads: int | None = None,
) -> Snapshot | None:
    """Return the newest snapshot with its index loaded; None when there is none. Blocks.

    Raises SnapshotInvalid when it is damaged, or of another format, checkpoint or dimension.
    """
    there = finished(directory)
    if not there:
        return None
    folder = there[-1]
    try:
        about = verified(folder)
        wanted = {"format": FORMAT, "checkpoint": checkpoint, "dimension": dimension}
        for name, value in wanted.items():
            if about[name] != value:
                raise ValueError(f"{name} is {about[name]!r}, not {value!r}")
        names = NameLists(folder)
        rows = orjson.loads((folder / OWED).read_bytes())
        owed = tuple(Version(id, instant(at_us)) for id, at_us in rows)
        index = load_index(
            folder / INDEX,
            dimension,
            names.ids,
            names.keys,
            promote_rows=promote_rows,
            threads=threads,
        )
        mark = Mark(*about["mark"])
        return Snapshot(mark, about["entries"], about["vectors"], owed, index, folder, names)
    except DAMAGE as error:
        raise SnapshotInvalid(f"snapshot {folder} cannot be used: {error}") from error


def verified(folder: Path) -> dict[str, Any]:
    """Return the manifest, all of whose files are there and as they were written.

    Raises ValueError or OSError.
    """
    said, _, text = (folder / MANIFEST).read_bytes().partition(b"\n")
    if said.decode("ascii") != digest(text):
        raise ValueError("the manifest is damaged")
    about: dict[str, Any] = orjson.loads(text)
    if about["format"] != FORMAT:
        return about  # of which we know no more
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if found - {MANIFEST} != about["files"].keys():
        raise ValueError("files are missing, or there are others")
    for name, expected in about["files"].items():
        if digest_of(folder / name) != expected:
            raise ValueError(f"{name} is damaged")
    return about


def finished(directory: Path) -> list[Path]:
    """Return the complete snapshots, oldest first; more than one after a crash only."""
    return sorted(path for path in directory.glob("[0-9]" * SERIAL_DIGITS) if path.is_dir())


def digest(data: bytes) -> str:
    """Return the digest of some bytes in hex."""
    known = DIGEST.copy()
    known.update(data)
    return known.hexdigest()


def digest_of(path: Path) -> str:
    """Return the digest of a file in hex. Raises OSError."""
    known, buffer = DIGEST.copy(), bytearray(READ_AT_ONCE)
    part = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            known.update(part[:length])
    return known.hexdigest()


def sync(path: Path) -> None:
    """Have a file, or a directory's list of files, survive a loss of power. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
