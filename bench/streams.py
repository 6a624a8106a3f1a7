"""A generator for streams: time to the body's first byte, to its end, and its own ceiling.

`python -m bench.streams URL --body FILE [--connections 16] [--seconds 3]`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.floors import content_length
from bench.processes import python_server, running
from bench.verdicts import CEILING_SHARE, near_ceiling

CLOSING_GRACE = 5.0  # seconds that streams under way get to end


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLoad:
    """What to ask, where, and for how long."""

    url: str
    connections: int
    seconds: float
    bodies: Iterator[bytes]  # JSON, endless; every request takes the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """One run: rate in streams/s, times in ms from the request to bytes of the body."""

    rate: float
    requests: int
    first_byte_p50: float
    first_byte_p99: float
    total_p50: float
    total_p99: float
    errors: Mapping[str, int]
    statuses: Mapping[str, int]  # Cache-Status without its ttl -> how often
    sample: bytes  # one whole response as it came


@dataclass(slots=True)
class _Log:
    """What all connections of a run write down."""

    open: bool = True  # False: ask nothing more
    busy: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set: closed, and nobody waits
    first_bytes: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    sample: bytes = b""


class _Asker(asyncio.Protocol):
    """One keep-alive connection: asks, reads to the end of the stream, asks again."""

    def __init__(self, requests: Iterator[bytes], log: _Log) -> None:
        self._requests = requests
        self._log = log
        self._received = bytearray()
        self._first = self._asked = 0.0
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._ask()

    def _ask(self) -> None:
        if not self._log.open:
            self._transport.close()
            return
        self._received.clear()
        self._first = 0.0
        self._waiting = True
        self._log.busy += 1
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._first and has_body(self._received):
            self._first = time.perf_counter()
        if self._waiting and is_complete(self._received):
            self._finish()
            self._ask()

    def _finish(self) -> None:
        now, log = time.perf_counter(), self._log
        self._answered()
        fault = fault_of(self._received)
        if fault:
            log.errors[fault] += 1
            return
        if log.open:
            log.first_bytes.append(self._first - self._asked)
            log.totals.append(now - self._asked)
            log.statuses[cache_status(self._received)] += 1
        log.sample = log.sample or bytes(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._log.errors["closed early"] += 1
            self._answered()

    def _answered(self) -> None:
        self._waiting = False
        self._log.busy -= 1
        if not self._log.open and not self._log.busy:
            self._log.idle.set()


def has_body(response: bytes | bytearray) -> bool:
    """Whether the response's head is over and something of its body is there."""
    end = response.find(b"\r\n\r\n")
    return 0 <= end < len(response) - 4


def is_complete(response: bytes | bytearray) -> bool:
    """Whether these are all bytes of one HTTP/1.1 response, chunked or with a length."""
    end = response.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(response[:end])
    if b"transfer-encoding: chunked" in head.lower():
        return response.endswith(b"\r\n0\r\n\r\n")
    return len(response) - end - 4 >= content_length(head)


def fault_of(response: bytes | bytearray) -> str | None:
    """Return what is wrong with a complete response, or None: a whole stream with status 200."""
    if not response.startswith(b"HTTP/1.1 200"):
        return f"status {bytes(response[9:12]).decode(errors='replace')}"
    return None if response.find(b"data: [DONE]", -64) >= 0 else "no [DONE]"


def cache_status(response: bytes | bytearray) -> str:
    """Return the Cache-Status header without its ttl; "none" without the header."""
    head = bytes(response[: response.find(b"\r\n\r\n")])
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"cache-status":
            parts = value.decode().split(";")
            return "; ".join(p.strip() for p in parts if not p.strip().startswith("ttl="))
    return "none"


def request_bytes(url: str, body: bytes) -> bytes:
    """Return one keep-alive POST of a JSON body."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run_streams(load: StreamLoad) -> Streamed:
    """Apply the load and return what it measured; rates count whole streams only."""
    parts = urlsplit(load.url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    log = _Log()
    requests = (request_bytes(load.url, body) for body in load.bodies)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    askers = [
        await loop.create_connection(lambda: _Asker(requests, log), host, port)
        for _ in range(load.connections)
    ]
    await asyncio.sleep(load.seconds)
    log.open = False
    elapsed = time.perf_counter() - started
    with contextlib.suppress(TimeoutError):
        if log.busy:
            await asyncio.wait_for(log.idle.wait(), CLOSING_GRACE)
    for transport, _ in askers:
        transport.abort()
    return _summary(log, elapsed)


def _summary(log: _Log, elapsed: float) -> Streamed:
    first_p50, first_p99 = _p50_p99(log.first_bytes)
    total_p50, total_p99 = _p50_p99(log.totals)
    return Streamed(
        rate=len(log.totals) / elapsed,
        requests=len(log.totals),
        first_byte_p50=first_p50,
        first_byte_p99=first_p99,
        total_p50=total_p50,
        total_p99=total_p99,
        errors=dict(log.errors),
        statuses=dict(log.statuses),
        sample=log.sample,
    )


def _p50_p99(seconds: list[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return float("nan"), float("nan")
    cuts = quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


async def ceiling_of(sample: bytes, load: StreamLoad) -> float:
    """Return the generator's own rate against a server that only writes these bytes."""
    with tempfile.NamedTemporaryFile(suffix=".http") as answer:
        answer.write(sample)
        answer.flush()
        command = python_server("bench.floors", "canned", "--answer", answer.name)
        async with running("canned answer", command) as server:
            url = server.origin + urlsplit(load.url).path
            canned = StreamLoad(
                url=url, connections=load.connections, seconds=load.seconds, bodies=load.bodies
            )
            return (await run_streams(canned)).rate


async def main() -> None:
    """Read the command line, run, and print one line a fact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file with the JSON body")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    load = StreamLoad(
        url=given.url,
        connections=given.connections,
        seconds=given.seconds,
        bodies=itertools.repeat(given.body.read_bytes()),
    )
    found = await run_streams(load)
    print(f"streams/s    {found.rate:.1f}  ({found.requests} whole streams)")
    print(f"first byte   p50 {found.first_byte_p50:.2f} ms  p99 {found.first_byte_p99:.2f} ms")
    print(f"whole stream p50 {found.total_p50:.2f} ms  p99 {found.total_p99:.2f} ms")
    print(f"Cache-Status {dict(found.statuses)}  errors {dict(found.errors)}")
    if found.sample:
        ceiling = await ceiling_of(found.sample, load)
        valid = "INVALID: within" if near_ceiling(found.rate, ceiling) else "valid: beyond"
        share = 100 * (1 - CEILING_SHARE)
        print(f"ceiling      {ceiling:.1f} streams/s ({valid} {share:.0f} % of the ceiling)")


if __name__ == "__main__":
    uvloop.run(main())
