"""Near-hits, as an operator sees them: who answers what, how well, and which examples help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from heapq import nlargest
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from proxy.admin.access import Access
from proxy.admin.entries import audit_row
from proxy.errors import ApiError
from proxy.model_settings import Offload
from proxy.nearhits.learning import Learning
from proxy.nearhits.replaying import Replayer
from proxy.nearhits.tier import NearHits
from store.cache import Cache
from store.documents.records import Records
from store.entry import EntryId

_MOST_SHOWN = 50  # examples


class Replay(BaseModel):
    """What to replay."""

    model_config = ConfigDict(extra="forbid")

    most: int = Field(20, ge=1, le=1000)
    ids: list[str] | None = Field(None, max_length=1000)
    dry_run: bool = False


class NearHitsAdmin:
    """What an operator may see and do of the near-hit tier."""

    def __init__(
        self,
        *,
        access: Access,
        records: Records,
        pairings: Sequence[Offload],
        learning: Learning | None,
        replayer: Replayer | None,
        tier: NearHits | None,
        cache: Cache,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives unix seconds."""
        self._access = access
        self._records = records
        self._pairings = pairings
        self._learning = learning
        self._replayer = replayer
        self._tier = tier
        self._cache = cache
        self._clock = clock

    async def router(self) -> dict[str, Any]:
        """Return the pairings, what is known of every small model by category, and the examples."""
        learning = self._learning
        if learning is None:
            return {"offload": [], "judged": False, "arms": [], "examples": []}
        now = self._clock()
        accounts = learning.book.accounts(now)
        useful = nlargest(_MOST_SHOWN, accounts, key=lambda account: account.offered)
        return {
            "offload": [self._pairing(pairing, learning) for pairing in self._pairings],
            "judged": self._replayer is not None,
            "threshold": learning.tuner.adopted,
            "arms": learning.router.standings(),
            "examples": [self._example(account.id, now) for account in useful],
        }

    async def replay(self, request: Request, asked: Replay) -> dict[str, Any]:
        """Replay poor examples now, or say which ones would be.

        A replay costs calls and changes what small models are shown, so it is in the audit trail.
        """
        if self._replayer is None:
            raise ApiError(
                409,
                "examples are replayed where `offload` and `judge` are configured",
                code="replay_unavailable",
            )
        ids = self._replayer.plan(asked.most)
        if asked.ids is not None:
            ids = [EntryId(id) for id in asked.ids]
        if asked.dry_run:
            now = self._clock()
            return {"planned": len(ids), "examples": [self._example(id, now) for id in ids]}
        came = asdict(await self._replayer.run(ids))
        who, at = self._access.who(request), datetime.fromtimestamp(self._clock(), UTC)
        await self._records.add_audit(audit_row(at, who, "examples.replay", came))
        return came

    def _pairing(self, pairing: Offload, learning: Learning) -> dict[str, Any]:
        """Return a pairing with the load on its requested models, and what that comes to."""
        load = 0.0 if self._tier is None else self._tier.load(pairing)
        bias = learning.router.load_bias(load)
        return {**pairing.model_dump(), "load": round(load, 4), "load_bias": round(bias, 4)}

    def _example(self, id: EntryId, now: float) -> dict[str, Any]:
        assert self._learning is not None
        held, record = self._cache.exact(id), self._learning.book.record(id, now)
        return {
            "id": id,
            "query": None if held is None else held.query,
            "value": round(self._learning.book.value(id, now), 4),
            "offered": round(record.offered, 4),
            "quality": round(record.quality, 4),
            "replays": record.replays,
        }
