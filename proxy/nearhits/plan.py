"""What a near-hit is decided from, what is decided, and what is offered to the client. Values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from icl.arms import Arm, Choice, Favour, Situation
from icl.confidence import Confidence
from icl.example import Example
from icl.selection import Limits, Selection
from proxy.call import Call
from proxy.model_settings import Offload as Pairing
from proxy.nearhits.served import NearHit
from store.entry import Held
from store.policy import Mode, Offload, PolicyBook

REASONS = (
    "pairing", "offload", "unjudged", "asked_again", "resting", "busy", "request", "examples"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What a near-hit is decided from."""

    pairing: Pairing
    situation: Situation
    candidates: Sequence[Example]
    selection: Selection
    limits: Limits  # of the selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What would be done with a miss, for people to read."""

    reason: str  # why no small model may answer, of REASONS; "": one may
    prospect: Prospect | None = None
    favour: Favour | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done with a near-hit."""

    call: Call
    prospect: Prospect
    choice: Choice

    def near_hit(self, arm: Arm, at: float, *, sent: bool) -> NearHit:
        """Return an answer of an arm, given at `at` in Unix seconds, for its verdict."""
        call, prospect = self.call, self.prospect
        shown = prospect.selection if arm is Arm.EXAMPLES else None
        return NearHit(
            at=at,
            tenant=call.caller.tenant,
            request_id=call.request.request_id,
            asked=call.id,
            asker=call.asker,
            category=call.category,
            small=prospect.pairing.small,
            arm=arm,
            context=prospect.situation.context,
            examples=() if shown is None else tuple(each.id for each in shown.examples),
            features=() if shown is None else shown.features,
            level=-1.0 if shown is None else prospect.limits.threshold,
            tokens=0 if shown is None else shown.tokens,
            bare=len(call.body["messages"]) == 1,
            sent=sent,
        )


class Offer:
    """A small model's answer on its way to the client, or not."""

    def __init__(self, plan: Plan, at: float) -> None:
        self.plan = plan
        self.near_hit = plan.near_hit(plan.choice.arm, at, sent=True)

    def sure(self, confidence: Confidence) -> None:
        """Note how sure the model was."""
        self.near_hit = replace(self.near_hit, confidence=confidence)


def may_judge(call: Call) -> bool:
    """Whether this call may be asked again and its answers shown to a judge."""
    return call.policy.offload is not Offload.UNJUDGED and call.policy.audit


def may_ask_again(held: Held, book: PolicyBook, now: datetime) -> bool:
    """Whether a stored question may be asked anew and its answers shown to a judge.

    That is for its own category to say, as policies are now, and only while it can be an example.
    """
    if held.category not in book:
        return False
    policy = book[held.category]
    if policy.mode is not Mode.SEMANTIC or policy.offload is Offload.OFF or not policy.audit:
        return False
    return not policy.expired(now - held.created_at)
