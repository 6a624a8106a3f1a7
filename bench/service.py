"""An upstream's limited rate of service: a queue before a few places, slowed down at will.

Answers are served in the order in which they were asked for, `places` at a time, each for
`seconds` times the slowdown. So latency rises with the requests in flight as soon as more arrive
than `places / (seconds * slowdown)` a second.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much an upstream can serve when it is not slowed down."""

    places: int
    seconds: float  # of one answer

    def __post_init__(self) -> None:
        if self.places < 1 or not 0 < self.seconds < math.inf:
            raise ValueError(f"places must be >= 1 and seconds > 0, not {self}")

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.places / self.seconds

    def slowdown_to(self, rate: float) -> float:
        """Return the slowdown that leaves so many answers a second; 1 where it can do no more."""
        return max(1.0, self.rate / rate) if rate > 0 else 1.0


class Service:
    """The places and the queue before them."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._places = asyncio.Semaphore(capacity.places)
        self.slowdown = 1.0
        self.in_flight = 0  # waiting and being served
        self.most = 0  # in flight at once, so far

    async def serve(self) -> None:
        """Wait for a place, and for as long as an answer takes."""
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            async with self._places:
                await asyncio.sleep(self._capacity.seconds * self.slowdown)
        finally:
            self.in_flight -= 1

    def slow_down(self, by: object) -> None:
        """Make the answers that begin from now on take so many times as long."""
        if not isinstance(by, int | float) or isinstance(by, bool) or not 0 < by < math.inf:
            raise ValueError(f"slowdown: {by!r} is not allowed; allowed: a number above 0")
        self.slowdown = float(by)

    def facts(self) -> dict[str, float]:
        """Return the numbers of this moment."""
        return {"slowdown": self.slowdown, "in_flight": self.in_flight, "most": self.most}
