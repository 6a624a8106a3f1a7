"""How hard an upstream is pressed, and how far a category bends while it is. Pure.

`step` turns readings of one upstream group into a load factor in [0, 1]; `adapted` turns a policy
and a factor into the policy in force. Time is an argument, in monotonic seconds.

**Pressure** of one reading, in [0, 1], says how far the calls are beyond what the category's
latency target allows:

    slowness = clamp(p95 / target - 1)               0 at the target, 1 at twice the target
    queue    = clamp((in_flight / quiet - 1) / 2)    0 at the quiet level, 1 at three times it
    nearness = clamp(2 * p95 / target - 1)           0 at half of the target, 1 at the target
    pressure = 1 - (1 - slowness) * (1 - nearness * queue)

`quiet` is the number of calls in flight that the upstream bears within its target, learned from
the readings at which p95 kept it, so it needs no setting. A queue alone is no overload: traffic
that grows on an upstream that stays fast only raises the quiet level; that is what nearness is
for. But requests in flight rise before the p95 of finished calls does, so near the target they
tell sooner. While calls are out and none comes back there is no p95: then the length of the
silence stands in for it in nearness, and only the queue counts.

**Factor.** Pressure is smoothed; adaptation engages above 0.7 and lets go below 0.4, and does
neither twice within the dwell time. While engaged the factor follows the smoothed pressure, else
it goes to 0. It rises slowly, because a lower threshold means more wrong hits, and falls five
times as fast; and it falls with the pressure, whatever the dwell time says: the dwell time only
keeps the flag from flapping. The price: an overload that adaptation can relieve but that does not
end comes and goes in cycles of one to three minutes, as the queue drains and fills again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

from store.policy import Policy

WINDOW = 10.0  # seconds of calls in a reading; a longer one would hold the way back up for as long
FEWEST = 5  # calls in a reading; one slow answer is not an overload


@dataclass(frozen=True, slots=True)
class Damping:
    """How slowly load adaptation acts. Rates are factor per second, times are seconds."""

    engage: float = 0.7  # of smoothed pressure, exclusive
    release: float = 0.4
    dwell: float = 30.0  # between two changes of `engaged`
    smoothing: float = 5.0
    rise: float = 0.02  # a threshold 0.05 above its floor falls by 0.001 a second at most
    fall: float = 0.1
    memory: float = 300.0  # of the quiet level
    least_quiet: float = 4.0  # calls in flight that are never a queue
    longest_step: float = 5.0  # a step that comes late does not rise by more than this allows


DAMPING = Damping()


@dataclass(frozen=True, slots=True)
class Reading:
    """One upstream group at this moment."""

    p95_ms: float | None  # to the first byte, of recent answers only; None: too few to tell
    in_flight: int


@dataclass(frozen=True, slots=True)
class LoadState:
    """What is known of one category's upstream group after the latest step."""

    factor: float = 0.0  # in [0, 1]: 0 is the base policy, 1 its floor and ceiling
    engaged: bool = False
    pressure: float = 0.0  # smoothed, in [0, 1]
    quiet: float | None = None  # calls in flight within the target; None: not learned yet
    learned: float = 0.0  # seconds that the quiet level was learned from
    changed_at: float = -math.inf  # when `engaged` last changed
    stepped_at: float | None = None
    answered_at: float | None = None  # when there last was a p95, or nothing to wait for


def step(
    state: LoadState, reading: Reading, target_ms: float, now: float, damping: Damping = DAMPING
) -> LoadState:
    """Return the state after a reading; `target_ms` is the category's latency target.

    Steps may come at any pace, about one a second is meant; time that runs backwards changes
    nothing.
    """
    passed = 0.0 if state.stepped_at is None else max(0.0, now - state.stepped_at)
    p95 = _known(reading.p95_ms)
    answered_at = now
    if p95 is None and reading.in_flight > 0 and state.answered_at is not None:
        answered_at = state.answered_at
    silent_ms = 1000 * (now - answered_at)
    raw = _pressure(p95, silent_ms, reading.in_flight, state.quiet, target_ms, damping)
    late = passed if raw < state.pressure else min(passed, damping.longest_step)
    share = 1 - math.exp(-late / damping.smoothing)
    pressure = state.pressure + (raw - state.pressure) * share
    engaged, changed_at = _engaged(state, pressure, now, damping)
    goal = pressure if engaged else 0.0
    highest = state.factor + damping.rise * min(passed, damping.longest_step)
    factor = min(max(goal, state.factor - damping.fall * passed), highest)
    quiet, learned = _learned(state, p95, reading.in_flight, target_ms, passed, damping)
    return LoadState(
        factor=min(max(factor, 0.0), 1.0),
        engaged=engaged,
        pressure=min(max(pressure, 0.0), 1.0),
        quiet=quiet,
        learned=learned,
        changed_at=changed_at,
        stepped_at=now if state.stepped_at is None else max(now, state.stepped_at),
        answered_at=answered_at,
    )


def _known(p95_ms: float | None) -> float | None:
    return p95_ms if p95_ms is not None and math.isfinite(p95_ms) and p95_ms >= 0 else None


def _pressure(
    p95: float | None,
    silent_ms: float,
    in_flight: int,
    quiet: float | None,
    target_ms: float,
    damping: Damping,
) -> float:
    """Return the pressure of one reading; the module says how."""
    if not target_ms > 0:
        return 0.0
    slowness = 0.0 if p95 is None else _clamped(p95 / target_ms - 1)
    nearness = _clamped(2 * (silent_ms if p95 is None else p95) / target_ms - 1)
    queue = 0.0
    if quiet is not None:
        queue = _clamped((in_flight / max(quiet, damping.least_quiet) - 1) / 2)
    return 1 - (1 - slowness) * (1 - nearness * queue)


def _clamped(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _engaged(state: LoadState, pressure: float, now: float, damping: Damping) -> tuple[bool, float]:
    """Return whether adaptation is engaged, and since when."""
    if now - state.changed_at < damping.dwell:
        return state.engaged, state.changed_at
    if state.engaged and pressure < damping.release:
        return False, now
    if not state.engaged and pressure > damping.engage:
        return True, now
    return state.engaged, state.changed_at


def _learned(
    state: LoadState,
    p95: float | None,
    in_flight: int,
    target_ms: float,
    passed: float,
    damping: Damping,
) -> tuple[float | None, float]:
    """Return the quiet level and what it rests on: a mean at first, then an exponential one.

    It is learned while adaptation is engaged too. What the upstream bears within its target is
    no overload by definition, so a level that is too low cannot hold adaptation up for ever.
    """
    if p95 is None or not p95 <= target_ms or passed == 0:
        return state.quiet, state.learned
    passed = min(passed, damping.longest_step)
    learned = min(state.learned + passed, damping.memory)
    quiet = state.quiet or 0.0
    return quiet + (in_flight - quiet) * min(1.0, passed / learned), learned


def adapted(policy: Policy, factor: float) -> Policy:
    """Return the policy in force at a load factor: the very same object where nothing bends.

    `policy` is the category's own, not one that was adapted before. The hit threshold goes toward
    `load.threshold_floor` and the lifetime toward `load.ttl_ceiling`, never beyond. The floor may
    never break the error budget, and as long as nothing measures what a lower threshold does to
    it, a category with an `error_budget` keeps its threshold: only its lifetime stretches.
    """
    rule = policy.load
    # Thousandths: a factor that only nears its end reaches it, and people can read what comes out.
    share = round(min(factor, 1.0), 3) if factor > 0 else 0.0
    if rule is None or share == 0:
        return policy
    threshold, ttl = policy.hit_threshold, policy.ttl
    if policy.error_budget is None and rule.threshold_floor < threshold:
        lowered = threshold - share * (threshold - rule.threshold_floor)
        threshold = rule.threshold_floor if share == 1 else max(lowered, rule.threshold_floor)
    if rule.ttl_ceiling > ttl:
        # Whole seconds, which people can read; the ceiling itself may be anything.
        more = timedelta(seconds=int(share * (rule.ttl_ceiling - ttl).total_seconds()))
        ttl = rule.ttl_ceiling if share == 1 else min(ttl + more, rule.ttl_ceiling)
    if (threshold, ttl) == (policy.hit_threshold, policy.ttl):
        return policy
    near = min(policy.near_threshold, threshold)
    return replace(policy, hit_threshold=threshold, near_threshold=near, ttl=ttl)
