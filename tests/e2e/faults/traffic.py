"""Clients that write and take back at random, and tell a model what was acknowledged."""

from __future__ import annotations

import asyncio
import random
import time

import aiohttp

from tests.e2e.faults.model import Model
from tests.e2e.faults.site import Site
from tests.e2e.ground import MISS

CLIENTS = 4
TAGS = 40
PUTS, PURGES_BY_TAG, PURGES_BY_ID = 0.90, 0.01, 0.06  # shares; the rest are quarantines


class Traffic:
    """So many writes through all replicas, at random; what fails with a proxy is not known."""

    def __init__(self, site: Site, model: Model, seed: int) -> None:
        self.done = 0
        self._site = site
        self._model = model
        self._random = random.Random(seed)
        self._number = 0
        self._tagged: dict[str, list[str]] = {f"tag{n}": [] for n in range(TAGS)}
        self._asked: list[str] = []

    async def run(self, writes: int) -> None:
        """Write so often, by several clients."""
        until = self.done + writes

        async def client() -> None:
            while self.done < until:
                self.done += 1
                try:
                    await self._write()
                except (aiohttp.ClientError, ConnectionError):
                    self.done -= 1
                    await asyncio.sleep(0.01)  # that proxy is dead; others may be asked

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def until(self, writes: int) -> None:
        """Wait until so many have begun."""
        while True:
            if self.done >= writes:
                return
            await asyncio.sleep(0.001)

    async def _write(self) -> None:
        replica = self._random.randrange(len(self._site.proxies))
        kind = self._random.random()
        if kind < PUTS or not self._asked:
            await self._put(replica)
        elif kind < PUTS + PURGES_BY_TAG:
            await self._purge_tag(replica)
        else:
            await self._take_back(replica, by_id=kind < PUTS + PURGES_BY_TAG + PURGES_BY_ID)

    async def _put(self, replica: int) -> None:
        again = self._asked and self._random.random() < 0.1
        if again:
            question = self._random.choice(self._asked)
        else:
            self._number += 1
            question = f"What is in drawer {self._number}?"
        tag = f"tag{int(question.split()[-1][:-1]) % TAGS}"
        asked = time.monotonic()
        if not again:
            self._tagged[tag].append(question)
        told = await self._site.ask(replica, question, tag=tag)
        if told.status == 200:
            self._asked.append(question)
            at = time.monotonic()
            if told.hit or told.cache == MISS:  # else it said that it would not store it
                self._model.answered(question, told.call, hit=told.hit, asked=asked, at=at)

    async def _purge_tag(self, replica: int) -> None:
        tag = f"tag{self._random.randrange(TAGS)}"
        must = self._model.before(self._tagged[tag], time.monotonic())
        try:
            if await self._site.purge(replica, tag=tag) == 200:
                self._model.purged(must)
        finally:  # what was stored meanwhile may be gone, too
            self._model.before(self._tagged[tag], time.monotonic())

    async def _take_back(self, replica: int, *, by_id: bool) -> None:
        """Purge by id, or quarantine; an id is known from a hit."""
        question = self._random.choice(self._asked)
        told = await self._site.ask(replica, question, stored_only=True)
        if not told.hit:
            return
        must = self._model.before([question], time.monotonic())
        must[question] = [told.call, *must[question]]
        if by_id:
            if await self._site.purge(replica, id=told.entry) == 200:
                self._model.purged(must)
        elif await self._site.admin(replica, f"entries/{told.entry}/quarantine", {}) == 200:
            self._model.stopped(question)
