"""The composition of the near-hit tier."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from icl.manager import ExampleBook
from icl.router import Router
from icl.utility import UtilityModel
from proxy.auth import Keyring
from proxy.documents_root import Shelves
from proxy.metrics import Metrics
from proxy.nearhits.asking import Asking
from proxy.nearhits.gathering import Gatherer
from proxy.nearhits.judging import Judging
from proxy.nearhits.learning import MOST_EXAMPLES, Learning
from proxy.nearhits.replaying import Replayer
from proxy.nearhits.tier import NearHits
from proxy.settings import Settings
from proxy.side_calls import SideCalls
from proxy.upkeep import stop, utc_now
from proxy.upstream import Upstreams
from store.cache import Cache
from store.quarantine import Quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class NearHitParts:
    """What the near-hit tier consists of."""

    tier: NearHits
    learning: Learning
    replayer: Replayer | None  # None: no judge is configured


async def open_near_hits(
    settings: Settings,
    *,
    stack: AsyncExitStack,
    shelves: Shelves,
    cache: Cache,
    quarantine: Quarantine,
    upstreams: Upstreams,
    keyring: Keyring,
    side_calls: SideCalls | None,
    metrics: Metrics,
) -> NearHitParts | None:
    """Take up what was learnt and start what learns; None where no small model is configured.

    What runs is stopped with `stack`, and what was learnt is written down. Raises
    StoreUnavailable.
    """
    if not settings.offload:
        return None
    draw = random.Random()
    prices = {pairing.small: pairing.price for pairing in settings.offload}
    learning = Learning(
        router=Router(draw=draw),
        utility=UtilityModel(),
        book=ExampleBook(most=MOST_EXAMPLES),
        records=shelves.records,
        tell=shelves.membership.tell,
        price_of=lambda small: prices.get(small, 1.0),
    )
    await learning.load(partial(Router.from_data, draw=draw))
    shelves.documents.follow(learning.apply)
    gatherer = Gatherer(
        cache=cache,
        quarantine=quarantine,
        record=lambda id, at: learning.book.record(id, at),
        improved=learning.improved,
        clock=utc_now,
    )
    judging, replayer = None, None
    stack.push_async_callback(learning.save)
    upkeep = [learning.keep()]
    if settings.judge is not None and side_calls is not None:
        judging = Judging(
            model=settings.judge.model,
            side_calls=side_calls,
            observe=learning.observe,
            metrics=metrics,
        )
        judging.start()
        stack.push_async_callback(judging.aclose)
        replayer = Replayer(
            model=settings.judge.model,
            side_calls=side_calls,
            cache=cache,
            quarantine=quarantine,
            learning=learning,
            gatherer=gatherer,
            metrics=metrics,
            idle=lambda: not any(group.in_flight for group in upstreams.groups),
            clock=time.time,
        )
        upkeep.append(replayer.when_idle())
    for each in upkeep:
        stack.push_async_callback(stop, asyncio.create_task(each, name="nearhit-learning"))
    tier = NearHits(
        pairings=settings.offload,
        gatherer=gatherer,
        learning=learning,
        asking=Asking(upstreams, keyring),
        upstreams=upstreams,
        judging=judging,
        metrics=metrics,
        clock=time.time,
        monotonic=time.monotonic,
        draw=draw.random,
    )
    return NearHitParts(tier=tier, learning=learning, replayer=replayer)
