"""Which upstreams serve which model. Pure: patterns in, groups of replicas out."""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.balance import Replica
from proxy.upstream_errors import ModelUnknown

_REMEMBERED = 256  # first-byte times a group


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSpec:
    """One configured upstream."""

    name: str
    models: tuple[str, ...]  # names and glob patterns
    base_url: str | None = None  # as in http://127.0.0.1:9000/v1
    provider: str | None = None  # a litellm provider; None: OpenAI's wire at base_url
    api_key: str | None = field(default=None, repr=False)
    connect_timeout: float = 5.0  # seconds, each of them
    first_byte_timeout: float = 300.0
    idle_timeout: float = 60.0
    max_retries: int = 2


@dataclass(slots=True, eq=False)
class Member(Replica):
    """A replica with what is needed to call it."""

    spec: UpstreamSpec = field(kw_only=True)
    last_released: float = float("-inf")  # when a connection last went back to the pool


@dataclass(slots=True, eq=False)
class Group:
    """Replicas: upstreams configured for the same models."""

    members: list[Member]
    max_retries: int
    first_bytes: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def first_byte_p95(self) -> float | None:
        """Return the 95th percentile of recent good calls' seconds to the first byte."""
        if not self.first_bytes:
            return None
        ordered = sorted(self.first_bytes)
        return ordered[int(0.95 * (len(ordered) - 1))]


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


class Fleet:
    """All upstreams. The most specific of the patterns that match a model decides."""

    def __init__(self, specs: Sequence[UpstreamSpec]) -> None:
        alike: dict[frozenset[str], list[UpstreamSpec]] = {}
        for spec in specs:
            alike.setdefault(frozenset(spec.models), []).append(spec)
        self.groups = [
            Group(
                [Member(spec.name, spec=spec) for spec in group],
                max(spec.max_retries for spec in group),
            )
            for group in alike.values()
        ]
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
