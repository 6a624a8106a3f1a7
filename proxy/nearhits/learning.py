"""What near-hits have taught: router, utility of examples and their track records, kept and shared.

One code path: `take_up` applies an observation, whether it was made here or told by another
replica. What is learnt is written down a few seconds later, so a killed process forgets seconds;
replicas write the same names, and each has seen the same observations.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from icl.arms import Arm, Observation
from icl.manager import ExampleBook
from icl.router import Router
from icl.utility import ThresholdTuner, UtilityModel
from proxy.following import NUDGE
from proxy.nearhits.improved import Improved
from store.documents.records import Records
from store.entry import EntryId, Held
from store.errors import StoreUnavailable
from store.journal import Change, Learnt, Put, Record, Removed

log = logging.getLogger("nearhit.nearhits")

_EVERY = 10.0  # seconds between two looks whether there is anything to write down
_KEPT = {"router", "utility", "threshold", "examples", "improved"}  # names of what is written down
MOST_EXAMPLES = 10_000  # whose track record is kept: all of them are written down at once


class Learning:
    """The learnt state of the near-hit tier."""

    def __init__(
        self,
        *,
        router: Router,
        utility: UtilityModel,
        book: ExampleBook,
        records: Records,
        tell: Callable[[Change], Awaitable[None]],
        price_of: Callable[[str], float],
        draw: random.Random,
    ) -> None:
        """`price_of` gives a small model's price over that of the requested one."""
        self.router = router
        self.utility = utility
        self.tuner = ThresholdTuner()
        self.book = book
        self._improved = Improved()
        self._records = records
        self._tell = tell
        self._price_of = price_of
        self._draw = draw
        self._dirty = False

    def level(self) -> float:
        """Return the least utility of an example for one request; now and then another is tried."""
        return self.tuner.draw(self._draw)

    def improved(self, held: Held) -> str | None:
        """Return the better answer that a replay has found for this version of an example."""
        return self._improved.get(held)

    def improve(self, held: Held, answer: str) -> None:
        """Show this answer from now on; the oldest leave when there are too many."""
        self._improved.put(held, answer)
        self._dirty = True

    def replayed(self, id: EntryId, quality: float | None) -> None:
        """Note that an example was answered anew, and how good what is shown now is beside that.

        None: nobody could say.
        """
        self.book.replayed(id, quality)
        self._dirty = True

    def offered(self, ids: tuple[EntryId, ...], at: float) -> None:
        """Note that entries were shown."""
        for id in ids:
            self.book.offered(id, at)
        self._dirty = self._dirty or bool(ids)

    async def observe(self, observation: Observation) -> None:
        """Take up an observation, and tell the other replicas."""
        self.take_up(observation)
        try:
            await self._tell(Learnt(observation.to_bytes()))
        except StoreUnavailable:
            log.warning("other replicas do not know of an observation of %s", observation.small)

    def take_up(self, observation: Observation) -> None:
        """Learn from one answer of a small model."""
        self.router.learn(observation)
        if observation.arm is Arm.EXAMPLES:
            # A replay knows the question only: under instructions a better answer is not to be had.
            saved = 1.0 - self._price_of(observation.small) if observation.bare else 0.0
            for id in observation.examples:
                self.book.helped(id, observation.quality, saved, observation.at)
            self.utility.learn(observation.features, observation.quality, observation.weight)
            self.tuner.learn(
                observation.level, observation.quality, observation.tokens, observation.weight
            )
        self._dirty = True

    def apply(self, record: Record) -> None:
        """Take up what another replica has observed, and that entries are gone or replaced."""
        match record.change:
            case Learnt(data) if not record.own and data != NUDGE:
                try:
                    self.take_up(Observation.from_bytes(data))
                except (ValueError, KeyError, TypeError) as error:
                    log.warning("an observation of another replica cannot be read: %s", error)
            case Removed(ids):
                self.forget(ids)
            case Put(stored) if stored.held.id in self._improved:
                self._improved.forget([stored.held.id])  # it was better than another answer
                self._dirty = True

    def forget(self, ids: Iterable[EntryId]) -> None:
        """Let go of entries that are gone: what was purged must not be shown, nor kept."""
        gone = [id for id in ids if id in self.book or id in self._improved]
        self.book.forget(gone)
        self._improved.forget(gone)
        self._dirty = self._dirty or bool(gone)

    def forget_lost(self, is_held: Callable[[EntryId], bool]) -> None:
        """Let go of entries that went while nobody wrote down what was learnt."""
        self.forget([id for id in {*self._improved, *self.book} if not is_held(id)])

    async def keep(self) -> None:
        """Write down what is new, for ever."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.save()

    async def save(self) -> None:
        """Write down what is new; a store that cannot do it now is asked again later."""
        if not self._dirty:
            return
        self._dirty = False
        states: dict[str, Any] = {
            "router": self.router.as_data(),
            "utility": self.utility.as_data(),
            "threshold": self.tuner.as_data(),
            "examples": self.book.as_data(),
            "improved": self._improved.as_data(),
        }
        try:
            for name, state in states.items():
                told = await asyncio.to_thread(json.dumps, state, separators=(",", ":"))
                await self._records.save_state(name, told)
        except (StoreUnavailable, ValueError) as error:
            self._dirty = True
            log.warning("what near-hits have taught is not written down: %s", error)
        except asyncio.CancelledError:  # a server that stops saves once more, after its tasks
            self._dirty = True
            raise

    async def load(self, router_from: Callable[[Any], Router]) -> None:
        """Take up what was written down; what cannot be read is begun anew.

        Raises StoreUnavailable.
        """
        for name, state in (await self._records.states()).items():
            if name not in _KEPT:  # it is not ours: who is signed in, which checkpoint serves
                continue
            try:
                self._take(name, json.loads(state), router_from)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("what was learnt as %r cannot be read and begins anew: %s", name, error)

    def _take(self, name: str, data: Any, router_from: Callable[[Any], Router]) -> None:
        match name:
            case "router":
                self.router = router_from(data)
            case "utility":
                self.utility = UtilityModel.from_data(data)
            case "threshold":
                self.tuner = ThresholdTuner.from_data(data)
            case "examples":
                self.book = ExampleBook.from_data(data, most=MOST_EXAMPLES)
            case "improved":
                self._improved = Improved.from_data(data)
