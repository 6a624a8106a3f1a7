"""Durations and sizes as people write them: "15m", "256MiB". Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_LONGEST = timedelta(seconds=1e9)  # from here on it is none
_LARGEST = 2**63  # the same of bytes: no store and no metric has room for more
_SCALE = {
    None: 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


def parse_duration(value: object) -> timedelta:
    """Read "15m", "7d" or a number of seconds; raise ValueError saying what is allowed."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        value = float(match[1]) * _UNIT[match[2]]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        duration = timedelta(seconds=value)  # which rounds
        if duration < _LONGEST:
            return duration
    raise ValueError("a duration such as 30s, 15m, 24h or 7d")


def duration_text(duration: timedelta) -> str:
    """Write a duration in its largest whole unit, so that parse_duration gives it back."""
    whole, rest = divmod(duration, timedelta(milliseconds=1))
    if rest:
        return f"{duration.total_seconds():.6f}".rstrip("0") + "s"
    units = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
    unit, scale = next((u, s) for u, s in units if whole % s == 0)
    return f"{whole // scale}{unit}" if whole else "0s"


def parse_size(value: object) -> int:
    """Read "256MiB" or a number of bytes; raise ValueError saying what is allowed."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        bytes = float(match[1]) * _SCALE[match[2]]
        value = int(bytes) if bytes < _LARGEST else _LARGEST
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return value
    raise ValueError("a size of 0 or more and below 2^63 bytes, such as 64KiB or 256MiB")
