"""The last hop: an upstream's answer becomes an entry, if it may be stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import orjson

from embed.errors import EmbedError
from proxy.answer import JSON_TYPE
from proxy.call import Call
from proxy.head import Head
from proxy.metrics import Metrics
from proxy.outcome import Lookup
from proxy.sharing import Sharing
from proxy.turns import TurnEncoder
from proxy.wire.base import Json
from proxy.wire.echo import without_asker
from proxy.wire.numbers import read_exactly
from proxy.wire.sse import SseReader
from store.cache import Cache
from store.economics import Economics
from store.entry import Admission, Entry, Vector
from store.errors import StoreUnavailable
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.admission")

_LARGE = 64 * 1024  # bytes of a stream whose assembly is worth a trip to a thread


class Admitter:
    """Offers upstream answers to the cache."""

    def __init__(
        self,
        *,
        cache: Cache,
        sharing: Sharing,
        quarantine: Quarantine,
        economics: Economics,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._cache = cache
        self._sharing = sharing
        self._quarantine = quarantine
        self._economics = economics
        self._metrics = metrics
        self._clock = clock

    def now(self) -> int:
        """Return the place in time of what is asked of an upstream now, for `admit`."""
        return self._cache.purges.count

    async def read(self, call: Call, head: Head, raw: bytes) -> dict[str, Json] | None:
        """Return the JSON form of an answer; None if it did not end cleanly or is none."""
        try:
            if len(raw) > _LARGE:
                return await asyncio.to_thread(_whole_answer, call, head.is_stream, raw)
            return _whole_answer(call, head.is_stream, raw)
        except Exception:
            log.exception("the answer to %s cannot be read; not stored", call.request.request_id)
            self._metrics.faults.labels("admission").inc()
            return None

    async def admit(
        self,
        call: Call,
        lookup: Lookup,
        head: Head,
        raw: bytes,
        whole: dict[str, Json] | None,
        cost: float,
        asked: int,
    ) -> str:
        """Store the answer if it may be stored; return the outcome for the metrics.

        `cost` is the seconds that the upstream took, `asked` what `now` was when it was asked.
        """
        if not head.readable:
            return "error"
        if whole is None:
            return "unfinished" if head.is_stream else "malformed"
        self._economics.answered(call.category, call.group, cost)
        refused = call.wire.refuse(whole, store_tool_calls=call.policy.store_tool_calls)
        if refused is not None:
            return refused
        if self._quarantine.holds(call.id, call.caller.tenant):
            return "quarantined"  # the next answer under this key would be as wrong to somebody
        vector = await self._encoded_later(call) if lookup.encode_later else lookup.vector
        past = await self._encoded_past(call) if vector is not None else ()
        entry = self._entry(call, vector, past, head, raw, whole, cost)
        outcome = await self._cache.admit(entry, asked)
        if entry.shared_key and outcome is Admission.STORED:
            await self._confirm(entry)
        return outcome

    def _entry(
        self,
        call: Call,
        vector: Vector | None,
        past: tuple[Vector | None, ...],
        head: Head,
        raw: bytes,
        whole: dict[str, Json],
        cost: float,
    ) -> Entry:
        content_type = JSON_TYPE if head.is_stream else head.content_type or JSON_TYPE
        answer_id = whole.get("id")
        kept = without_asker(whole, call.body)
        return Entry(
            id=call.id,
            key=call.partition,
            tenant=call.caller.tenant,
            user=call.asker,
            category=call.category,
            classifier=call.classifier,
            route=call.wire.path,
            model=call.model,
            query=call.question.text,
            tags=call.tags,
            created_at=self._clock(),
            content_type=content_type.decode("latin-1"),
            body=orjson.dumps(kept) if head.is_stream or kept is not whole else raw,
            checkpoint=call.rules.encoding.checkpoint,
            vector=vector,
            shared_key=call.shared_key,
            cost=cost,
            answer_id=answer_id if isinstance(answer_id, str) else "",
            earlier=call.question.earlier,
            earlier_vectors=past,
            key_id=call.caller.key_id,
        )

    async def _encoded_past(self, call: Call) -> tuple[Vector | None, ...]:
        """Return the vectors of the earlier user turns; () if there are none."""
        vectors = await TurnEncoder(call.rules.encoding).encode(call.question.earlier)
        return () if all(vector is None for vector in vectors) else vectors

    async def _encoded_later(self, call: Call) -> Vector | None:
        """Return the vector of a question whose search was skipped; the client has its answer."""
        try:
            return await call.rules.encoding.batcher.encode(call.question.text)
        except EmbedError:
            return None  # found by its exact key only

    async def _confirm(self, entry: Entry) -> None:
        try:
            came = await self._sharing.confirm(entry)
        except (StoreUnavailable, EmbedError) as error:
            log.warning("shared entry %s stays unconfirmed: %s", entry.id, error)
            return
        if came.disputed_by:
            log.warning(
                "shared entry %s needs an admin: other tenants' %s answer it otherwise",
                entry.id,
                ", ".join(came.disputed_by),
            )
            category = self._metrics.category(entry.category)
            self._metrics.shared_disputes.labels(category).inc()


def _whole_answer(call: Call, is_stream: bool, raw: bytes) -> dict[str, Json] | None:
    if is_stream:
        reader = SseReader()
        events = reader.feed(raw)
        return None if reader.flush().strip() else call.wire.assemble(events)
    try:
        whole = read_exactly(raw)
    except ValueError:  # the upstream's fault, not ours: passed on as it is
        return None
    return whole if isinstance(whole, dict) else None
