"""Which of the entries near a question may be shown to a small model, and what they say.

An example shows a model another question's answer, which whoever asks may make it recite. So it
comes from the same tenant and, unless both categories say `example_scope: tenant`, from the same
asker; and what is shown was scrubbed first, whatever the scope.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import orjson

from icl.example import Example, TrackRecord
from icl.scrub import scrub
from icl.shown import Shown
from proxy.answer_text import answer_text
from proxy.call import Call
from proxy.nearhits.planning import CHAT
from proxy.nearhits.shown_forms import ShownForms
from store.cache import Cache
from store.entry import Candidate, EntryId, Held
from store.errors import StoreUnavailable
from store.policy import Mode, Offload, Scope
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.nearhits")

Keep = Callable[[Held, Shown | None], None]  # what is shown of an entry

_MOST = 12  # entries that are looked at
_PATIENCE = 0.05  # seconds for all of their answers
_LONGEST = 8_000  # characters of a question or an answer that is shown


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


def shown_of(query: str, answer: str) -> Shown | None:
    """Return what is shown of a question and its answer; None if they are too long or private.

    Private is an answer that scrubbing changes: small models repeat what they are shown, and
    whoever asks would get a placeholder for an answer.
    """
    answer = answer.strip()
    if max(len(answer), len(query)) > _LONGEST or scrub(answer) != answer:
        return None
    return Shown.read(scrub(query), answer)


class Gatherer:
    """Fetches what entries say, in the form in which it may be shown."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        record: Callable[[EntryId, float], TrackRecord],
        improved: Callable[[Held], str | None],
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
        self._forms = ShownForms()

    async def examples(self, call: Call, around: Sequence[Candidate]) -> list[Example]:
        """Return the examples that a call's neighbours make; what takes too long is left out."""
        now = self._clock()
        at = now.timestamp()
        asker, quarantine = call.asker, self._quarantine
        chosen = [each for each in around if may_show(call, asker, each, now, quarantine)][:_MOST]
        forms = [self._forms.get(each.held) for each in chosen]
        shown = [None if form is None else form.shown for form in forms]
        missing = [number for number, form in enumerate(forms) if form is None]
        if missing:
            try:
                async with asyncio.timeout(_PATIENCE):
                    for number in missing:
                        shown[number] = await self._make(chosen[number].held, self._forms.put)
            except (TimeoutError, StoreUnavailable) as error:
                log.info("some examples were left out: %s", error or "they took too long")
        return [
            Example(
                id=candidate.held.id,
                shown=each,
                similarity=candidate.similarity,
                age=(now - candidate.held.created_at).total_seconds(),
                record=self._record(candidate.held.id, at),
            )
            for candidate, each in zip(chosen, shown, strict=True)
            if each is not None and self._is_still_there(candidate.held.id)
        ]

    async def prepare(self, held: Held, *, make_room: bool) -> None:
        """Make what is shown of an entry before anybody asks; who may see it is decided then.

        Without `make_room` it is kept only where there is room for it. Raises StoreUnavailable, and
        ValueError for a document that cannot be read.
        """
        if not self.knows(held):
            await self._make(held, self._forms.put if make_room else self._forms.put_last)

    def knows(self, held: Held) -> bool:
        """Whether what is shown of this version of an entry is ready."""
        return self._forms.knows(held)

    @property
    def has_room(self) -> bool:
        """Whether more can be prepared without letting go of anything."""
        return self._forms.has_room

    def forget(self, id: EntryId) -> None:
        """Let go of an entry that is gone; make anew what is shown of one that was improved."""
        self._forms.forget(id)

    def _is_still_there(self, id: EntryId) -> bool:
        return self._cache.exact(id) is not None and not self._quarantine.tenants(id)

    async def _make(self, held: Held, keep: Keep) -> Shown | None:
        """Return what is shown of an entry; None if it is gone, no text, or as for `shown_of`."""
        improved = answer = self._improved(held)
        if improved is None:
            document = await self._cache.document(held.id)
            if document is None:
                return None
            answer = answer_text(CHAT, orjson.loads(document.body))
        made = None if answer is None else shown_of(held.query, answer)
        # Not what was replaced, removed or improved while it was read.
        if self._cache.exact(held.id) == held and self._improved(held) is improved:
            keep(held, made)
        return made
