"""When an answer in scope shared may be served to other tenants: once two tenants' answers agree.

One tenant's stored answer is that tenant's word only. When another tenant's own upstream call for
the very same request comes back saying the same, both are confirmed.
"""

from __future__ import annotations

import logging

import orjson

from proxy.wire.base import Json
from store.cache import Cache
from store.entry import EntryId

log = logging.getLogger("nearhit.sharing")

_COMPARED = 8  # other tenants' answers looked at for one new answer
# What differs between two calls that were answered alike.
_INCIDENTAL = frozenset(
    {
        *("id", "created", "created_at", "completed_at", "system_fingerprint", "usage"),
        *("service_tier", "metadata", "user", "safety_identifier", "prompt_cache_key"),
    }
)


def gist(answer: Json) -> str:
    """Return what an answer says, without ids, times and counts, in one case and spacing."""
    return " ".join(orjson.dumps(_said(answer)).decode().casefold().split())


def _said(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _said(value[key]) for key in sorted(value) if key not in _INCIDENTAL}
    if isinstance(value, list):
        return [_said(each) for each in value]
    return " ".join(value.split()) if isinstance(value, str) else value


async def confirm(cache: Cache, id: EntryId, shared_key: str, answer: Json) -> int:
    """Approve the entry and its twins of other tenants that say the same; return how many.

    Raises StoreUnavailable.
    """
    ours = cache.exact(id)
    if ours is None:
        return 0
    said = gist(answer)
    agreed = []
    for twin in cache.twins(shared_key)[:_COMPARED]:
        if twin.tenant == ours.tenant:
            continue
        document = await cache.document(twin.id)
        if document is not None and gist(orjson.loads(document.body)) == said:
            agreed.append(twin.id)
    return await cache.approve([id, *agreed]) if agreed else 0
