"""The metrics of a host with several workers: each gives its text, whoever is asked gives all.

Series are told apart by a label `worker` and not summed. A sum falls when a worker dies, or is too
busy to answer once, and Prometheus takes every fall of a counter for a restart: it would add all
that the others ever counted. With a label there is a gap instead, in the series that are missing.
Nothing is added to what a request costs: workers count in memory of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SECONDS = 1.0  # that the other workers have to answer
MAX_BYTES = 64 * 2**20  # of one worker's text

log = logging.getLogger("nearhit.metrics")


class Place(NamedTuple):
    """A worker's place among those of its host."""

    number: int  # from 0
    workers: int
    sockets: Path  # the directory in which each has a socket for its metrics
    data_dir: Path  # the host's, in which each worker has one of its own

    def socket(self, number: int) -> Path:
        """Return where a worker gives its metrics."""
        return self.sockets / f"{number}.sock"


class HostMetrics:
    """This worker's share of its host's metrics, and the way to the others'."""

    def __init__(self, place: Place, own: Callable[[], bytes]) -> None:
        """`own` returns this worker's text."""
        self._place = place
        self._own = own
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Give the text to the other workers; raise OSError."""
        path = self._place.socket(self._place.number)
        path.unlink(missing_ok=True)  # of a worker that was killed
        self._server = await asyncio.start_unix_server(self._give, path)

    async def aclose(self) -> None:
        """Give it no more."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                self._place.socket(self._place.number).unlink(missing_ok=True)

    async def text(self) -> bytes:
        """Return the text of all workers that answer within a second."""
        numbers = range(self._place.workers)
        found = await asyncio.gather(*(self._text_of(number) for number in numbers))
        texts = zip(numbers, found, strict=True)
        return labelled({str(n): text for n, text in texts if text is not None})

    async def _text_of(self, number: int) -> bytes | None:
        if number == self._place.number:
            return self._own()
        try:
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._place.socket(number))
                try:
                    return await _whole(reader)
                finally:
                    await _closed(writer)
        except (FileNotFoundError, ConnectionRefusedError):
            return None  # it is being started, which the parent has said
        except (OSError, TimeoutError) as error:
            log.warning("worker %d does not give its metrics: %s", number, error or "timeout")
            return None

    async def _give(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(self._own())
            await writer.drain()
        writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _whole(reader: asyncio.StreamReader) -> bytes:
    pieces, size = list[bytes](), 0
    while piece := await reader.read(2**18):
        size += len(piece)
        if size > MAX_BYTES:
            raise OSError("its text is too long")
        pieces.append(piece)
    return b"".join(pieces)


def labelled(texts: Mapping[str, bytes]) -> bytes:
    """Return one Prometheus text of several, every series with the label `worker` of its own.

    `texts` are by that label, each as prometheus_client writes it: a family's HELP, TYPE and
    samples in a row. A family is told once, as the first text that has it tells it.
    """
    heads: dict[bytes, list[bytes]] = {}
    samples: dict[bytes, list[bytes]] = {}
    for worker, text in texts.items():
        label = f'worker="{worker}"'.encode()
        name, known = b"", False
        for line in text.split(b"\n"):
            if line.startswith(b"# HELP "):
                name = line.split(b" ", 3)[2]
                known = name in heads
                heads.setdefault(name, [])
                samples.setdefault(name, [])
            if line.startswith(b"#"):
                if not known:
                    heads[name].append(line)
            elif line:
                samples[name].append(_with(label, line))
    lines = [line for name, head in heads.items() for line in (*head, *samples[name])]
    return b"\n".join([*lines, b""])


def _with(label: bytes, sample: bytes) -> bytes:
    brace, space = sample.find(b"{"), sample.find(b" ")
    if 0 <= brace < space or space < 0:  # a label's value may hold spaces and braces
        return sample[: brace + 1] + label + b"," + sample[brace + 1 :]
    return sample[:space] + b"{" + label + b"}" + sample[space:]
