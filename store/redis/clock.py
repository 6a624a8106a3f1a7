"""The clock by which it is told what a process may still rely on."""

from __future__ import annotations

import time

# While a machine sleeps the others go on, and so does this clock, where there is one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return seconds since some moment; they go on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)
