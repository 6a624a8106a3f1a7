"""What one candidate of a search by meaning comes to by itself, and what is in its way. Pure.

`allowed` says it without reading either text; `guarded` reads both, which costs a hundred times as
much.
"""

from __future__ import annotations

import logging
from datetime import datetime

from proxy.call import Call
from proxy.outcome import Barrier, Judgement, Outcome, exact_outcome
from store.decision.guards import veto
from store.entry import Candidate, Held
from store.policy import Mode, Scope, Verdict
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.lookup")


# Made once: most of what a search finds is too far away, and says no more than that.
_REFUSED = {barrier: Judgement(Outcome.MISS, barrier) for barrier in Barrier}
_TOO_FAR = _REFUSED[Barrier.THRESHOLD]
_JUDGED = {
    Outcome.HIT: Judgement(Outcome.HIT),
    Outcome.STALE: Judgement(Outcome.STALE, Barrier.EXPIRED),
    Outcome.REQUEST: Judgement(Outcome.REQUEST, Barrier.AGE),
    Outcome.MISS: _REFUSED[Barrier.MODE],
}
_UNREAD = {outcome: Judgement(outcome, Barrier.FARTHER) for outcome in _JUDGED}


def barred(call: Call, held: Held, quarantine: Quarantine) -> Barrier | None:
    """Say why this caller may not be served the entry at all; None if nothing forbids it."""
    if quarantine.keeps(held, call.caller.tenant):
        return Barrier.QUARANTINE
    if held.tenant == call.caller.tenant:
        return None
    if held.shared_key and call.policy.scope is Scope.SHARED:
        return None if held.approved else Barrier.TENANT
    # The partition holds the tenant already: reaching this is a bug, and never a hit.
    log.error("entry %s of another tenant was found; refused", held.id)
    return Barrier.TENANT


def allowed(call: Call, candidate: Candidate, now: datetime, quarantine: Quarantine) -> Judgement:
    """Judge one candidate by itself: everything but guards, its score and the earlier turns."""
    held, similarity, _ = candidate
    policy = call.policy_over(held)
    if policy is None:
        return _REFUSED[Barrier.CATEGORY]
    if policy.mode is not Mode.SEMANTIC:
        return _REFUSED[Barrier.MODE]
    barrier = barred(call, held, quarantine)
    if barrier is not None:
        return _REFUSED[barrier]
    if similarity < call.asked_threshold:
        return _REFUSED[Barrier.ASKED]
    if policy.judge(similarity, now - held.created_at) is Verdict.MISS:
        return _TOO_FAR
    return _JUDGED[exact_outcome(call, held, policy, now)]


def guarded(call: Call, held: Held, judgement: Judgement) -> Judgement:
    """Return what is left of a candidate that is allowed once the guards have read both texts."""
    if judgement.outcome is Outcome.MISS:
        return judgement
    guard = veto(call.question.text, held.query)
    return judgement if guard is None else Judgement(Outcome.MISS, Barrier.GUARD, guard)


def unread(judgement: Judgement) -> Judgement:
    """Return the judgement of what was not read, since a nearer one has settled it."""
    return judgement if judgement.outcome is Outcome.MISS else _UNREAD[judgement.outcome]


def refused(barrier: Barrier) -> Judgement:
    """Return the judgement of what this barrier alone keeps from answering."""
    return _REFUSED[barrier]
