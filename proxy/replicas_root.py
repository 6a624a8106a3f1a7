"""The composition of what replicas owe each other: following, and shared flights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from icl.arms import Observation
from proxy.admin.purge import heard
from proxy.admission import Admitter
from proxy.documents_root import reached_end
from proxy.events import ServingEvent, event_from_bytes, event_to_bytes
from proxy.leasing import Leasing
from proxy.parts import Parts
from proxy.policy_editor import PolicyEditor
from proxy.upkeep import utc_now
from store.cache import Cache
from store.documents.base import DocumentStore
from store.errors import StoreUnavailable
from store.journal import Complained, Purging, Record, Stopped
from store.membership import Alone, Membership
from store.purges import everything

log = logging.getLogger("nearhit.replicas")

_NEAR_HIT = b"near-hit "  # before a near-hit, where an event is JSON


class Faults:
    """Counts faults once there is something to count them with."""

    def __init__(self) -> None:
        self.count: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        self.count()


async def join_others(parts: Parts, editor: PolicyEditor, stack: AsyncExitStack) -> None:
    """Follow what others change, from the place in the journal at which all was loaded.

    The last snapshot is taken when `stack` ends. Raises StoreUnavailable.
    """
    shelves, membership = parts.shelves, parts.shelves.membership
    complaints: set[asyncio.Task[None]] = set()

    def complained(record: Record) -> None:
        if isinstance(record.change, Complained) and not record.own:
            task = asyncio.create_task(parts.budgets.complained(record.change.category))
            complaints.add(task)
            task.add_done_callback(complaints.discard)

    shelves.documents.follow(parts.quarantine.apply)
    shelves.documents.follow(editor.apply)
    shelves.documents.follow(complained)
    hear_purges(parts.cache, shelves.documents, membership)
    if isinstance(membership, Alone):
        membership.mark = await shelves.journal.mark()
        alone = membership
        shelves.documents.follow(lambda record: alone.note(record.position))
    membership.on_reload(partial(_reload, parts, editor))
    if membership.forgotten:
        await _stop_again(parts)
    await _keep_stopped(parts)
    if membership.shared:  # the policies were read before this place in the journal was taken
        await editor.adopt()
    stack.push_async_callback(parts.keeper.take)
    await membership.start()
    if shelves.asking is not None:
        await shelves.asking.start(partial(_given_here, parts))


def hear_purges(cache: Cache, documents: DocumentStore, membership: Membership) -> None:
    """Have purges that begin at other replicas take what is on its way here."""

    def purging(record: Record) -> None:
        if isinstance(record.change, Purging) and not record.own:
            membership.hold(cache.purges.hear(heard(record.change.data)))

    documents.follow(purging)


async def _reload(parts: Parts, editor: PolicyEditor) -> None:
    """Read anew what is stored; what this process remembers of purges holds against it."""
    shelves = parts.shelves
    parts.cache.purges.hear(everything)  # what was told since it stopped to follow, it has missed
    await editor.adopt()
    await parts.cache.reload(await shelves.barrier())
    if shelves.membership.forgotten:
        await _stop_again(parts)
    else:
        await parts.quarantine.reload(forgotten=False)
    await _keep_stopped(parts)


async def _stop_again(parts: Parts) -> None:
    """Stop what was stopped before Redis forgot it, and have that recorded again."""
    if parts.shelves.remembered is not None:
        for id, tenant in await parts.shelves.remembered.stopped():
            parts.quarantine.apply(Record(0, Stopped(id, tenant)))
    await parts.quarantine.reload(forgotten=True)


async def _keep_stopped(parts: Parts) -> None:
    """Have this replica's own disk say what is stopped: it may have missed who stopped what."""
    if parts.shelves.remembered is None:
        return
    try:
        await parts.shelves.remembered.keep_stopped(parts.quarantine.stops())
    except StoreUnavailable as error:
        log.warning("what is stopped is not on this replica's disk: %s", error)


def _given_here(parts: Parts, tenant: str, request_id: str) -> bytes | None:
    event = parts.events.find(tenant, request_id, utc_now())
    if event is not None:
        return event_to_bytes(event)
    near_hits = parts.near_hits
    given = None if near_hits is None else near_hits.tier.given(tenant, request_id)
    return None if given is None else _NEAR_HIT + given.to_bytes()


async def given_elsewhere(
    parts: Parts, tenant: str, request_id: str
) -> ServingEvent | Observation | None:
    """Return what another replica gave a tenant: an event, or a near-hit for its verdict.

    None if none says so in time.
    """
    if parts.shelves.asking is None:
        return None
    try:
        told = await parts.shelves.asking.ask(tenant, request_id)
        if told is None:
            return None
        if told.startswith(_NEAR_HIT):
            return Observation.from_bytes(told.removeprefix(_NEAR_HIT))
        return event_from_bytes(told)
    except (StoreUnavailable, ValueError, TypeError) as error:
        log.warning("other replicas cannot be asked what they served: %s", error)
        return None


def build_leasing(parts: Parts, admitter: Admitter) -> Leasing | None:
    """Return what shares flights with other replicas; None where there are none."""
    if parts.shelves.leases is None:
        return None
    return Leasing(
        parts.shelves.leases,
        admitter=admitter,
        metrics=parts.metrics,
        caught_up=partial(reached_end, parts.shelves.membership),
    )
