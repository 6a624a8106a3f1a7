"""Which of the entries near a question may be shown to a small model, and what they say.

An example shows a model another question's answer, which whoever asks may make it recite. So it
comes from the same tenant and, unless both categories say `example_scope: tenant`, from the same
asker; and what is shown was scrubbed first, whatever the scope.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from icl.example import Example, TrackRecord
from icl.scrub import scrub
from proxy.answer_text import answer_text
from proxy.call import Call
from store.cache import Cache
from store.entry import Candidate, EntryId, Held
from store.errors import StoreUnavailable
from store.policy import Mode, Offload, Scope
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.nearhits")

_MOST = 12  # entries that are looked at
_PATIENCE = 0.05  # seconds for all of their answers
_REMEMBERED = 4096  # entries whose shown form is kept
_LONGEST = 8_000  # characters of a question or an answer that is shown


class Shown(NamedTuple):
    """What is shown of an entry."""

    created_at: datetime  # of the version that it was made from
    question: str
    answer: str


def may_show(
    call: Call, asker: str, candidate: Candidate, now: datetime, quarantine: Quarantine
) -> bool:
    """Whether this entry may be an example for this call, by `asker`.

    A guard's veto does not matter here: what changes the answer may still be learnt from.
    """
    held = candidate.held
    if held.tenant != call.caller.tenant or quarantine.tenants(held.id):
        return False
    if held.category not in call.rules.book:
        return False
    theirs = call.policy_of(held.category)
    if theirs.mode is not Mode.SEMANTIC or theirs.offload is Offload.OFF:
        return False
    if theirs.scope is not call.policy.scope:
        return False
    if candidate.similarity < max(theirs.near_threshold, call.policy.near_threshold):
        return False
    by_user = Scope.USER in (theirs.example_scope, call.policy.example_scope)
    if by_user and (not held.user or held.user != asker):
        return False
    return held.earlier == call.question.earlier and _is_fresh(call, held, now)


def _is_fresh(call: Call, held: Held, now: datetime) -> bool:
    policy, age = call.policy_over(held), now - held.created_at
    if policy is None or policy.expired(age):
        return False
    limit = call.directives.max_age
    return limit is None or age <= timedelta(seconds=limit)


class Gatherer:
    """Fetches what entries say, in the form in which it may be shown."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        record: Callable[[EntryId, float], TrackRecord],
        improved: Callable[[EntryId], str | None],
        clock: Callable[[], datetime],
    ) -> None:
        """`record` tells what an entry has been worth as an example at a unix second.

        `improved` gives a better answer that a replay has found, for examples only.
        """
        self._cache = cache
        self._quarantine = quarantine
        self._record = record
        self._improved = improved
        self._clock = clock
        self._shown: OrderedDict[EntryId, Shown] = OrderedDict()

    async def examples(self, call: Call, around: Sequence[Candidate]) -> list[Example]:
        """Return the examples that a call's neighbours make; what takes too long is left out."""
        now = self._clock()
        asker, quarantine = call.asker, self._quarantine
        chosen = [each for each in around if may_show(call, asker, each, now, quarantine)][:_MOST]
        shown: list[Shown | None] = []
        try:
            async with asyncio.timeout(_PATIENCE):
                for candidate in chosen:
                    shown.append(await self._show(call.wire.path, candidate.held))
        except (TimeoutError, StoreUnavailable) as error:
            log.info("some examples were left out: %s", error or "they took too long")
        return [
            Example(
                id=candidate.held.id,
                question=each.question,
                answer=each.answer,
                similarity=candidate.similarity,
                age=(now - candidate.held.created_at).total_seconds(),
                record=self._record(candidate.held.id, now.timestamp()),
            )
            for candidate, each in zip(chosen, shown, strict=False)
            if each is not None and not self._quarantine.tenants(candidate.held.id)
        ]

    def forget(self, id: EntryId) -> None:
        """Make what is shown of an entry anew: its answer was improved."""
        self._shown.pop(id, None)

    async def _show(self, path: str, held: Held) -> Shown | None:
        """Return what is shown of an entry, made once; None if it is no text or too long."""
        known = self._shown.get(held.id)
        if known is not None and known.created_at == held.created_at:
            self._shown.move_to_end(held.id)
            return known if self._cache.exact(held.id) is not None else None
        answer = self._improved(held.id)
        if answer is None:
            document = await self._cache.document(held.id)
            if document is None:
                return None
            answer = answer_text(path, orjson.loads(document.body))
        if answer is None or max(len(answer), len(held.query)) > _LONGEST:
            return None
        made = Shown(held.created_at, scrub(held.query), scrub(answer.strip()))
        self._shown[held.id] = made
        if len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)
        return made
