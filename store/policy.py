"""How each category of traffic is cached: the rules as values, and the one judgement over them.

A policy judges; it reads no clock, no socket and no setting. `store/policy_file.py` reads and
writes policies as data, `store/match.py` holds their match rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from store.eviction import Quota, Share
from store.match import MatchRule

DEFAULT_CATEGORY = "default"
# From the sweeps in docs/LOG.md: precision before recall.
HIT_THRESHOLD = 0.92
NEAR_THRESHOLD = 0.80
CONTEXT_THRESHOLD = 0.92
# Of a category with an error budget, where the calibrated score decides and the cosine only says
# where it begins to look: from there on it was fitted (bench/train/fit.py).
SCORED_HIT_THRESHOLD = 0.60
SCORED_NEAR_THRESHOLD = 0.50
SCORED_CONTEXT_THRESHOLD = 0.80


class Mode(StrEnum):
    """How far a category may be answered from the cache."""

    SEMANTIC = "semantic"
    EXACT = "exact"
    OFF = "off"


class Scope(StrEnum):
    """Who may be served what is stored."""

    TENANT = "tenant"
    USER = "user"  # the tenant's same user
    SHARED = "shared"  # other tenants too, once an answer is confirmed


class Offload(StrEnum):
    """Whether a near-hit may go to a small model."""

    ON = "on"  # with a judge or feedback
    OFF = "off"
    UNJUDGED = "unjudged"


class Verdict(StrEnum):
    """What a candidate is worth to a query."""

    HIT = "hit"
    STALE = "stale"
    MISS = "miss"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRule:
    """How far a category may bend while its upstream is overloaded."""

    latency_target_ms: float  # of the upstream's p95 time to the first byte
    threshold_floor: float
    ttl_ceiling: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one category is cached. Fields and defaults are CONTRACT.md's."""

    name: str
    description: str = ""
    examples: tuple[str, ...] = ()
    match: tuple[MatchRule, ...] = ()
    locked: bool = False
    mode: Mode = Mode.SEMANTIC
    hit_threshold: float = HIT_THRESHOLD
    near_threshold: float = NEAR_THRESHOLD
    context_threshold: float = CONTEXT_THRESHOLD
    ttl: timedelta = timedelta(hours=24)
    stale_if_error: timedelta = timedelta()
    quota: Quota = Quota(10_000, 256 * 2**20)
    priority: float = 1.0
    max_temperature: float = 1.0
    max_turns: int = 20
    scope: Scope = Scope.TENANT
    store_tool_calls: bool = False
    error_budget: float | None = None
    audit: bool = True
    offload: Offload = Offload.ON
    example_scope: Scope = Scope.USER
    quality_floor: float = 0.85
    exploration: float = 0.05
    answer_format: str = "free"
    load: LoadRule | None = None

    def judge(self, similarity: float, age: timedelta) -> Verdict:
        """Say what an entry of this cosine and age is worth; the threshold is inclusive."""
        if similarity < self.hit_threshold:
            return Verdict.MISS
        return Verdict.STALE if self.expired(age) else Verdict.HIT

    def expired(self, age: timedelta) -> bool:
        """Whether an entry of this age is past its lifetime; hits never extend it."""
        return age > self.ttl

    def helps_in_need(self, age: timedelta) -> bool:
        """Whether an entry of this age may answer when the upstream has failed."""
        return age <= self.ttl + self.stale_if_error

    @property
    def is_ruled_first(self) -> bool:
        """Whether its match rules are asked before any header: nobody gets around them."""
        return bool(self.match) and (self.locked or self.mode is Mode.OFF)


_STRICTNESS = (Mode.SEMANTIC, Mode.EXACT, Mode.OFF)


def stricter(a: Policy, b: Policy) -> Policy:
    """Return `a` with the stricter of both policies' mode, thresholds, lifetimes and budgets.

    An entry is judged by its own category's policy and the request's, so that a query on the
    border of two categories cannot fetch an expired price as a fact.
    """
    if a is b:
        return a
    return replace(
        a,
        mode=max(a.mode, b.mode, key=_STRICTNESS.index),
        hit_threshold=max(a.hit_threshold, b.hit_threshold),
        context_threshold=max(a.context_threshold, b.context_threshold),
        ttl=min(a.ttl, b.ttl),
        stale_if_error=min(a.stale_if_error, b.stale_if_error),
        error_budget=_smaller(a.error_budget, b.error_budget),
    )


def _smaller(a: float | None, b: float | None) -> float | None:
    """Return the smaller error budget; None is no budget, and so the larger one."""
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """All categories by name, in order; `default` is always among them. Never changed: replaced."""

    policies: Mapping[str, Policy]
    # In the order in which they are asked; made once, not for every request.
    ruled_first: tuple[Policy, ...] = field(init=False, compare=False)
    ruled: tuple[Policy, ...] = field(init=False, compare=False)
    exemplified: tuple[Policy, ...] = field(init=False, compare=False)
    reads_headers: bool = field(init=False, compare=False)  # whether some match rule does
    # Whether what a question means may forbid the cache, whatever a header says.
    forbids_by_meaning: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        policies = self.policies.values()
        first = tuple(p for p in policies if p.is_ruled_first)
        object.__setattr__(self, "ruled_first", first)
        object.__setattr__(self, "ruled", tuple(p for p in policies if p.match and p not in first))
        headers = any(rule.header for p in policies for rule in p.match)
        object.__setattr__(self, "reads_headers", headers)
        exemplified = tuple(p for p in policies if p.examples)
        object.__setattr__(self, "exemplified", exemplified)
        forbids = any(p.mode is Mode.OFF for p in exemplified)
        object.__setattr__(self, "forbids_by_meaning", forbids)

    def __getitem__(self, category: str) -> Policy:
        return self.policies[category]

    def __contains__(self, category: str) -> bool:
        return category in self.policies

    @property
    def names(self) -> list[str]:
        """Every category's name, in the file's order."""
        return list(self.policies)

    @property
    def shares(self) -> dict[str, Share]:
        """What each category may hold, and how dear it is; their sum bounds the cache."""
        return {p.name: Share(p.quota, p.priority) for p in self.policies.values()}
