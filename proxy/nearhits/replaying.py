"""Answering poor examples anew, while the requested model has nothing else to do (PAPERS 2.5).

The model is asked the example's question again, several times, and a judge says whether one of the
answers is better than what is shown. Only what is *shown* changes: the stored answer stays what a
hit replays. The upstream's own key pays, so that no tenant pays for another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from icl.manager import MOST_REPLAYS, plan_replays
from proxy.answer_text import answer_text
from proxy.judge import LONGEST
from proxy.metrics import Metrics
from proxy.nearhits.gathering import Gatherer, shown_of
from proxy.nearhits.judging import side_by_side
from proxy.nearhits.learning import Learning
from proxy.nearhits.planning import CHAT
from proxy.side_calls import SideCalls
from proxy.upstream_errors import UpstreamError
from store.cache import Cache
from store.entry import EntryId
from store.errors import StoreUnavailable
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.nearhits")

_SAMPLES = 2  # fresh answers for one example
_EVERY = 60.0  # seconds between two looks whether the upstreams are idle
_AT_ONCE = 4  # examples in one idle moment


@dataclass(slots=True)
class Replayed:
    """What replaying came to."""

    planned: int = 0
    replayed: int = 0
    improved: int = 0
    skipped: int = 0
    failed: int = 0


class Replayer:
    """Replays examples. Exists only where a judge is configured."""

    def __init__(
        self,
        *,
        model: str,
        side_calls: SideCalls,
        cache: Cache,
        quarantine: Quarantine,
        learning: Learning,
        gatherer: Gatherer,
        metrics: Metrics,
        may_ask_again: Callable[[EntryId], bool],
        idle: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """`model` judges; `idle` says whether the upstreams have nothing else to do.

        `may_ask_again` says whether an entry is there, and may be asked anew and judged.
        """
        self._model = model
        self._side_calls = side_calls
        self._cache = cache
        self._quarantine = quarantine
        self._learning = learning
        self._gatherer = gatherer
        self._metrics = metrics
        self._may_ask_again = may_ask_again
        self._idle = idle
        self._clock = clock

    def plan(self, most: int) -> Sequence[EntryId]:
        """Return the examples that are worth replaying now, the best first."""
        # Not planned first: what must not be asked would take the places of what may.
        accounts = self._learning.book.accounts(self._clock())
        able = [account for account in accounts if self._may_ask_again(account.id)]
        return plan_replays(able, most, float(_SAMPLES))  # each as dear as one such call

    async def run(self, ids: Sequence[EntryId]) -> Replayed:
        """Replay these examples; stops when the judge's budget for the hour is spent."""
        done = Replayed(planned=len(ids))
        for id in ids:
            if self._side_calls.exhausted:
                break
            try:
                outcome = await self._replay(id)
            except (UpstreamError, StoreUnavailable) as error:
                log.warning("example %s was not replayed: %s", id, error)
                outcome = "failed"
            self._metrics.replays.labels(outcome).inc()
            done.replayed += outcome in ("kept", "improved")
            done.improved += outcome == "improved"
            done.skipped += outcome == "skipped"
            done.failed += outcome == "failed"
        return done

    async def when_idle(self) -> None:
        """Replay a few now and then, for ever, while nobody else asks."""
        while True:
            await asyncio.sleep(_EVERY)
            if self._idle() and not self._side_calls.exhausted:
                try:
                    await self.run(self.plan(_AT_ONCE))
                except Exception:
                    log.exception("replaying examples failed")

    async def _replay(self, id: EntryId) -> str:
        held = self._cache.exact(id)
        if held is None or held.earlier or held.key.context or self._quarantine.tenants(id):
            return "skipped"  # what was said before it is not known any more
        if not self._may_ask_again(id):
            return "skipped"
        if self._learning.book.record(id, self._clock()).replays >= MOST_REPLAYS:
            return "skipped"  # also when it is asked for by name
        shown = self._learning.improved(held)
        if shown is None:
            document = await self._cache.document(id)
            if document is not None:
                shown = answer_text(CHAT, orjson.loads(document.body))
        if not shown or max(len(shown), len(held.query)) > LONGEST:
            return "skipped"
        asked = [{"role": "user", "content": held.query}]
        best, judged = shown, False
        for _ in range(_SAMPLES):
            fresh = (await self._side_calls.chat(None, held.model, asked) or "").strip()
            fit = shown_of(held.query, fresh)
            if fit is None or fit.unfit is not None:
                continue  # in its place nothing would be shown any more
            beside = await self._compare(held.query, best, fresh)
            judged = judged or beside is not None
            if beside is not None and beside < 1.0:
                best = fresh
        # What is kept is as good as all that it was compared with.
        self._learning.replayed(id, 1.0 if judged else None)
        if best is shown:
            return "kept"
        if self._cache.exact(id) is not held:
            return "skipped"
        self._learning.improve(held, best)
        self._gatherer.forget(id)
        return "improved"

    async def _compare(self, question: str, shown: str, fresh: str) -> float | None:
        """Return how good what is shown is beside a fresh answer, in [0, 1]; None if undecided."""
        if shown == fresh:
            return 1.0
        return await side_by_side(self._side_calls, None, self._model, question, shown, fresh)
