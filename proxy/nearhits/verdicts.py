"""Which small answers get a verdict, and from whom: off the client's path, each by its chance.

- An answer that went out is judged beside the requested model's, which is asked for it; while that
  one is overloaded a stored question is put to the small model instead (`rehearsing`), whose answer
  is known.
- An answer that did not go out, the model not being sure, is judged beside the one that the client
  then gets: nobody is asked for it.
- A trial that nobody sees: the small model is asked what the requested one has just answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import orjson

from icl.arms import Arm
from icl.prompt import with_examples
from proxy.answer_text import answer_text
from proxy.nearhits.cascade import asking_confidence
from proxy.nearhits.judging import Judging, Question
from proxy.nearhits.learning import Learning
from proxy.nearhits.plan import Offer, Plan, may_judge
from proxy.nearhits.rehearsing import nearest, rehearsal
from proxy.outcome import Lookup
from proxy.wire.base import Fields, Json
from store.entry import EntryId

_UNSENT = 0.25  # least share of the unsent answers that are judged, lest a judge has no time left


class Verdicts:
    """Has small models' answers judged."""

    def __init__(
        self,
        judging: Judging,
        learning: Learning,
        clock: Callable[[], float],
        draw: Callable[[], float],
        may_ask_again: Callable[[EntryId], bool],
    ) -> None:
        """`clock` gives Unix seconds, `draw` numbers within [0, 1).

        `may_ask_again` says whether an entry's question may be asked anew and judged.
        """
        self._judging = judging
        self._learning = learning
        self._clock = clock
        self._draw = draw
        self._may_ask_again = may_ask_again

    @property
    def exhausted(self) -> bool:
        """Whether the hour's budget is spent, so that nothing can be judged now."""
        return self._judging.exhausted

    def sent(self, offer: Offer, whole: bytes) -> None:
        """Perhaps have an answer judged, in its JSON form, that the client has got."""
        plan = offer.plan
        probability = plan.choice.audit
        if not may_judge(plan.call) or self._draw() >= probability:
            return
        if plan.prospect.situation.load > 0.0 and self._rehearse(plan, probability):
            return
        text = answer_text(plan.call.wire.path, orjson.loads(whole))
        self._judging.put(
            Question(
                call=plan.call, served=offer.near_hit, answer=text or "", probability=probability
            )
        )

    def unsent(self, offer: Offer, whole: bytes | None, lookup: Lookup) -> Lookup:
        """Return the lookup; perhaps the answer is to be judged beside the one the client gets.

        `whole` is its JSON form, None if nobody knows all of it.
        """
        plan = offer.plan
        chance = max(_UNSENT, plan.choice.shadow)
        if whole is None or not may_judge(plan.call) or self._draw() >= chance:
            return lookup
        text = answer_text(plan.call.wire.path, orjson.loads(whole)) or ""
        served = replace(offer.near_hit, sent=False)

        def tell(large: Fields) -> None:
            said = answer_text(plan.call.wire.path, large)
            self._judging.put(
                Question(call=plan.call, served=served, answer=text, large=said, probability=1.0)
            )

        return replace(lookup, shadow=tell)

    def beside(self, plan: Plan, lookup: Lookup) -> Lookup:
        """Return the lookup; perhaps the small model is tried on what is answered, unseen."""
        if not may_judge(plan.call) or self._draw() >= plan.choice.shadow:
            return lookup

        def tell(whole: Fields) -> None:
            self._judging.put(
                Question(
                    call=plan.call,
                    served=plan.near_hit(Arm.EXAMPLES, self._clock(), sent=False),
                    body=lambda: _asked(plan),
                    large=answer_text(plan.call.wire.path, whole),
                    probability=1.0,
                )
            )

        return replace(lookup, shadow=tell)

    def _rehearse(self, plan: Plan, probability: float) -> bool:
        """Put a stored question to the small model; return whether there is one."""
        prospect = plan.prospect
        asked = nearest(prospect.selection.examples, self._may_ask_again)
        if asked is None or plan.choice.arm is not Arm.EXAMPLES:
            return False
        seen = plan.near_hit(Arm.EXAMPLES, self._clock(), sent=False)

        def body() -> dict[str, Json] | None:
            chat = rehearsal(
                json.loads(plan.call.request.raw),
                asked,
                prospect.candidates,
                self._learning.utility,
                prospect.limits,
                prospect.pairing.small,
            )
            return None if chat is None else _cascaded(plan, chat)

        self._judging.put(
            Question(
                call=plan.call,
                # What other examples did is not on the account of these.
                served=replace(seen, examples=(), features=(), level=-1.0, tokens=0),
                body=body,
                large=asked.answer,
                asked=asked.question,
                probability=probability,
            )
        )
        return True


def asked_of_small(plan: Plan, arm: Arm) -> dict[str, Json]:
    """Return the chat that the small model gets, without what a cascade adds."""
    examples = plan.prospect.selection.examples if arm is Arm.EXAMPLES else ()
    return with_examples(json.loads(plan.call.request.raw), examples, plan.prospect.pairing.small)


def _asked(plan: Plan) -> dict[str, Json]:
    return _cascaded(plan, asked_of_small(plan, Arm.EXAMPLES))


def _cascaded(plan: Plan, chat: dict[str, Json]) -> dict[str, Json]:
    return asking_confidence(chat) if plan.prospect.pairing.cascade else chat
