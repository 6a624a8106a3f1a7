"""Whether looking up by meaning pays, for each category and upstream group.

A lookup costs time on every request and saves an upstream answer on a hit:

    hit rate * T_hit + (1 - hit rate) * (T_miss + T_llm) < T_llm
    break-even hit rate  h* = T_miss / (T_llm + T_miss - T_hit)

T_hit and T_miss are the seconds of a lookup by meaning that hits and that misses, encoding
included; T_llm those of an upstream answer to its end. All of them and the hit rate are running
means, exponential once there are enough values. Hits under the exact key count for nothing here:
they cost no lookup by meaning and are not given up when the gate closes. A near-hit that a small
model has answered counts as a hit: it takes a lookup, and spares the upstream's answer as well.

The gate **closes** when the hit rate is surely below h*, and **opens** again when it is above
1.2 h*. Surely: n lookups at h* would bring more hits than k + 1.645 sqrt(k) + 3, which is about
the upper end of what k observed hits leave possible (95 %); k = 0 and h* = 3 / n is the rule of
three. It closes only

- after 100 lookups since it last opened, and 30 answers;
- where h* is at least 0.01: below, a lookup takes less than a hundredth of the answer's time;
- where answers take less than `slow` seconds (1 s). Time is what is measured here, but answers
  cost money too, in tokens that take time to write, and a few hits in a hundred pay for lookups
  of milliseconds. So a slow, expensive upstream is always looked up for.

While closed, every 20th request is looked up all the same: probes, whose hits open the gate again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

PROBE_EVERY = 20  # requests while closed
SLOW = 1.0  # seconds of an answer
_MOST = 1024  # pairs of category and group; the ones not heard of for longest are forgotten
_OPEN_ABOVE = 1.2  # of the break-even hit rate
_LOOKUPS, _ANSWERS = 100, 30  # at least, before it may close
_LEAST = 0.01  # break-even hit rate that matters
_MEMORY = 400  # lookups while open: enough to be sure at _LEAST
_PROBES = 20  # lookups while closed: so few that a change shows soon
_TIMES = 100  # times that a mean of seconds remembers

Key = tuple[str, str]  # category, upstream group


@dataclass(frozen=True, slots=True)
class Worth:
    """What is known of one category and upstream group. Times in seconds; None: nothing yet."""

    hit_rate: float | None  # of lookups by meaning, near-hits among them, smoothed
    hit_seconds: float | None
    miss_seconds: float | None
    saved_seconds: float | None  # an upstream answer's
    break_even: float | None  # hit rate; 1.0 also where no hit rate would pay
    open: bool


class _Mean:
    """A running mean, exponential after `memory` values."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, value: float, memory: int) -> None:
        self.count = min(self.count + 1, memory)
        self.value += (value - self.value) / self.count

    def raise_last(self) -> None:
        """Make one of the last values 1 that was 0."""
        if self.count:
            self.value = min(self.value + 1.0 / self.count, 1.0)

    @property
    def known(self) -> float | None:
        return self.value if self.count else None


class _Account:
    """The numbers of one category and upstream group."""

    __slots__ = ("hit_rate", "hit_seconds", "miss_seconds", "open", "saved_seconds", "skipped")

    def __init__(self) -> None:
        self.hit_rate = _Mean()
        self.hit_seconds = _Mean()
        self.miss_seconds = _Mean()
        self.saved_seconds = _Mean()
        self.open = True
        self.skipped = 0  # requests since the last probe

    def break_even(self) -> float | None:
        if not (self.miss_seconds.count and self.saved_seconds.count):
            return None
        miss = self.miss_seconds.value
        hit = self.hit_seconds.value if self.hit_seconds.count else miss
        return break_even(hit=hit, miss=miss, answer=self.saved_seconds.value)

    def settle(self, slow: float) -> None:
        """Open or close by the numbers as they are now."""
        least = self.break_even()
        if least is None:
            return
        always = least < _LEAST or self.saved_seconds.value >= slow
        rate = self.hit_rate
        if not self.open:
            if always or rate.value > _OPEN_ABOVE * least:
                self._turn(True)
        elif not always and rate.count >= _LOOKUPS and self.saved_seconds.count >= _ANSWERS:
            hits = rate.value * rate.count
            if rate.count * least > hits + 1.645 * math.sqrt(hits) + 3:
                self._turn(False)

    def _turn(self, open: bool) -> None:
        self.open = open
        self.skipped = 0


def break_even(*, hit: float, miss: float, answer: float) -> float:
    """Return the hit rate above which looking up saves time; infinite where none does.

    Seconds of a lookup that hits, of one that misses, and of an upstream answer; none negative.
    """
    if miss <= 0:
        return 0.0
    gained = answer + miss - hit
    return miss / gained if gained > 0 else math.inf


class Economics:
    """The gates of all categories and upstream groups; what a request costs here is a dict or two.

    A key that is not known is open.
    """

    def __init__(self, *, slow: float = SLOW, most: int = _MOST, gated: bool = True) -> None:
        """`gated`: whether a gate may close at all; the numbers are kept in any case."""
        self._slow = slow if gated else 0.0  # every answer is slow enough to look up for
        self._most = most
        self._accounts: OrderedDict[Key, _Account] = OrderedDict()

    def looked_up(self, category: str, group: str, *, hit: bool, seconds: float) -> None:
        """Note a lookup by meaning, probes included; `seconds` hold the encoding."""
        account = self._account((category, group))
        # After closing a short memory sees a change soon; after opening the sample starts from it.
        account.hit_rate.add(1.0 if hit else 0.0, _MEMORY if account.open else _PROBES)
        if _sane(seconds):
            (account.hit_seconds if hit else account.miss_seconds).add(seconds, _TIMES)
        account.settle(self._slow)

    def helped(self, category: str, group: str) -> None:
        """Note that a lookup, told as a miss, brought what a small model could answer from."""
        account = self._account((category, group))
        account.hit_rate.raise_last()
        account.settle(self._slow)

    def answered(self, category: str, group: str, seconds: float) -> None:
        """Note a whole upstream answer: what a hit would have saved."""
        if _sane(seconds):
            self._account((category, group)).saved_seconds.add(seconds, _TIMES)

    def answer_seconds(self, category: str, group: str) -> float | None:
        """Return how long an upstream's answer takes on average; None: nobody has seen one."""
        account = self._accounts.get((category, group))
        return None if account is None else account.saved_seconds.known

    def worthwhile(self, category: str, group: str) -> bool:
        """Whether to look this request up by meaning. Every call counts as a request."""
        account = self._accounts.get((category, group))
        if account is None or account.open:
            return True
        account.skipped += 1
        if account.skipped < PROBE_EVERY:
            return False
        account.skipped = 0
        return True

    def is_open(self, category: str) -> bool:
        """Whether the gates of a category are open, for every upstream group."""
        return all(
            account.open for (name, _), account in self._accounts.items() if name == category
        )

    def facts(self) -> dict[Key, Worth]:
        """Return the numbers of this moment."""
        return {key: _worth(account) for key, account in self._accounts.items()}

    def _account(self, key: Key) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account()
            if len(self._accounts) > self._most:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key)
        return account


class Watching(Economics):
    """The gates of another, for whoever only looks: nothing is counted and no gate moves."""

    def __init__(self, watched: Economics) -> None:
        super().__init__()
        self._accounts = watched._accounts

    def worthwhile(self, category: str, group: str) -> bool:
        """Whether the next request would be looked up by meaning."""
        account = self._accounts.get((category, group))
        return account is None or account.open or account.skipped + 1 >= PROBE_EVERY

    def looked_up(self, category: str, group: str, *, hit: bool, seconds: float) -> None:
        """Pass it over."""

    def helped(self, category: str, group: str) -> None:
        """Pass it over."""

    def answered(self, category: str, group: str, seconds: float) -> None:
        """Pass it over."""


def _sane(seconds: float) -> bool:
    return 0 <= seconds < math.inf  # false for NaN


def _worth(account: _Account) -> Worth:
    least = account.break_even()
    return Worth(
        hit_rate=account.hit_rate.known,
        hit_seconds=account.hit_seconds.known,
        miss_seconds=account.miss_seconds.known,
        saved_seconds=account.saved_seconds.known,
        break_even=None if least is None else min(least, 1.0),
        open=account.open,
    )
