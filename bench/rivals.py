"""Ways to choose who leaves a cache of so many entries: what `bench.eviction` compares ours with.

Each is a function of a trace's keys and the room, and returns how many of the keys were hits. They
are as short as their papers let them be, and tuned to nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from math import exp2, log2

Keys = Sequence[str]
Policy = Callable[[Keys, int], int]
Queue = OrderedDict[str, None]


def lru(keys: Keys, room: int) -> int:
    """Whose last use is longest ago."""
    held, hits = Queue(), 0
    for key in keys:
        if key in held:
            hits += 1
            held.move_to_end(key)
        else:
            if len(held) >= room:
                held.popitem(last=False)
            held[key] = None
    return hits


def fifo(keys: Keys, room: int) -> int:
    """Who was stored longest ago."""
    held, hits = Queue(), 0
    for key in keys:
        if key in held:
            hits += 1
        else:
            if len(held) >= room:
                held.popitem(last=False)
            held[key] = None
    return hits


def lfu_da(keys: Keys, room: int) -> int:
    """Whose uses plus the age at the last of them are least; age is what the last to leave had."""
    uses: dict[str, int] = {}
    ranks: dict[str, int] = {}
    heap: list[tuple[int, str]] = []  # ranks as they were
    hits = age = 0
    for key in keys:
        if key in ranks:
            hits += 1
            uses[key] += 1
            ranks[key] = uses[key] + age
            continue
        while len(ranks) >= room:
            seen, lowest = heapq.heappop(heap)
            if ranks[lowest] == seen:
                age = seen
                del ranks[lowest], uses[lowest]
            else:
                heapq.heappush(heap, (ranks[lowest], lowest))
        uses[key], ranks[key] = 1, age + 1
        heapq.heappush(heap, (age + 1, key))
    return hits


def lrfu(halving: float) -> Policy:
    """Return LRFU: a use counts half as much after `halving` times as many others as are held."""

    def replay(keys: Keys, room: int) -> int:
        ranks: dict[str, float] = {}
        heap: list[tuple[float, str]] = []  # ranks as they were
        hits, clock = 0, 0.0
        for key in keys:
            clock += 1 / max(1.0, halving * len(ranks))
            if key in ranks:
                hits += 1
                ranks[key] = clock + log2(1 + exp2(ranks[key] - clock))
                continue
            while len(ranks) >= room:
                seen, lowest = heapq.heappop(heap)
                if ranks[lowest] == seen:
                    del ranks[lowest]
                else:
                    heapq.heappush(heap, (ranks[lowest], lowest))
            ranks[key] = clock
            heapq.heappush(heap, (clock, key))
        return hits

    return replay


def slru(protected_share: float) -> Policy:
    """Return segmented LRU: a second use brings a key into the protected segment."""

    def replay(keys: Keys, room: int) -> int:
        trial, protected, hits = Queue(), Queue(), 0
        for key in keys:
            if key in protected:
                hits += 1
                protected.move_to_end(key)
            elif key in trial:
                hits += 1
                del trial[key]
                protected[key] = None
                if len(protected) > max(1, int(room * protected_share)):
                    trial[protected.popitem(last=False)[0]] = None
            else:
                if len(trial) + len(protected) >= room:
                    (trial or protected).popitem(last=False)
                trial[key] = None
        return hits

    return replay


def two_queues(keys: Keys, room: int) -> int:
    """2Q: newcomers in a FIFO quarter; only who comes back after leaving it joins the LRU rest."""
    fresh, left, kept, hits = Queue(), Queue(), Queue(), 0
    for key in keys:
        if key in kept or key in fresh:
            hits += 1
            if key in kept:
                kept.move_to_end(key)
            continue
        if len(fresh) + len(kept) >= room:
            if len(fresh) > max(1, room // 4) or not kept:
                left[fresh.popitem(last=False)[0]] = None
                if len(left) > room // 2:
                    left.popitem(last=False)
            else:
                kept.popitem(last=False)
        returned = key in left
        left.pop(key, None)
        (kept if returned else fresh)[key] = None
    return hits


def s3_fifo(keys: Keys, room: int) -> int:
    """S3-FIFO: a tenth for newcomers, who need two uses there to get into the rest."""
    uses: dict[str, int] = {}
    small, main, ghosts, hits = deque[str](), deque[str](), Queue(), 0
    tenth = max(1, room // 10)
    for key in keys:
        if key in uses:
            hits += 1
            uses[key] = min(3, uses[key] + 1)
            continue
        while len(uses) >= room:
            if len(small) >= tenth or not main:
                oldest = small.popleft()
                if uses[oldest] > 1:
                    main.append(oldest)
                    uses[oldest] = 0
                else:
                    del uses[oldest]
                    ghosts[oldest] = None
                    if len(ghosts) > room - tenth:
                        ghosts.popitem(last=False)
            elif uses[main[0]]:
                uses[main[0]] -= 1
                main.rotate(-1)
            else:
                del uses[main.popleft()]
        (main if key in ghosts else small).append(key)
        ghosts.pop(key, None)
        uses[key] = 0
    return hits


def w_tiny_lfu(window_share: float) -> Policy:
    """Return W-TinyLFU: who leaves the window must have been asked for more than whom it replaces.

    Counted exactly, where the paper has a sketch; the main part is plain LRU.
    """

    def replay(keys: Keys, room: int) -> int:
        window, main, hits = Queue(), Queue(), 0
        window_room = max(1, int(room * window_share))
        asked = Counter[str]()
        for number, key in enumerate(keys, 1):
            asked[key] += 1
            if number % (10 * room) == 0:
                asked = Counter({key: count // 2 for key, count in asked.items() if count > 1})
            if key in window or key in main:
                hits += 1
                (window if key in window else main).move_to_end(key)
                continue
            window[key] = None
            if len(window) <= window_room:
                continue
            oldest, _ = window.popitem(last=False)
            if len(main) < room - window_room:
                main[oldest] = None
            elif main and asked[oldest] > asked[next(iter(main))]:
                main.popitem(last=False)
                main[oldest] = None
        return hits

    return replay


RIVALS: dict[str, Policy] = {
    "LFU-DA": lfu_da,
    **{f"LRFU, halving in {factor:g} n": lrfu(factor) for factor in (0.25, 0.5, 1, 1.5, 2, 4, 8)},
    "SLRU, half protected": slru(0.5),
    "SLRU, 0.8 protected": slru(0.8),
    "2Q": two_queues,
    "S3-FIFO": s3_fifo,
    "W-TinyLFU, window 1 %": w_tiny_lfu(0.01),
    "W-TinyLFU, window 20 %": w_tiny_lfu(0.2),
}
