"""The composition of what is stored, and of what this process shares it with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from proxy.settings import Settings
from proxy.store_settings import RedisSettings
from store.documents.base import DocumentStore
from store.documents.lock import take_directory
from store.documents.records import Bounds, Records
from store.documents.sqlite import SqliteDocuments
from store.documents.usage import UsageLedger
from store.entry import Held
from store.errors import StoreUnavailable
from store.journal import Journal
from store.leases import Leases
from store.membership import Alone, Membership
from store.redis.asking import Asking
from store.redis.connection import RedisConnection
from store.redis.documents import RedisDocuments
from store.redis.journal import RedisJournal
from store.redis.keys import Keys
from store.redis.leases import RedisLeases
from store.redis.remembered import Remembered, barrier
from store.redis.replica import Replica

Barrier = Callable[[], Awaitable[Callable[[Held], bool]]]


@dataclass(frozen=True, kw_only=True)
class Shelves:
    """Where entries and records live, and who else changes them."""

    documents: DocumentStore
    records: Records
    usage: UsageLedger
    journal: Journal
    membership: Membership
    barrier: Barrier  # gives what must not be loaded though it is stored
    remembered: Remembered | None = None
    leases: Leases | None = None  # None: nobody shares flights with this process
    asking: Asking | None = None  # None: there is no other to ask


async def open_shelves(
    settings: Settings,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    on_fault: Callable[[], None] = lambda: None,
) -> Shelves:
    """Open the configured store, to be closed with `stack`; raise StoreUnavailable.

    `on_fault` is told of every call to Redis that failed.
    """
    bounds = Bounds(pairs=settings.feedback.max_pairs)
    if settings.documents != "sqlite":
        return await _shared(settings, environ, stack, bounds, on_fault)
    documents = SqliteDocuments.open(settings.data_dir, bounds=bounds)
    stack.push_async_callback(documents.aclose)
    return await alone(documents)


async def alone(documents: SqliteDocuments) -> Shelves:
    """Return the shelves of a process that shares its store with nobody."""

    async def nothing_barred() -> Callable[[Held], bool]:
        return lambda held: False

    return Shelves(
        documents=documents,
        records=documents.records,
        usage=documents.usage,
        journal=documents.journal,
        membership=Alone(await documents.journal.mark()),
        barrier=nothing_barred,
    )


def connection_for(
    settings: Settings, environ: Mapping[str, str], on_fault: Callable[[], None] = lambda: None
) -> RedisConnection:
    """Return the way to the configured Redis; raise StoreUnavailable without its password."""
    redis = settings.redis
    try:
        return RedisConnection.to(
            settings.documents,
            username=redis.username,
            password=_password(redis, environ),
            ca_certs=str(redis.ca_certs or ""),
            request_seconds=redis.request_timeout,
            write_seconds=redis.write_timeout,
            on_fault=on_fault,
        )
    except ValueError as error:
        raise StoreUnavailable(f"documents: the address of Redis is not one: {error}") from None


async def _shared(
    settings: Settings,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    bounds: Bounds,
    on_fault: Callable[[], None],
) -> Shelves:
    connection = connection_for(settings, environ, on_fault)
    stack.push_async_callback(connection.aclose)
    keys = Keys(settings.redis.prefix)
    stack.callback(take_directory(settings.data_dir).release)  # what is in it names this replica
    remembered = Remembered.open(settings.data_dir)
    stack.push_async_callback(remembered.aclose)
    replica = Replica(
        connection, keys, remembered, max_staleness=settings.replication.max_staleness
    )
    documents = await RedisDocuments.open(
        connection,
        keys=keys,
        origin=replica.name,
        applied=replica.applied,
        follow=replica.follow,
        expire_after=timedelta(seconds=settings.redis.expire_after),
        bounds=bounds,
    )
    stack.push_async_callback(documents.aclose)
    leases = RedisLeases(
        connection, prefix=settings.redis.prefix, max_buffer=settings.flight.max_buffer
    )
    stack.push_async_callback(leases.aclose)
    stack.push_async_callback(replica.aclose)
    asking = Asking(connection, keys, replica.name)
    stack.push_async_callback(asking.aclose)

    async def barred() -> Callable[[Held], bool]:
        return barrier(await remembered.purged())

    return Shelves(
        documents=documents,
        records=documents.records,
        usage=documents.usage,
        journal=RedisJournal(connection, keys, replica),
        membership=replica,
        barrier=barred,
        remembered=remembered,
        leases=leases,
        asking=asking,
    )


def _password(redis: RedisSettings, environ: Mapping[str, str]) -> str:
    if redis.password_file is not None:
        return _secret(redis.password_file)
    if redis.password_env is None:
        return ""
    password = environ.get(redis.password_env, "")
    if not password:
        raise StoreUnavailable(f"redis.password_env: the variable {redis.password_env} is not set")
    return password


def _secret(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"redis.password_file: {file} cannot be read: {error}") from None


async def reached_end(membership: Membership) -> None:
    """Wait until what others have stored by now is applied here, if that can be told."""
    if isinstance(membership, Replica):
        try:
            await membership.reach_end()
        except StoreUnavailable:
            await asyncio.sleep(0)
