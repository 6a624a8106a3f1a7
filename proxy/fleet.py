"""Which upstreams serve which model, and who steps in. Pure: patterns in, groups out.

Replicas share one list of fallbacks: their own lists one after the other, then those of the groups
that these name, each group once. No group may lead back to itself.
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from proxy.balance import Replica, resting
from proxy.upstream_errors import ModelUnknown

_REMEMBERED = 256  # first-byte times a group
_RECENT = 512  # tries a group that its latency is taken from
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSpec:
    """One configured upstream."""

    name: str
    models: tuple[str, ...]  # names and glob patterns
    fallback: tuple[str, ...] = ()  # names of upstreams that are asked when this one cannot answer
    base_url: str | None = None  # as in http://127.0.0.1:9000/v1
    provider: str | None = None  # a litellm provider; None: OpenAI's wire at base_url
    api_key: str | None = field(default=None, repr=False)
    connect_timeout: float = 5.0  # seconds, each of them
    first_byte_timeout: float = 300.0
    idle_timeout: float = 60.0
    max_retries: int = 2
    predicts: bool = False  # takes a predicted output along with a chat


@dataclass(slots=True, eq=False)
class Member(Replica):
    """A replica with what is needed to call it."""

    spec: UpstreamSpec = field(kw_only=True)
    last_released: float = float("-inf")  # when a connection last went back to the pool


class Try(NamedTuple):
    """What load knows of one try."""

    at: float  # monotonic seconds when it was known
    seconds: float  # to the first byte, or to the failure
    failed: bool


@dataclass(slots=True, eq=False)
class Group:
    """Replicas: upstreams configured for the same models."""

    members: list[Member]
    max_retries: int
    fallbacks: tuple[Group, ...] = ()  # in the order in which they are tried
    first_bytes: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    tries: deque[Try] = field(default_factory=lambda: deque(maxlen=_RECENT))
    name: str = field(init=False)  # its members' names, joined by "+", which none has in it

    def __post_init__(self) -> None:
        self.name = "+".join(member.name for member in self.members)

    @property
    def predicts(self) -> bool:
        """Whether all its members take predicted outputs."""
        return all(member.spec.predicts for member in self.members)

    @property
    def in_flight(self) -> int:
        """How many calls its members are answering."""
        return sum(member.in_flight for member in self.members)

    def resting(self, now: float) -> bool:
        """Whether all members are ejected and none is due for its probe."""
        return resting(self.members, now)

    def first_byte_p95(self) -> float | None:
        """Return the 95th percentile of recent good calls' seconds to the first byte."""
        if not self.first_bytes:
            return None
        ordered = sorted(self.first_bytes)
        return ordered[int(0.95 * (len(ordered) - 1))]

    def gave_up(self, now: float, seconds: float) -> None:
        """Note that a client left before the first byte came: it would have taken longer still.

        One that left sooner than most answers come says nothing.
        """
        if seconds >= (self.latency_p95(now) or 0.0):
            self.tries.append(Try(now, seconds, failed=False))

    def latency_p95(self, now: float, window: float = 30.0, fewest: int = 1) -> float | None:
        """Return the 95th percentile of recent tries' seconds to the first byte.

        Recent are at most 512 tries that were answered, or failed, up to `window` seconds before
        `now`. A failed one counts as long as it lasted, and at least as the slowest good one: an
        upstream that turns calls away is not fast. None when there are fewer than `fewest`.
        """
        recent: list[Try] = []
        for each in reversed(self.tries):
            if each.at < now - window:
                break
            recent.append(each)
        if len(recent) < fewest:
            return None
        slowest = max((each.seconds for each in recent if not each.failed), default=0.0)
        ordered = sorted(max(t.seconds, slowest) if t.failed else t.seconds for t in recent)
        return ordered[-(-95 * len(ordered) // 100) - 1]


class _Pattern(NamedTuple):
    text: str
    matches: re.Pattern[str]
    group: Group


def is_pattern(name: str) -> bool:
    """Whether a configured model name is a glob."""
    return any(sign in name for sign in "*?[")


def _specificity(pattern: str) -> tuple[int, int]:
    prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return len(prefix), len(pattern) - pattern.count("*")


def _reached(start: T, after: Mapping[T, Iterable[T]]) -> list[T]:
    """Return what `start` leads to, itself first: what a list names comes before what those do."""
    found = [start]
    for each in found:  # grows while it is walked
        found += dict.fromkeys(other for other in after[each] if other not in found)
    return found


class Fleet:
    """All upstreams. The most specific of the patterns that match a model decides."""

    def __init__(self, specs: Sequence[UpstreamSpec]) -> None:
        alike: dict[frozenset[str], list[UpstreamSpec]] = {}
        for spec in specs:
            alike.setdefault(_team(spec), []).append(spec)
        self.groups = [
            Group(
                [Member(spec.name, spec=spec) for spec in group],
                max(spec.max_retries for spec in group),
            )
            for group in alike.values()
        ]
        self._link()
        self._exact: dict[str, Group] = {}
        self._patterns: list[_Pattern] = []
        for models, group in zip(alike, self.groups, strict=True):
            for model in models:
                if is_pattern(model):
                    matches = re.compile(fnmatch.translate(model))
                    self._patterns.append(_Pattern(model, matches, group))
                else:
                    self._exact.setdefault(model, group)
        self._patterns.sort(key=lambda each: _specificity(each.text), reverse=True)

    def _link(self) -> None:
        home = {member.name: group for group in self.groups for member in group.members}
        after = {
            group: [home[name] for member in group.members for name in member.spec.fallback]
            for group in self.groups
        }
        for group in self.groups:
            group.fallbacks = tuple(_reached(group, after)[1:])

    def route(self, model: str | None) -> Group:
        """Return who serves a model; None asks for the default group. Raise ModelUnknown.

        An exact name beats a pattern, a longer literal prefix a shorter one, then more literal
        characters fewer, then the configured order. The default is the group of "*", else the
        first.
        """
        if model is None:
            default = [each.group for each in self._patterns if each.text == "*"]
            return (default or self.groups)[0]
        if (group := self._exact.get(model)) is not None:
            return group
        for pattern in self._patterns:
            if pattern.matches.match(model) is not None:
                return pattern.group
        shown = model if len(model) <= 100 else model[:100] + "..."
        raise ModelUnknown(f"no upstream serves the model {shown!r}")


class Configured(Protocol):
    """What of an upstream's settings decides who steps in for whom."""

    @property
    def name(self) -> str: ...
    @property
    def models(self) -> Sequence[str]: ...
    @property
    def fallback(self) -> Sequence[str]: ...


def _team(upstream: Configured) -> frozenset[str]:
    return frozenset(upstream.models)


def fallback_faults(upstreams: Sequence[Configured]) -> Iterator[str]:
    """Yield a line for each fallback that is unknown or leads back to where it is configured."""
    teams = {each.name: _team(each) for each in upstreams}
    after: dict[frozenset[str], set[frozenset[str]]] = {team: set() for team in teams.values()}
    for place, upstream in enumerate(upstreams):
        own = _team(upstream)
        for name in upstream.fallback:
            allowed = [other for other, team in teams.items() if own not in _reached(team, after)]
            if name in allowed:
                after[own].add(teams[name])
                continue
            why = ", it leads back here" if name in teams else ""
            known = ", ".join(allowed) or "none"
            yield f"upstreams.{place}.fallback: {name!r} is not allowed{why}; allowed: {known}"
