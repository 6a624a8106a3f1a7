"""Replicas on one Redis: how soon a put is seen elsewhere, how fast a journal is caught up with.

    python -m bench.replication [--seconds 20] [--records 100000]

Four replicas, each with its own connection, cache and index, share one process and one event loop
here, and the Redis server the machine: a fleet of four processes has more room. Vectors are given,
not encoded. Results go to bench/results/replication.json too.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import hnswlib
import numpy as np
import orjson

from bench.exact_hits import measure_exact_hits
from bench.report import RESULTS, describe_machine
from store.cache import Cache
from store.entry import Admission, Entry, EntryId, PartitionKey, Vector
from store.eviction import Quota, Share
from store.hnsw import BUILD_BREADTH, LINKS
from store.index import PartitionedIndex
from store.journal import Mark, Put, Record
from store.redis.connection import RedisConnection
from store.redis.documents import RedisDocuments
from store.redis.journal import RedisJournal
from store.redis.keys import Keys
from store.redis.remembered import Remembered
from store.redis.replica import Replica
from tests.entries import entry
from tests.redis_servers import RedisServer

REPLICAS = 4
PUTS_A_SECOND = 500
DIMENSION = 384
CHECKPOINT = "bench"
PARTITIONS = 40
BATCH = 500
THREADS = 2
AMPLE = Quota(entries=10_000_000, bytes=2**40)
BODY = b'{"choices": [{"message": {"content": "the ferry leaves at nine"}}]}' * 10


@dataclass(frozen=True, slots=True)
class Member:
    """One replica."""

    replica: Replica
    documents: RedisDocuments
    journal: RedisJournal
    cache: Cache
    index: PartitionedIndex


@dataclass(frozen=True, slots=True)
class Result:
    """One measured number."""

    what: str
    value: float
    unit: str
    wanted: str


@asynccontextmanager
async def member(server: RedisServer, directory: Path) -> AsyncIterator[Member]:
    """Start a replica that has caught up."""
    async with AsyncExitStack() as stack:
        connection = RedisConnection.to(server.url)
        stack.push_async_callback(connection.aclose)
        remembered = Remembered.open(directory)
        stack.push_async_callback(remembered.aclose)
        replica = Replica(connection, Keys(), remembered)
        documents = await RedisDocuments.open(
            connection,
            keys=Keys(),
            origin=replica.name,
            applied=replica.applied,
            follow=replica.follow,
        )
        stack.push_async_callback(documents.aclose)
        await replica.join()
        index = PartitionedIndex(DIMENSION)
        stack.push_async_callback(index.aclose)
        cache = await Cache.open(
            documents, index=index, shares={"default": Share(AMPLE)}, checkpoint=CHECKPOINT
        )
        stack.push_async_callback(cache.aclose)
        await replica.start()
        stack.push_async_callback(replica.aclose)
        assert await replica.caught_up(10)
        yield Member(replica, documents, RedisJournal(connection, Keys(), replica), cache, index)


def directions(count: int) -> Vector:
    """Return unit vectors around some centres, shape (count, DIMENSION)."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((max(1, count // 50), DIMENSION))
    rows = centres[random.integers(len(centres), size=count)]
    rows = rows + 0.5 * random.standard_normal((count, DIMENSION))
    unit: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def numbered(number: int, vector: Vector | None, partitions: int) -> Entry:
    """Return one of many entries."""
    key = PartitionKey(f"p{number % partitions}", "")
    return entry(
        f"{number:032x}", key=key, vector=vector, body=BODY, checkpoint=CHECKPOINT,
        created_at=datetime.now(UTC),
    )  # fmt: skip


async def propagation(server: RedisServer, folder: Path, seconds: float) -> list[Result]:
    """Put entries through all at a steady rate; time when each of the others holds them."""
    began: dict[EntryId, float] = {}
    seen: list[float] = []
    vectors = directions(int(PUTS_A_SECOND * seconds))
    async with AsyncExitStack() as stack:
        fleet = [
            await stack.enter_async_context(member(server, folder / str(n)))
            for n in range(REPLICAS)
        ]

        def noted(record: Record) -> None:
            if isinstance(record.change, Put) and not record.own:
                seen.append(time.perf_counter() - began[record.change.stored.held.id])

        for each in fleet:
            each.documents.follow(noted)
        puts: list[asyncio.Task[Admission]] = []
        start = time.perf_counter()
        for number, vector in enumerate(vectors):
            pause = start + number / PUTS_A_SECOND - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            one = numbered(number, vector, PARTITIONS)
            began[one.id] = time.perf_counter()
            puts.append(asyncio.create_task(fleet[number % REPLICAS].cache.admit(one)))
        outcomes = await asyncio.gather(*puts)
        took = time.perf_counter() - start
        for each in fleet:
            await each.replica.reach_end()
    assert len(seen) == len(vectors) * (REPLICAS - 1)
    assert set(outcomes) == {Admission.STORED}
    p50, p99 = np.percentile(seen, [50, 99]) * 1000
    return [
        Result("puts a second, four replicas", len(vectors) / took, "/s", "500"),
        Result("put to held elsewhere, p50", float(p50), "ms", ""),
        Result("put to held elsewhere, p99", float(p99), "ms", "<= 1000"),
        Result("the slowest", max(seen) * 1000, "ms", ""),
    ]


async def catching_up(server: RedisServer, folder: Path, records: int) -> list[Result]:
    """Fill a journal, then read and apply it in a process that holds nothing."""
    rates = []
    for vectors in (None, directions(records // 2)):
        count = records if vectors is None else len(vectors)
        async with member(server, folder / "writer") as writer:
            before = writer.replica.mark
            gate = asyncio.Semaphore(64)

            async def put(number: int, vector: Vector | None, gate: asyncio.Semaphore = gate,
                          writer: Member = writer) -> None:  # fmt: skip
                async with gate:
                    await writer.documents.put(numbered(number, vector, 1))

            await asyncio.gather(
                *(put(n, None if vectors is None else vectors[n]) for n in range(count))
            )
            rates.append(await applied(writer, before, count))
        await asyncio.to_thread(wipe, server)
    own = bulk_rate(directions(records // 2))
    return [
        Result("decode and apply, no vectors", rates[0], "records/s", ">= 20000"),
        Result("read, decode, apply into HNSW", rates[1], "records/s", ""),
        Result("hnswlib's own bulk rate", own, "vectors/s", ""),
        Result("the former over the latter", rates[1] / own, "", ">= 0.70"),
    ]


async def applied(source: Member, after: Mark, count: int) -> float:
    """Return records a second, read from Redis and applied to an empty cache to the end."""
    index = PartitionedIndex(DIMENSION, threads=THREADS)
    nobody = _Nobody(source.documents)
    cache = await Cache.open(
        nobody, index=index, shares={"default": Share(AMPLE)}, checkpoint=CHECKPOINT
    )
    began, done = time.perf_counter(), 0
    with index.hurry():
        async for part in source.journal.read(after, BATCH):
            for record in part:
                cache.apply(record._replace(own=False))
            done += len(part)
            await index.keep_pace()
        await index.settled()
    took = time.perf_counter() - began
    assert done == count == sum(cache.facts().entries.values())
    await index.aclose()
    return done / took


class _Nobody(RedisDocuments):
    """Documents with nothing in them, for a cache that only applies."""

    def __init__(self, others: RedisDocuments) -> None:
        super().__init__(others._connection, keys=Keys("nobody"), origin="nobody")


def wipe(server: RedisServer) -> None:
    """Start the server anew, empty."""
    server.kill()
    server.start()


def bulk_rate(vectors: Vector) -> float:
    """Return vectors a second that hnswlib adds by itself, with as many threads."""
    graph = hnswlib.Index(space="ip", dim=DIMENSION)
    graph.init_index(len(vectors), M=LINKS, ef_construction=BUILD_BREADTH)
    began = time.perf_counter()
    graph.add_items(vectors, num_threads=THREADS)
    return float(len(vectors) / (time.perf_counter() - began))


async def exact_hits(server: RedisServer, folder: Path) -> list[Result]:
    """Compare exact hits of a real proxy with Redis documents and with SQLite's."""
    found = await measure_exact_hits(folder / "hits", server)
    results = []
    for hot in (True, False):
        kind = "hot" if hot else "fetched"
        sqlite, redis = found["sqlite", hot], found["redis", hot]
        results += [
            Result(f"exact hit p50, {kind}, SQLite", sqlite * 1e6, "us", ""),
            Result(f"exact hit p50, {kind}, Redis", redis * 1e6, "us", ""),
            Result("the latter over the former", redis / sqlite, "", "<= 2"),
        ]
    return results


async def main(seconds: float, records: int) -> None:
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory) / "redis").start()
        try:
            results += await propagation(server, Path(directory), seconds)
            await asyncio.to_thread(wipe, server)
            results += await catching_up(server, Path(directory), records)
            await asyncio.to_thread(wipe, server)
            results += await exact_hits(server, Path(directory))
        finally:
            server.stop()
    for each in results:
        print(f"{each.what:32} {each.value:12.2f} {each.unit:10} {each.wanted}")
    about = {"machine": asdict(describe_machine()), "results": [asdict(r) for r in results]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "replication.json").write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--records", type=int, default=100_000)
    given = parser.parse_args()
    asyncio.run(main(given.seconds, given.records))
