"""What the cache would do with a request, and why: the lookup itself, asked by somebody who looks.

The call is read, placed, looked up and judged by the code that serves. Only what that code writes
to is another's: its metrics are thrown away and its gates do not move. Nothing is served, stored,
counted or asked of an upstream. The encoder does encode, and its own measurements say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embed.errors import EmbedError
from proxy.auth import CREDENTIALS, Keyring
from proxy.call import Call, CallReader, Request, told_by
from proxy.category import Told
from proxy.errors import ApiError, as_api_error
from proxy.identity import InvalidJson, UserNotAllowed
from proxy.lookup import Searcher, told_before
from proxy.nearest import Point
from proxy.nearhits.plan import Expected
from proxy.nearhits.tier import NearHits
from proxy.outcome import Lookup, Outcome
from proxy.prototypes import Near
from proxy.wire import WIRES
from proxy.wire.base import InvalidRequest
from store.cache import Cache
from store.entry import Held
from store.policy import Policy
from store.quarantine import Quarantine

_REQUEST_ID = "explained"
_BLIND = ("overload", "fault")  # reasons of a bypass for which the encoder is left in peace
_CHAT = "/v1/chat/completions"
# Said of a request by what carries it, not by whoever asks what would become of it.
_IGNORED = frozenset({*CREDENTIALS, b"content-type", b"content-length", b"host"})


class Explain(BaseModel):
    """Which request is to be explained, and as whose."""

    model_config = ConfigDict(extra="forbid")

    body: dict[str, Any]
    tenant: str = Field("default", min_length=1, max_length=256)
    headers: dict[str, str] = Field({}, max_length=64)
    route: str = _CHAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """All that was found out about a request."""

    call: Call
    told: Told  # what tells its category
    near: list[Near]  # categories by how near their examples are; [] if none was to be asked
    lookup: Lookup
    exact: Held | None  # the entry under the request's own key
    quarantined: bool  # that entry, for this tenant
    expected: Expected | None  # of a miss, where small models are configured
    point: float | None  # the largest P(wrong) served in the call's category; None: no budget
    base: Policy  # of the category, before load
    now: datetime


class Explainer:
    """Asks what would happen."""

    def __init__(
        self,
        *,
        reader: CallReader,
        searcher: Searcher,
        cache: Cache,
        quarantine: Quarantine,
        keyring: Keyring,
        point: Point,
        near_hits: NearHits | None,
        clock: Callable[[], datetime],
    ) -> None:
        """`reader` and `searcher` are of its own: what they write to, nobody else reads."""
        self._reader = reader
        self._searcher = searcher
        self._cache = cache
        self._quarantine = quarantine
        self._keyring = keyring
        self._point = point
        self._near_hits = near_hits
        self._clock = clock

    async def explained(self, asked: Explain) -> Explained:
        """Return what would become of this request now.

        Raises ApiError for what the request itself would be refused with.
        """
        try:
            return await self._explained(self._read(asked))
        except (InvalidJson, InvalidRequest, UserNotAllowed) as error:
            raise as_api_error(error) from None

    async def _explained(self, call: Call) -> Explained:
        told = told_by(call)
        held = self._cache.exact(call.id)
        if held is not None and not call.placed:  # an exact repeat is not placed anew
            before = told_before(call, held)
            if before is not None:
                call.place(*before)
        lookup = await self._searcher.find(call)
        exact = self._cache.exact(call.id)  # in scope user it goes by another key
        policy = call.policy
        return Explained(
            call=call,
            told=told,
            near=[] if lookup.reason in _BLIND else await self._near(call, told),
            lookup=lookup,
            exact=exact,
            quarantined=exact is not None and self._quarantine.holds(exact.id, call.caller.tenant),
            expected=await self._expected(call, lookup),
            point=None
            if policy.error_budget is None
            else self._point(policy.name, policy.error_budget),
            base=call.rules.book[policy.name],
            now=self._clock(),
        )

    def _read(self, asked: Explain) -> Call:
        wire = WIRES.get(asked.route)
        if wire is None:
            known = ", ".join(WIRES)
            raise ApiError(400, f"route: {asked.route!r} is not cached; known: {known}")
        header_list = [(b"content-type", b"application/json"), *_headers(asked.headers)]
        joined: dict[bytes, bytes] = {}
        for name, value in header_list:
            joined[name] = value if name not in joined else joined[name] + b", " + value
        request = Request(
            raw=json.dumps(asked.body).encode(),
            header_list=header_list,
            headers=joined,
            query_string=b"",
            request_id=_REQUEST_ID,
        )
        return self._reader.read(wire, request, self._keyring.of_tenant(asked.tenant))

    async def _near(self, call: Call, told: Told) -> list[Near]:
        """Return how near the question is to each category's examples, where they were asked."""
        prototypes, text = call.rules.prototypes, call.question.text
        if prototypes is None or not (told is Told.EXAMPLES or call.classifier or call.chosen):
            return []
        encoding = call.rules.encoding
        whole = encoding.encoder.fits(text)
        window = text if whole else encoding.encoder.first_window(text)
        if window is None:
            return []
        try:
            return prototypes.nearest(await encoding.batcher.encode(window))
        except EmbedError:
            return []  # the lookup says so itself

    async def _expected(self, call: Call, lookup: Lookup) -> Expected | None:
        is_miss = lookup.outcome is Outcome.MISS and lookup.vector is not None
        if self._near_hits is None or not is_miss or not lookup.around or not call.group:
            return None
        return await self._near_hits.expected(call, lookup)


def _headers(said: dict[str, str]) -> list[tuple[bytes, bytes]]:
    try:
        pairs = [(k.strip().lower().encode("ascii"), v.encode("latin-1")) for k, v in said.items()]
    except UnicodeEncodeError as error:
        raise ApiError(400, f"headers: {error.object!r} cannot be sent in a header") from None
    return [(name, value) for name, value in pairs if name not in _IGNORED]
