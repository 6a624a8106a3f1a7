"""When a call is worth another try, here or elsewhere, and how long to wait before it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 10.0  # seconds that an upstream may make us wait; beyond, its answer is passed on
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
OVERLOADED = frozenset([502, 503, 504])  # a 500 may have done its work: never tried again
UNABLE = OVERLOADED | {429}  # with these, a group that has fallbacks leaves a call to them


def backoff(attempt: int, jitter: float) -> float:
    """Return seconds before try number `attempt` + 2; `jitter` in [0, 1) spreads the herd."""
    return min(_FIRST_PAUSE * 2.0 ** min(attempt, 10), _LONGEST_PAUSE) * (0.5 + jitter / 2)


def pause_after(
    status: int, retry_after: bytes | None, attempt: int, *, jitter: float, now: datetime
) -> float | None:
    """Return the seconds to wait before trying again, or None to pass this answer on."""
    if status != 429 and status not in OVERLOADED:
        return None
    asked = _seconds(retry_after, now)
    if asked is not None and asked > LONGEST_WAIT:
        return None
    if status == 429:
        return asked
    return max(backoff(attempt, jitter), asked or 0.0)


def _seconds(retry_after: bytes | None, now: datetime) -> float | None:
    """Read Retry-After, seconds or an HTTP date; None if it is absent or neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.replace(b".", b"", 1).isdigit() and len(text) < 20:
        return float(text)
    try:
        moment = parsedate_to_datetime(text.decode("ascii"))
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
