"""Export files: written whole or not at all, read line by line; `.gz` by their suffix."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from store.errors import TransferInvalid

MAX_LINE = 2**29  # bytes; far above the largest answer that can be stored
STDOUT = Path("-")
_LEVEL = 6


@contextmanager
def written_whole(file: Path) -> Iterator[BinaryIO]:
    """Give what to write to; the file appears, or is replaced, when the block ends well.

    Only its owner may read it: it holds questions and answers. `-` is stdout. Raises OSError.
    """
    if file == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    # Through a link to where it leads, and beside that: a rename does not cross file systems.
    target = file.resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            if file.suffix == ".gz":
                with gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(target)
        _sync_directory(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ExportFile:
    """An export, opened once and read as often as needed."""

    def __init__(self, file: Path, raw: BinaryIO) -> None:
        self.file = file
        self._raw = raw
        self._size = max(1, os.fstat(raw.fileno()).st_size)

    @property
    def share(self) -> float:
        """How much of it has been read this time, 0 to 1."""
        return min(1.0, self._raw.tell() / self._size)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines from the first on; raise TransferInvalid where it cannot be unpacked."""
        self._raw.seek(0)
        packed = self.file.suffix == ".gz"
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw)) if packed else self._raw
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(MAX_LINE + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise TransferInvalid(
                    f"line {number}: cannot be unpacked, the file was cut or altered: {error}"
                ) from None
            if not line:
                return
            if len(line) > MAX_LINE:
                raise TransferInvalid(f"line {number}: is longer than {MAX_LINE} bytes")
            yield line


@contextmanager
def opened(file: Path) -> Iterator[ExportFile]:
    """Open an export; its faults name the file. Raises TransferInvalid and OSError.

    It is read twice, so it has to be a file that lies still, and no pipe.
    """
    if not file.is_file():
        raise TransferInvalid(
            f"{file}: is not a file; an import reads it twice, so a pipe cannot be imported"
            if file == STDOUT or file.exists()
            else f"{file}: does not exist"
        )
    with file.open("rb") as raw:
        try:
            yield ExportFile(file, raw)
        except TransferInvalid as error:
            raise TransferInvalid(f"{file}: {error}") from None


class Ticker:
    """Says how far long work is, at most once a second."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say = say
        self._clock = clock
        self._said = clock()

    def __call__(self, line: str, *values: object) -> None:
        """Say the line, with the values in their places, if it is time for one."""
        now = self._clock()
        if now - self._said >= 1.0:
            self._said = now
            self._say(line.format(*values))
