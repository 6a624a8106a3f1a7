"""What a lookup comes to, and the rules over a request that say so without searching. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from proxy.call import Call
from proxy.identity import number_of
from proxy.wire.base import Fields, Json, Tier
from store.entry import Candidate, Held, Vector
from store.policy import Mode, Policy, Scope


class Outcome(StrEnum):
    """What a lookup came to; the label of nearhit_lookups_total."""

    HIT = "hit"
    MISS = "miss"
    STALE = "stale"  # there was one, but it has expired
    REQUEST = "request"  # the client would not have what there was
    BYPASS = "bypass"
    STALE_IF_ERROR = "stale-if-error"  # counted beside the lookup's own, when the upstream failed


class Barrier(StrEnum):
    """What keeps a stored answer from a call, in the order in which it is asked."""

    CATEGORY = "category"  # its category is gone, or has another scope than the call's
    MODE = "mode"  # one of both categories is not looked up by meaning
    QUARANTINE = "quarantine"
    TENANT = "tenant"  # another's, and not approved
    ASKED = "asked"  # farther than the caller would have it
    THRESHOLD = "threshold"  # farther than the stricter of both categories' thresholds
    GUARD = "guard"  # `Judgement.veto` says which
    EXPIRED = "expired"  # nothing else is against it: it may stand in for a failing upstream
    AGE = "age"  # nothing else is against it, but it is older than the caller would have it
    CROWDED = "crowded"  # nothing is against it, but so many others went before
    SCORE = "score"  # too likely to be wrong, or nobody can tell
    CONTEXT = "context"  # the users' earlier turns do not mean the same
    FARTHER = "farther"  # not read: a nearer one has settled it, as the answer or as too doubtful
    OUTDONE = "outdone"  # nothing is against it, but another one answers


class Judgement(NamedTuple):
    """What a candidate comes to."""

    outcome: Outcome  # HIT, STALE, REQUEST; MISS: it may not be served
    barrier: Barrier | None = None  # None: this one answers
    veto: str = ""  # as the metric of vetoes names it: a guard, "score" or "context"
    risk: float | None = None  # P(wrong), where a budget asked for it


class Searched(NamedTuple):
    """All that one search found, nearest first, and what each came to. Both are as long."""

    candidates: tuple[Candidate, ...]
    judgements: tuple[Judgement, ...]


class Served(StrEnum):
    """Who answered a request on a cacheable route, in the words of the usage ledger."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    STALE_IF_ERROR = "stale-if-error"
    NEAR_HIT = "near-hit"  # a small model
    COLLAPSED = "collapsed"  # an upstream, once for several who asked the same
    MISS = "miss"  # an upstream
    BYPASS = "bypass"  # an upstream, and the cache was not asked or not by meaning
    FAILED = "failed"  # nobody, or an upstream with a 5xx


@dataclass(frozen=True, slots=True)
class Lookup:
    """What happened, and what the later hops need of it."""

    outcome: Outcome
    found: Candidate | None = None  # what may be served
    expired: Candidate | None = None  # what might be served if the upstream fails
    reason: str | None = None  # of a bypass, in the words of CONTRACT.md
    vector: Vector | None = None
    storable: bool = True
    near: Candidate | None = None  # of a miss: the nearest that almost could be served
    near_risk: float | None = None  # its P(wrong), if the score alone refused it
    around: tuple[Candidate, ...] = ()  # of a miss: all that the search found, nearest first
    searched: Searched | None = None  # what the search by meaning found, if there was one
    predicted: str | None = None  # of a miss: what the upstream is told it may well answer
    shadow: Callable[[Fields], None] | None = None  # of a miss: is told the answer that came
    encode_later: bool = False  # the search was skipped: whoever stores the answer encodes it


def skip_reason(call: Call) -> str | None:
    """Say why this call is neither looked up nor stored; None if the cache may have it."""
    policy = call.policy
    if policy.mode is Mode.OFF or (policy.scope is Scope.USER and not call.user):
        return "policy"
    if call.question.tier is Tier.NONE:
        return "content"
    if call.wire.streams and _is_too_hot(call.body.get("temperature"), policy):
        return "temperature"  # embeddings have none
    return None


def _is_too_hot(asked: Json, policy: Policy) -> bool:
    temperature = 1.0 if asked is None else number_of(asked)
    # What is no number to us may be a high one to the upstream.
    return temperature is None or not temperature <= policy.max_temperature


def exact_only_reason(call: Call) -> str | None:
    """Say why this call is not looked up by meaning although its category would; None if it is."""
    if call.question.tier is Tier.EXACT:
        return "content" if call.wire.streams else None
    return "turns" if call.question.turns > call.policy.max_turns else None


def exact_outcome(call: Call, held: Held, policy: Policy | None, now: datetime) -> Outcome:
    """Say what an entry under the request's own key is worth under this policy now."""
    if policy is None or policy.mode is Mode.OFF:
        return Outcome.MISS
    age = now - held.created_at
    if policy.expired(age):
        return Outcome.STALE
    limit = call.directives.max_age
    return Outcome.REQUEST if limit is not None and age.total_seconds() > limit else Outcome.HIT
