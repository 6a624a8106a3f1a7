"""What an overload run came to: its phases, wrong answers, and how the policy moved. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean
from typing import Any

from bench.overload_stream import Stream
from bench.stand import EXACT_HIT, SEMANTIC_HIT
from store.units import duration_text, parse_duration

GAUGES = ("nearhit_load_factor", "nearhit_effective_threshold", "nearhit_effective_ttl_seconds")
MOST_LAG = 0.25  # seconds that the generator may be late at the 95th percentile
MOST_BYPASSED = 0.01  # share of the requests; more, and it is the encoder that was overloaded
SAME = 1e-6  # thresholds that differ by less are the same


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run, in seconds from its start."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Base:
    """A category's own threshold and lifetime."""

    threshold: float
    ttl: float  # seconds


@dataclass(frozen=True, slots=True)
class Served:
    """One request as the client saw it; as many of them as the stream has asks."""

    lag: float  # seconds that it was sent late
    seconds: float  # from when it was sent to the answer's end
    status: str  # Cache-Status without its ttl
    text: str = ""  # of the answer: the question that the upstream answered
    age: float | None = None  # seconds; of a hit
    fault: str | None = None  # why it is no answer


@dataclass(frozen=True, slots=True)
class Sample:
    """What was in force at a moment."""

    at: float  # seconds from the start
    factor: float
    threshold: float
    ttl: float  # seconds

    def is_base(self, base: Base) -> bool:
        """Whether nothing is bent."""
        bent = abs(self.threshold - base.threshold) > SAME or abs(self.ttl - base.ttl) > SAME
        return self.factor == 0 and not bent


@dataclass(frozen=True, slots=True)
class Tally:
    """One phase of one arm."""

    phase: str
    asked: int
    upstream: int  # calls that reached it, by its own count
    exact: int  # hits
    semantic: int
    wrong: int  # answers to another question, whatever their Cache-Status
    aged: int  # hits older than the base policy allows
    p50_ms: float
    p95_ms: float
    factor: float  # mean

    @property
    def hit_rate(self) -> float:
        """Hits of either kind among all."""
        return (self.exact + self.semantic) / self.asked if self.asked else 0.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a stream under one policy."""

    stream: str
    name: str
    tallies: Sequence[Tally]
    samples: Sequence[Sample]
    back: float | None  # seconds from the overload's end until the base was in force for good
    faults: Sequence[str] = ()


def gauges(metrics: str, category: str) -> tuple[float, float, float] | None:
    """Return load factor, threshold and seconds of TTL from a /metrics text; None if one is absent.

    Those are the gauges that a category without a `load` section need not have.
    """
    found = []
    for name in GAUGES:
        line = rf'^{name}{{[^}}]*category="{re.escape(category)}"[^}}]*}} (\S+)$'
        match = re.search(line, metrics, re.MULTILINE)
        if match is None:
            return None
        found.append(float(match[1]))
    return found[0], found[1], found[2]


def effective(categories: Mapping[str, Any], category: str, at: float) -> Sample:
    """Return what /admin/api/categories says is in force; raise ValueError if it does not."""
    for policy in categories.get("categories", ()):
        if policy.get("name") == category and "effective" in policy:
            said = policy["effective"]
            ttl = parse_duration(said["ttl"]).total_seconds()
            return Sample(at, float(said["load_factor"]), float(said["hit_threshold"]), ttl)
    raise ValueError(f"/admin/api/categories has no `effective` of {category!r}")


def back_after(samples: Sequence[Sample], base: Base, end: float) -> float | None:
    """Return how long after `end` the base was in force for good; None if it never was."""
    bent = [sample.at for sample in samples if not sample.is_base(base)]
    if not samples or (bent and bent[-1] == samples[-1].at):
        return None
    return max(0.0, (bent[-1] if bent else end) - end)


def tally(
    stream: Stream,
    served: Sequence[Served],
    samples: Sequence[Sample],
    phase: Phase,
    upstream: int,
    base: Base,
) -> Tally:
    """Count what was asked within a phase; whatever failed counts as asked only."""
    asked = [
        (ask, answer)
        for ask, answer in zip(stream.asks, served, strict=True)
        if phase.start <= ask.at < phase.end
    ]
    answered = [(ask, answer) for ask, answer in asked if answer.fault is None]
    hits = [answer for _, answer in answered if answer.status in (EXACT_HIT, SEMANTIC_HIT)]
    times = sorted(answer.seconds for _, answer in answered)
    factors = [sample.factor for sample in samples if phase.start <= sample.at < phase.end]
    return Tally(
        phase=phase.name,
        asked=len(asked),
        upstream=upstream,
        exact=sum(answer.status == EXACT_HIT for answer in hits),
        semantic=sum(answer.status == SEMANTIC_HIT for answer in hits),
        wrong=sum(not stream.right(ask.question, answer.text) for ask, answer in answered),
        aged=sum(answer.age is not None and answer.age > base.ttl for answer in hits),
        p50_ms=1000 * percentile(times, 0.50),
        p95_ms=1000 * percentile(times, 0.95),
        factor=fmean(factors) if factors else 0.0,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of ordered values; NaN for none."""
    return ordered[int(share * (len(ordered) - 1))] if ordered else float("nan")


def faults_of(served: Iterable[Served]) -> list[str]:
    """Return why a run does not count: failed requests, or a generator that could not keep up."""
    served = list(served)
    failed = [answer.fault for answer in served if answer.fault is not None]
    faults = [f"{failed.count(fault)} x {fault}" for fault in dict.fromkeys(failed)]
    lag = percentile(sorted(answer.lag for answer in served), 0.95)
    if lag > MOST_LAG:
        faults.append(f"the generator was {1000 * lag:.0f} ms late at the 95th percentile")
    bypassed = sum("fwd=bypass" in answer.status for answer in served)
    if bypassed > MOST_BYPASSED * len(served):
        faults.append(f"{bypassed} of {len(served)} requests went past the cache")
    return faults


def table(arms: Sequence[Arm]) -> str:
    """Return the arms as a markdown table, each compared with the first of its stream."""
    lines = [
        "| stream | load adaptation | phase | asked | reached the upstream | against the first"
        " | hit rate | exact + by meaning | wrong answers | past base TTL | p50 ms | p95 ms"
        " | mean factor |",
        "| --- | --- | --- " + "| ---: " * 10 + "|",
    ]
    for arm in arms:
        first = next(other for other in arms if other.stream == arm.stream)
        for mine, theirs in zip(arm.tallies, first.tallies, strict=True):
            cells = (
                arm.stream,
                arm.name,
                mine.phase,
                str(mine.asked),
                str(mine.upstream),
                "" if arm is first else change(mine.upstream, theirs.upstream),
                f"{mine.hit_rate:.3f}",
                f"{mine.exact} + {mine.semantic}",
                str(mine.wrong),
                str(mine.aged),
                f"{mine.p50_ms:.0f}",
                f"{mine.p95_ms:.0f}",
                f"{mine.factor:.2f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def change(mine: int, theirs: int) -> str:
    """Return a relative change as +/- percent."""
    return f"{100 * (mine / theirs - 1):+.1f} %" if theirs else "no calls"


def moves(arm: Arm, base: Base) -> str:
    """Return how far the policy moved, and whether it came back, as a line."""
    name = f"{arm.stream}, {arm.name}"
    bent = [sample for sample in arm.samples if not sample.is_base(base)]
    if not bent:
        return f"- {name}: the base policy throughout ({_policy(base.threshold, base.ttl)})."
    threshold, ttl = min(s.threshold for s in bent), max(s.ttl for s in bent)
    back = (
        "NOT back at base" if arm.back is None else f"back at base {arm.back:.0f} s after its end"
    )
    return (
        f"- {name}: from {_policy(base.threshold, base.ttl)} as far as {_policy(threshold, ttl)}"
        f" (factor {max(s.factor for s in bent):.2f}), first bent at second {bent[0].at:.0f};"
        f" {back}."
    )


def _policy(threshold: float, ttl: float) -> str:
    return f"threshold {threshold:.3f}, TTL {duration_text(timedelta(seconds=round(ttl)))}"
