"""Vectors that one checkpoint has made of texts, in a file that only grows.

Re-encoding what is stored takes minutes or hours; what is in here need not be done again after a
restart, nor when one goes back to a checkpoint. A record is the SHA-256 of the text, the vector and
a checksum of both, all records of one length; a text that the checkpoint has no vector of has a
record of zeros. What is damaged or torn counts as not there, and is made again. The vectors stay
in the file: memory keeps eight bytes and a number of each.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from store.entry import Vector

log = logging.getLogger(__name__)

DIGEST_BYTES, CHECKSUM_BYTES = 32, 4
READ_AT_ONCE = 4096  # records
FRESH = 8192  # records that may wait for being sorted in
STORED = np.dtype("<f4")


def digest_of(text: str) -> bytes:
    """Return what a text is remembered by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def file_name(checkpoint: str) -> str:
    """Return the name of a checkpoint's file; an id of a remote encoder may be no file name."""
    return f"{digest_of(checkpoint).hex()[:16]}.vectors"


class VectorFile:
    """The vectors of one checkpoint. Blocks; one thread may add while others read."""

    def __init__(self, path: Path, handle: int, head: bytes, dimension: int) -> None:
        """Use `open`."""
        self._path = path
        self._handle = handle
        self._start = len(head)
        self._dimension = dimension
        self._record = DIGEST_BYTES + dimension * STORED.itemsize + CHECKSUM_BYTES
        # Prefixes of digests in order, and the numbers of their records: swapped as one.
        self._sorted = (np.empty(0, np.uint64), np.empty(0, np.int64))
        self._fresh: dict[bytes, int] = {}
        self._count = 0

    @classmethod
    def open(cls, directory: Path, checkpoint: str, dimension: int) -> Self:
        """Open a checkpoint's file, empty if there is none or it is none; raise OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / file_name(checkpoint)
        head = f"nearhit vectors 1 {dimension} {checkpoint}\n".encode()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = cls(path, handle, head, dimension)
            if os.pread(handle, len(head), 0) != head:
                if os.fstat(handle).st_size:
                    log.warning("%s is not of this checkpoint and begins anew", path)
                os.ftruncate(handle, 0)
                os.pwrite(handle, head, 0)
            found._read()
        except BaseException:
            os.close(handle)
            raise
        return found

    def __len__(self) -> int:
        """How many records there are, damaged ones too."""
        return self._count

    def knows(self, text: str) -> bool:
        """Whether the text was encoded, or found to be none that can be. Raises OSError."""
        return self._find(digest_of(text)) is not None

    def get(self, text: str) -> Vector | None:
        """Return the text's unit vector of shape (d,); None if there is none. Raises OSError."""
        found = self._find(digest_of(text))
        return found if found is not None and found.any() else None

    def add(self, vectors: Mapping[str, Vector | None]) -> None:
        """Append the vectors of texts, None for a text that has none. Raises OSError."""
        rows = []
        for text, vector in vectors.items():
            whole = np.zeros(self._dimension, STORED) if vector is None else vector
            row = digest_of(text) + whole.astype(STORED).tobytes()
            rows.append(row + zlib.crc32(row).to_bytes(CHECKSUM_BYTES, "little"))
        os.pwrite(self._handle, b"".join(rows), self._start + self._count * self._record)
        for row in rows:
            self._fresh[row[:DIGEST_BYTES]] = self._count
            self._count += 1
        if len(self._fresh) > max(FRESH, len(self._sorted[0]) // 4):
            self._sort_in()

    def sync(self) -> None:
        """Have all of it survive a loss of power. Raises OSError."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _find(self, digest: bytes) -> Vector | None:
        """Return the vector of a digest, zeros for one that has none; None if it is not known."""
        place = self._fresh.get(digest)
        if place is not None:
            return self._at(place, digest)
        prefix = np.uint64(int.from_bytes(digest[:8], "big"))
        prefixes, places = self._sorted
        first = int(np.searchsorted(prefixes, prefix))
        while first < len(prefixes) and prefixes[first] == prefix:
            found = self._at(int(places[first]), digest)
            if found is not None:
                return found
            first += 1
        return None

    def _at(self, place: int, digest: bytes) -> Vector | None:
        row = os.pread(self._handle, self._record, self._start + place * self._record)
        if not _is_sound(row) or not row.startswith(digest):
            return None
        return np.frombuffer(row[DIGEST_BYTES:-CHECKSUM_BYTES], STORED).astype(np.float32)

    def _read(self) -> None:
        """Learn what the file holds, and cut off what was being written when it ended."""
        size = os.fstat(self._handle).st_size - self._start
        self._count = size // self._record
        if size % self._record:
            os.ftruncate(self._handle, self._start + self._count * self._record)
        for start in range(0, self._count, READ_AT_ONCE):
            many = min(READ_AT_ONCE, self._count - start)
            block = os.pread(self._handle, many * self._record, self._start + start * self._record)
            for number in range(many):
                row = block[number * self._record : (number + 1) * self._record]
                if _is_sound(row):
                    self._fresh[row[:DIGEST_BYTES]] = start + number
            self._sort_in()

    def _sort_in(self) -> None:
        prefixes = np.concatenate([self._sorted[0], _prefixes_of(self._fresh)])
        places = np.concatenate([self._sorted[1], np.fromiter(self._fresh.values(), np.int64)])
        order = np.argsort(prefixes, kind="stable")
        self._sorted = (prefixes[order], places[order])
        self._fresh = {}


def _prefixes_of(digests: Iterable[bytes]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    numbers = [int.from_bytes(digest[:8], "big") for digest in digests]
    return np.array(numbers, np.uint64)


def _is_sound(row: bytes) -> bool:
    checked = int.from_bytes(row[-CHECKSUM_BYTES:], "little")
    return len(row) > CHECKSUM_BYTES and zlib.crc32(row[:-CHECKSUM_BYTES]) == checked


def delete_others(directory: Path, checkpoints: Iterable[str]) -> None:
    """Delete the files of all checkpoints but these; what cannot be deleted stays."""
    kept = {file_name(checkpoint) for checkpoint in checkpoints}
    for path in directory.glob("*.vectors"):
        if path.name not in kept:
            try:
                path.unlink()
            except OSError as error:
                log.warning("%s stays: %s", path, error)
