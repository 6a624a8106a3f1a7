"""What is stored, opened by a command rather than by a server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import NamedTuple

from proxy.documents_root import connection_for
from proxy.settings import Settings
from store.documents.base import DocumentStore
from store.documents.records import Bounds, Records
from store.documents.sqlite import FILE, SqliteDocuments
from store.documents.usage import UsageLedger
from store.journal import Change
from store.redis.appending import append
from store.redis.documents import RedisDocuments
from store.redis.keys import Keys
from store.redis.replica_scripts import settled

COMMAND = "nearhit-command"  # the origin of what commands change


class Opened(NamedTuple):
    """A document store with the records beside its entries."""

    documents: DocumentStore
    records: Records
    usage: UsageLedger
    settled: Callable[[], Awaitable[None]]  # waits until no replica serves what was removed
    tell: Callable[[Change], Awaitable[None]]  # what is in the journal only


@asynccontextmanager
async def open_documents(settings: Settings, *, read_only: bool) -> AsyncIterator[Opened]:
    """Open the configured document store; raise StoreUnavailable.

    Read-only works beside a running server; else the directory must be nobody's. With Redis,
    running replicas take up what is changed.
    """
    async with AsyncExitStack() as stack:
        bounds = Bounds(pairs=settings.feedback.max_pairs)
        if settings.documents != "sqlite":
            keys = Keys(settings.redis.prefix)
            connection = connection_for(settings, os.environ)
            stack.push_async_callback(connection.aclose)
            shared = await RedisDocuments.open(
                connection,
                keys=keys,
                origin=COMMAND,
                expire_after=timedelta(seconds=settings.redis.expire_after),
                bounds=bounds,
            )
            stack.push_async_callback(shared.aclose)
            staleness = settings.replication.max_staleness

            async def tell(change: Change) -> None:
                await connection.ask(lambda r: append(r, keys, change, origin=COMMAND))

            async def all_settled() -> None:
                await settled(connection, keys, staleness)

            yield Opened(shared, shared.records, shared.usage, all_settled, tell)
            return
        documents = SqliteDocuments.open(settings.data_dir, read_only=read_only, bounds=bounds)
        stack.push_async_callback(documents.aclose)
        yield Opened(documents, documents.records, documents.usage, _alone, _tell_nobody)


def holds_anything(settings: Settings) -> bool:
    """Whether there may be something stored; a Redis is asked only when it is opened."""
    return settings.documents != "sqlite" or (settings.data_dir / FILE).exists()


async def _alone() -> None:
    """Nobody else serves from a file that only this process writes."""


async def _tell_nobody(change: Change) -> None:
    """Nobody else reads that journal."""
