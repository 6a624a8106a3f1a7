"""Which replica takes the next call: fewest in flight among the healthy, passive health only.

A replica is ejected after EJECT_AFTER failures in a row, for a time that doubles from
FIRST_EJECTION to LONGEST_EJECTION seconds while it keeps failing. When the time is up one call
probes it: success heals it, failure ejects it again. No call is ever refused here: when all are
ejected, the one whose ejection ends first is tried. Time is always an argument, in monotonic
seconds, so that nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

EJECT_AFTER = 3  # failures in a row
FIRST_EJECTION = 1.0  # seconds
LONGEST_EJECTION = 60.0


@dataclass(slots=True, eq=False)
class Replica:
    """What balancing knows of one upstream."""

    name: str
    in_flight: int = 0
    failures: int = 0  # in a row
    ejections: int = 0  # in a row; 0: healthy
    ejected_until: float = 0.0
    probing: bool = False  # one call is finding out whether it has recovered
    last_start: float = float("-inf")

    def start(self, now: float) -> bool:
        """Count a call in; return whether it is the probe of an ejected replica."""
        self.in_flight += 1
        self.last_start = now
        probe = self.due(now)
        self.probing = self.probing or probe
        return probe

    def due(self, now: float) -> bool:
        """Whether it is ejected and the next call to it would be its probe."""
        return bool(self.ejections) and not self.probing and now >= self.ejected_until

    def answered(self) -> None:
        """An answer began, so it is alive, whichever call learnt it.

        It may break off yet: only its end ends a row of failures.
        """
        self.ejections = 0
        self.probing = False

    def ended(self) -> None:
        """An answer did not break off. One that began before an ejection says nothing of now."""
        if not self.ejections:
            self.failures = 0

    def succeeded(self) -> None:
        """An answer came, and whole."""
        self.answered()
        self.ended()

    def failed(self, now: float, *, probe: bool) -> None:
        """A connect error, a timeout, a broken answer or a 502, 503 or 504."""
        if self.ejections and not probe:
            return  # calls begun before the ejection must not lengthen it
        self.failures += 1
        if probe or self.failures >= EJECT_AFTER:
            longer = FIRST_EJECTION * 2.0 ** min(max(self.failures - EJECT_AFTER, 0), 10)
            self.ejected_until = now + min(longer, LONGEST_EJECTION)
            self.ejections += 1
            self.probing = False

    def finish(self, *, probe: bool) -> None:
        """Count a call out; a probe that was given up without a verdict frees its place."""
        self.in_flight -= 1
        if probe:
            self.probing = False


def resting(replicas: Iterable[Replica], now: float) -> bool:
    """Whether all are ejected and none is due for its probe: a call had better go elsewhere."""
    return all(replica.ejections and not replica.due(now) for replica in replicas)


R = TypeVar("R", bound=Replica)


def pick(replicas: Sequence[R], now: float, avoid: Collection[Replica] = ()) -> R:
    """Return the replica for the next call, one outside `avoid` if any is usable.

    A replica due for its probe comes first: it would never be found healthy again otherwise.
    `replicas` must not be empty.
    """
    if len(replicas) == 1:
        return replicas[0]
    fresh = [replica for replica in replicas if replica not in avoid] or list(replicas)
    for replica in fresh:
        if replica.due(now):
            return replica
    healthy = [replica for replica in fresh if not replica.ejections]
    if not healthy and len(fresh) < len(replicas):
        healthy = [replica for replica in replicas if not replica.ejections]
    if healthy:
        return min(healthy, key=lambda replica: (replica.in_flight, replica.last_start))
    return min(fresh, key=lambda replica: (replica.ejected_until, replica.in_flight))
