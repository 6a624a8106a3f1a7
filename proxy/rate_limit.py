"""A bound on how often each key may do something: a token bucket a key. Pure but for its state."""

from __future__ import annotations

from collections import OrderedDict

_MAX_KEYS = 10_000


class RateLimit:
    """Lets each key do `per_minute` things a minute, that many at once at the most."""

    def __init__(self, per_minute: int, max_keys: int = _MAX_KEYS) -> None:
        self._per_minute = per_minute
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, as of when

    def wait(self, key: str, now: float) -> float:
        """Count one try at monotonic second `now`; return 0.0, or the seconds to wait first.

        A try that has to wait is not counted.
        """
        tokens, since = self._buckets.pop(key, (float(self._per_minute), now))
        rate = self._per_minute / 60
        tokens = min(float(self._per_minute), tokens + max(0.0, now - since) * rate)
        allowed = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / rate
