"""The composition of the near-hit tier."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from icl.manager import ExampleBook
from icl.router import Router
from icl.utility import UtilityModel
from proxy.nearhits.asking import Asking
from proxy.nearhits.gathering import Gatherer
from proxy.nearhits.judging import Judging
from proxy.nearhits.learning import MOST_EXAMPLES, Learning
from proxy.nearhits.parts import NearHitParts
from proxy.nearhits.plan import may_ask_again
from proxy.nearhits.preparing import Preparing, is_offered
from proxy.nearhits.replaying import Replayer
from proxy.nearhits.tier import NearHits
from proxy.nearhits.verdicts import Verdicts
from proxy.parts import Parts
from proxy.upkeep import stop, utc_now
from store.entry import EntryId

_PREPARED = 20_000  # entries after a start, as far as there is room


async def open_near_hits(parts: Parts, stack: AsyncExitStack) -> NearHitParts | None:
    """Take up what was learnt and start what learns; None where no small model is configured.

    What runs is stopped with `stack`, and what was learnt is written down. Raises
    StoreUnavailable.
    """
    settings = parts.settings
    if not settings.offload:
        return None
    draw = random.Random()
    learning = await _learnt_before(parts, draw)
    gatherer = Gatherer(
        cache=parts.cache,
        quarantine=parts.quarantine,
        record=lambda id, at: learning.book.record(id, at),
        improved=learning.improved,
        clock=utc_now,
    )
    stack.push_async_callback(learning.save)
    upkeep = [learning.keep(), _preparing(parts, gatherer, learning).run()]
    verdicts, replayer = _judged(parts, gatherer, learning, draw, stack)
    if replayer is not None:
        upkeep.append(replayer.when_idle())
    for each in upkeep:
        stack.push_async_callback(stop, asyncio.create_task(each, name="nearhit-learning"))
    tier = NearHits(
        pairings=settings.offload,
        gatherer=gatherer,
        learning=learning,
        asking=Asking(parts.upstreams, parts.keyring),
        upstreams=parts.upstreams,
        verdicts=verdicts,
        metrics=parts.metrics,
        economics=parts.economics,
        touch=parts.cache.touch,
        clock=time.time,
        monotonic=time.monotonic,
        usage=parts.usage.usage,
    )
    return NearHitParts(tier=tier, learning=learning, replayer=replayer)


async def _learnt_before(parts: Parts, draw: random.Random) -> Learning:
    """Return what was learnt before, which goes on learning from other replicas."""
    shelves = parts.shelves
    prices = {pairing.small: pairing.price for pairing in parts.settings.offload}
    learning = Learning(
        router=Router(draw=draw),
        utility=UtilityModel(),
        book=ExampleBook(most=MOST_EXAMPLES),
        records=shelves.records,
        tell=shelves.membership.tell,
        draw=draw,
        price_of=lambda small: prices.get(small, 1.0),
    )
    await learning.load(partial(Router.from_data, draw=draw))
    learning.forget_lost(lambda id: parts.cache.exact(id) is not None)
    shelves.documents.follow(learning.apply)
    return learning


def _judged(
    parts: Parts,
    gatherer: Gatherer,
    learning: Learning,
    draw: random.Random,
    stack: AsyncExitStack,
) -> tuple[Verdicts, Replayer] | tuple[None, None]:
    """Return what asks a judge, which stops with `stack`; nothing where none is configured."""
    judge, side_calls = parts.settings.judge, parts.side_calls
    if judge is None or side_calls is None:
        return None, None
    judging = Judging(
        model=judge.model, side_calls=side_calls, observe=learning.observe, metrics=parts.metrics
    )
    judging.start()
    stack.push_async_callback(judging.aclose)
    ask_again = _asking_again(parts)
    replayer = Replayer(
        model=judge.model,
        side_calls=side_calls,
        cache=parts.cache,
        quarantine=parts.quarantine,
        learning=learning,
        gatherer=gatherer,
        metrics=parts.metrics,
        may_ask_again=ask_again,
        idle=lambda: not any(group.in_flight for group in parts.upstreams.groups),
        clock=time.time,
    )
    return Verdicts(judging, learning, time.time, draw.random, ask_again), replayer


def _asking_again(parts: Parts) -> Callable[[EntryId], bool]:
    """Return what says of an entry whether it may be asked anew now."""

    def may(id: EntryId) -> bool:
        held = parts.cache.exact(id)
        return held is not None and may_ask_again(held, parts.in_force.rules.book, utc_now())

    return may


def _preparing(parts: Parts, gatherer: Gatherer, learning: Learning) -> Preparing:
    """Return what makes examples ready: those that were of use, then the newest."""
    pairings = parts.settings.offload
    preparing = Preparing(
        gatherer=gatherer,
        cache=parts.cache,
        is_wanted=lambda held: is_offered(held, parts.in_force.rules.book, pairings),
        known=[*learning.book, *parts.cache.newest(_PREPARED)],
    )
    parts.shelves.documents.follow(preparing.apply)
    return preparing
