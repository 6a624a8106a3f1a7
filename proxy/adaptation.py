"""Load adaptation as it runs: once a second, from what the upstreams show to the rules in force."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from proxy.rules import InForce
from store.load import FEWEST, WINDOW, LoadState, Reading, adapted, step
from store.policy import Policy

log = logging.getLogger("nearhit.adaptation")

EVERY = 1.0  # seconds
Key = tuple[str, str]  # category, upstream group


class Group(Protocol):
    """What adaptation asks of an upstream group."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        ...

    def latency_p95(self, now: float, window: float, fewest: int) -> float | None:
        """Recent seconds to the first byte; None with too few recent calls."""
        ...


class Adaptation:
    """How far each category is bent for each upstream group."""

    def __init__(self, in_force: InForce, groups: Iterable[Group]) -> None:
        self._in_force = in_force
        self._groups = tuple(groups)
        self._states: dict[Key, LoadState] = {}

    def factor(self, category: str) -> float:
        """Return a category's load factor, the highest over the groups; 0.0 at base."""
        factors = [s.factor for (name, _), s in self._states.items() if name == category]
        return max(factors, default=0.0)

    def look(self, now: float) -> None:
        """Read the upstreams at this monotonic second and bend the policies accordingly."""
        rules = self._in_force.rules
        ruled = [policy for policy in rules.book.policies.values() if policy.load is not None]
        states: dict[Key, LoadState] = {}
        bent: dict[Key, Policy] = {}
        for group in self._groups if ruled else ():
            p95 = group.latency_p95(now, WINDOW, FEWEST)
            reading = Reading(None if p95 is None else p95 * 1000, group.in_flight)
            for policy in ruled:
                assert policy.load is not None
                key = (policy.name, group.name)
                before = self._states.get(key, LoadState())
                states[key] = step(before, reading, policy.load.latency_target_ms, now)
                changed = adapted(policy, states[key].factor)
                if changed is not policy:
                    bent[key] = changed
        self._states = states
        if bent != rules.bent:
            self._in_force.bend(bent)
            _say(bent, rules.bent)

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                self.look(time.monotonic())
            except Exception:
                log.exception("load adaptation failed; policies stay as they are")


def _say(now: Mapping[Key, Policy], before: Mapping[Key, Policy]) -> None:
    for key in now.keys() - before.keys():
        log.info("category %s gives way to the load on %s", *key)
    for key in before.keys() - now.keys():
        log.info("category %s is back at its own policy for %s", *key)
