"""Entries in Redis beside SQLite: what a put, a get and a load cost.

    python -m bench.redis_documents --entries 100000

Starts the Redis servers of the tests. Loading is without vectors; the process itself, its
event loop and the server share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from store.documents.base import DocumentStore
from store.documents.sqlite import SqliteDocuments
from store.entry import Entry, EntryId
from tests.entries import entry
from tests.redis_servers import VERSIONS, RedisServer
from tests.redis_stores import redis_documents

SAMPLES = 2_000
AT_ONCE = 16
BODY = b'{"choices": [{"message": {"content": "the ferry leaves at nine"}}]}' * 20


def numbered(number: int) -> Entry:
    """Return one of many entries."""
    return entry(f"{number:032x}", body=BODY, query=f"when does ferry {number} leave?")


async def p50(call: Callable[[int], Awaitable[object]]) -> float:
    """Return the median seconds of a call, one after the other."""
    taken = []
    for number in range(SAMPLES):
        began = time.perf_counter()
        await call(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def rate(documents: DocumentStore, entries: int) -> float:
    """Return puts a second by AT_ONCE writers, of the entries numbered up to `entries`."""
    numbers = iter(range(SAMPLES, entries))

    async def write() -> None:
        for number in numbers:
            await documents.put(numbered(number))

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(AT_ONCE)))
    return (entries - SAMPLES) / (time.perf_counter() - began)


async def measure(name: str, documents: DocumentStore, entries: int) -> None:
    """Print one line of the table."""
    put = await p50(lambda number: documents.put(numbered(number)))
    get = await p50(lambda number: documents.get(EntryId(f"{number:032x}")))
    puts = await rate(documents, entries)
    began, loaded = time.perf_counter(), 0
    async for part in documents.load_all(500):
        loaded += len(part)
    assert loaded == entries
    load = loaded / (time.perf_counter() - began)
    print(f"{name:8} {put * 1e6:10.0f} {get * 1e6:10.0f} {puts:12.0f} {load:12.0f}")


async def main(entries: int) -> None:
    print(f"{'':8} {'put p50 µs':>10} {'get p50 µs':>10} {AT_ONCE:>3} puts at 1 {'loaded/s':>12}")
    with tempfile.TemporaryDirectory() as directory:
        sqlite = SqliteDocuments.open(Path(directory))
        await measure("sqlite", sqlite, entries)
        await sqlite.aclose()
        for version in VERSIONS:
            server = RedisServer(Path(directory) / version, version).start()
            try:
                async with redis_documents(server) as documents:
                    await measure(f"redis {version}", documents, entries)
            finally:
                server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=20_000, help=f"more than {SAMPLES}")
    asyncio.run(main(parser.parse_args().entries))
