"""When an answer in scope shared may be served to other tenants: once two tenants' answers agree.

One tenant's stored answer is that tenant's word only. When another tenant's own upstream call for
the very same request comes back saying the same, both are confirmed; unless a third was answered
otherwise when it asked the same, in these words or others. Then somebody has to look: whoever can
plant an answer under two tenants' keys would else have it served to all (PAPERS.md 4.8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import orjson

from proxy.answer_text import answer_text
from proxy.judge import same_text
from proxy.rules import InForce, Rules
from proxy.turns import TurnEncoder
from proxy.wire.base import Json
from store.cache import Cache
from store.decision.context import open_places, same_past
from store.decision.features import Neighborhood
from store.decision.guards import veto
from store.decision.score import Score
from store.entry import Entry, EntryId, Held, Vector
from store.policy import Mode, Policy, stricter
from store.quarantine import Quarantine

_COMPARED = 8  # other tenants' answers to the very same request looked at for one new answer
_NEAREST = 64  # entries; what lies further off is not seen, so that whoever crowds a place hides it
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


def agree(route: str, one: Json, other: Json) -> bool:
    """Whether two answers on a route say the same; by their texts where each is one text."""
    ours, theirs = answer_text(route, one), answer_text(route, other)
    if ours is None or theirs is None:
        return gist(one) == gist(other)
    return same_text(ours, theirs)


class Confirmation(NamedTuple):
    """What came of a new answer in scope shared."""

    approved: int  # entries that may serve other tenants now, and could not before
    disputed_by: tuple[EntryId, ...]  # what kept two answers that agree from being approved


class Seen(NamedTuple):
    """An entry as one checkpoint sees it."""

    entry: Entry
    rules: Rules  # of that checkpoint
    near: list[tuple[Held, float]]  # entries found by its vector, with their cosines
    past: tuple[Vector | None, ...]  # of its earlier turns; () if none has a vector


class Sharing:
    """Lets answers serve other tenants, and says which answers speak against it."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        in_force: InForce,
        point: Callable[[str, float], float],
        clock: Callable[[], datetime],
    ) -> None:
        """`point` gives the largest P(wrong) served now, for a category and its error budget."""
        self._cache = cache
        self._quarantine = quarantine
        self._in_force = in_force
        self._point = point
        self._clock = clock

    async def confirm(self, entry: Entry) -> Confirmation:
        """Approve a stored entry and its twins of other tenants that say the same.

        Not if another tenant was answered otherwise, nor if anybody called an answer to this
        request wrong: saying it again confirms nothing. Raises StoreUnavailable, and EmbedError
        when an entry of another checkpoint than the one in force cannot be encoded.
        """
        nothing = Confirmation(0, ())
        twins = self._cache.twins(entry.shared_key)
        names = [EntryId(entry.shared_key), *(twin.id for twin in twins)]
        if any(self._quarantine.tenants(name) for name in names):
            return nothing
        agreed = await self._agreeing(entry)
        if not agreed or self._cache.exact(entry.id) is None:
            return nothing
        against = await self._against(entry, {entry.tenant, *(twin.tenant for twin in agreed)})
        if against:
            return Confirmation(0, tuple(against))
        ids = [entry.id, *(twin.id for twin in agreed)]
        return Confirmation(await self._cache.approve(ids), ())

    async def disputed_by(self, entry: Entry) -> list[EntryId]:
        """Return the other tenants' entries that answer the same question otherwise.

        Those of tenants that gave this very answer to this very request are not asked. [] for an
        entry that is not of scope shared. Raises as `confirm` does.
        """
        if not entry.shared_key:
            return []
        agreed = await self._agreeing(entry)
        return await self._against(entry, {entry.tenant, *(twin.tenant for twin in agreed)})

    async def _agreeing(self, entry: Entry) -> list[Held]:
        """Return the twins of other tenants that say the same."""
        said = gist(orjson.loads(entry.body))
        agreed = []
        for twin in self._cache.twins(entry.shared_key)[:_COMPARED]:
            if twin.tenant == entry.tenant:
                continue
            document = await self._cache.document(twin.id)
            if document is not None and gist(orjson.loads(document.body)) == said:
                agreed.append(twin)
        return agreed

    async def _against(self, entry: Entry, vouching: set[str]) -> list[EntryId]:
        seen = await self._seen(entry)
        answer, against = orjson.loads(entry.body), []
        for held in self._others(seen, vouching):
            document = await self._cache.document(held.id)
            if document is not None and not agree(entry.route, answer, orjson.loads(document.body)):
                against.append(held.id)
            await asyncio.sleep(0)  # a document in memory is had without a pause
        return against

    async def _seen(self, entry: Entry) -> Seen:
        """Return what the checkpoint in force finds near an entry; encode one of another."""
        rules = self._in_force.rules
        encoding, vector, past = rules.encoding, entry.vector, entry.earlier_vectors
        if vector is None:
            return Seen(entry, rules, [], ())
        if entry.checkpoint != encoding.checkpoint:
            if not encoding.encoder.fits(entry.query):
                return Seen(entry, rules, [], ())
            vector = await encoding.batcher.encode(entry.query)
            past = await TurnEncoder(encoding).encode(entry.earlier)
        found = await self._cache.similar(
            entry.key, vector, _NEAREST, checkpoint=encoding.checkpoint
        )
        return Seen(entry, rules, [(each.held, each.similarity) for each in found], past)

    def _others(self, seen: Seen, vouching: set[str]) -> Iterator[Held]:
        """Yield what other tenants have under the same question and may still be served."""
        entry, book, now = seen.entry, seen.rules.book, self._clock()
        twins = self._cache.twins(entry.shared_key)[:_NEAREST]
        looked_at = {entry.id}
        for held, similarity in (*((twin, 1.0) for twin in twins), *seen.near):
            if held.id in looked_at or held.tenant in vouching or held.category not in book:
                continue
            looked_at.add(held.id)
            if self._quarantine.holds(held.id, held.tenant):
                continue  # it was called wrong, so it says nothing
            if book[held.category].expired(now - held.created_at):
                continue
            if held.shared_key == entry.shared_key or self._same(seen, held, similarity):
                yield held

    def _same(self, seen: Seen, held: Held, similarity: float) -> bool:
        """Whether either entry's answer could be served to the other's question."""
        entry, book = seen.entry, seen.rules.book
        if entry.category not in book:
            return False
        ours, theirs = _laxest(book[entry.category]), _laxest(book[held.category])
        policy = stricter(ours, theirs)
        if policy.mode is not Mode.SEMANTIC or similarity < policy.hit_threshold:
            return False
        if veto(entry.query, held.query) and veto(held.query, entry.query):
            return False
        if not self._same_past(seen, held, policy.context_threshold):
            return False
        score = seen.rules.encoding.score.now
        points = [self._laxest_point(each, score) for each in (ours, theirs) if each.error_budget]
        return not points or _risk(score, entry, held, similarity) <= min(points)

    def _same_past(self, seen: Seen, held: Held, threshold: float) -> bool:
        theirs = self._cache.vectors.earlier(held.id, seen.rules.encoding.checkpoint)
        places = open_places(seen.entry.earlier, held.earlier, theirs)
        if not places:
            return places is not None
        if not seen.past:
            return False
        return same_past([seen.past[n] for n in places], [theirs[n] for n in places], threshold)

    def _laxest_point(self, policy: Policy, score: Score | None) -> float:
        """Return the larger of the shipped point and that of now, which comes and goes."""
        if policy.error_budget is None or score is None:
            return 0.0
        shipped = score.point(policy.name, policy.error_budget)
        return max(shipped, self._point(policy.name, policy.error_budget))


def _risk(score: Score | None, entry: Entry, held: Held, similarity: float) -> float:
    """Return P(wrong) in the direction in which it is smaller; 1.0 where no score fits.

    The neighbourhood is left out: whoever plants entries makes it.
    """
    if score is None:
        return 1.0
    place = Neighborhood(similarity)
    (one,) = score.wrong(entry.query, [(held.query, held.category, place)], entry.category)
    (other,) = score.wrong(held.query, [(entry.query, entry.category, place)], held.category)
    return min(one, other)


def _laxest(policy: Policy) -> Policy:
    """Return the policy as load may bend it: an approval outlives the load of the moment."""
    if policy.load is None:
        return policy
    floor = min(policy.hit_threshold, policy.load.threshold_floor)
    return replace(policy, hit_threshold=floor)
