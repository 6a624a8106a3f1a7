"""What the stream came to, beside what other ways of routing would have come to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.nearhits.scoring import Interval, gain_of, mean_of
from bench.nearhits.stream_plan import Phases

BACK = 0.10  # share of near-hits to which it must have come back after the spoiling
WITHIN = 200  # requests
RUNNING = 50  # requests of the running share


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answered request of the stream."""

    index: int
    task: str
    sent: float  # seconds after the start
    ended: float
    right: bool
    near_hit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What the small model does with one question when a benchmark asks it directly."""

    similarity: float  # of the nearest stored question
    bare: bool  # whether it is right without examples, leniently
    plain: bool  # whether it is right after the five nearest examples
    seconds: float  # with them


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The stream's numbers before the small model was spoilt, and after."""

    share: float  # of near-hits, during the overload before the spoiling
    share_before: float  # of all answers before the spoiling
    throughput: float  # answers a second in that time
    quality: Interval  # of all answers before the spoiling
    near_hit_quality: Interval  # of the small model's
    random_quality: Interval  # had as many been chosen at random, and shown the five nearest
    gain: Interval  # over it
    p50: float  # seconds, during the overload
    back_after: (
        int | None
    )  # requests after the spoiling until the running share is low; None: never
    share_after: float  # of near-hits among the 200 requests after the first 200
    wrong_after: int  # spoilt answers that reached the client


def summary(served: Sequence[Served], alone: Sequence[Alone], turns: Phases, seed: int) -> Summary:
    """Return the account of a run."""
    before = [each for each in served if each.index < turns.spoilt]
    busy = [each for each in before if each.index >= turns.overload]
    share = _share(before)
    ours = [float(each.right) for each in before]
    chance = 1.0 - share * (1.0 - mean_of([float(each.plain) for each in alone]).mean)
    near = [float(each.right) for each in before if each.near_hit]
    return Summary(
        share=_share(busy),
        share_before=share,
        throughput=_throughput(busy),
        quality=mean_of(ours, seed),
        near_hit_quality=mean_of(near, seed),
        random_quality=_random_quality(alone, share, seed),
        gain=gain_of(ours, [chance] * len(ours), seed),
        p50=median(each.ended - each.sent for each in busy),
        back_after=back_after(served, turns),
        share_after=_share([e for e in served if e.index >= turns.spoilt + WITHIN][:WITHIN]),
        wrong_after=sum(e.near_hit and not e.right for e in served if e.index >= turns.spoilt),
    )


def back_after(served: Sequence[Served], turns: Phases) -> int | None:
    """Return how many requests after the spoiling the running share of near-hits is low again."""
    after = sorted((e for e in served if e.index >= turns.spoilt), key=lambda e: e.index)
    for end in range(min(RUNNING, len(after)), len(after) + 1):
        if end and _share(after[max(0, end - RUNNING) : end]) <= BACK:
            return end
    return None


def curve(alone: Sequence[Alone], capacity: float) -> Iterator[tuple[float, float, float, float]]:
    """Yield (share, throughput over always large, quality at random, quality by similarity).

    Throughput at a share is what the large model's capacity allows, if the small one keeps up:
    beyond that share its own pace bounds it, and the last column of the table says so.
    """
    by_similarity = sorted(alone, key=lambda each: -each.similarity)
    small_rate = 1.0 / median(each.seconds for each in alone)
    right = sum(each.plain for each in alone) / len(alone)
    for tenths in range(11):
        share = tenths / 10
        chosen = by_similarity[: round(share * len(alone))]
        wrong = sum(not each.plain for each in chosen) / len(alone)
        by_large = capacity / (1.0 - share) if share < 1.0 else float("inf")
        by_small = small_rate / share if share else float("inf")
        rate = min(by_large, by_small)
        yield share, rate / capacity, 1.0 - share * (1.0 - right), 1.0 - wrong


def table(found: Summary, alone: Sequence[Alone], capacity: float) -> str:
    """Return the account as Markdown."""
    small = 1.0 / median(each.seconds for each in alone)
    bare = mean_of([float(each.bare) for each in alone]).percent()
    plain = mean_of([float(each.plain) for each in alone]).percent()
    back = "never" if found.back_after is None else f"after {found.back_after} requests"
    rows = [
        ("always large", f"{capacity:.2f}", "1.00", "0", "100"),
        ("always small, bare (lenient)", f"{small:.2f}", f"{small / capacity:.2f}", "100", bare),
        ("always small, 5 nearest", f"{small:.2f}", f"{small / capacity:.2f}", "100", plain),
        (
            "random, as many near-hits",
            f"{found.throughput:.2f}",
            f"{found.throughput / capacity:.2f}",
            f"{100 * found.share:.0f}",
            found.random_quality.percent(),
        ),
        (
            "ours",
            f"{found.throughput:.2f}",
            f"{found.throughput / capacity:.2f}",
            f"{100 * found.share:.0f}",
            found.quality.percent(),
        ),
    ]
    lines = [
        "| before the small model is spoilt | answers/s in the overload | x | near-hits % |"
        " quality % |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Quality is of all answers before that, {100 * found.share_before:.0f} % near-hits among"
        " them.",
        f"Ours over random: {found.gain.percent()} points; its near-hits alone"
        f" {found.near_hit_quality.percent()} % right; p50 in the overload {found.p50:.2f} s.",
        f"Spoilt: at most {100 * BACK:.0f} % near-hits again {back};"
        f" {100 * found.share_after:.0f} % of requests {WITHIN}-{2 * WITHIN} after it;"
        f" {found.wrong_after} spoilt answers reached the client.",
        "",
        "| share to the small model | throughput x | quality %, at random | by similarity |",
        "| --- | --- | --- | --- |",
        *(
            f"| {share:.1f} | {times:.2f} | {100 * chance:.0f} | {100 * similar:.0f} |"
            for share, times, chance, similar in curve(alone, capacity)
        ),
    ]
    return "\n".join(lines)


def _share(served: Sequence[Served]) -> float:
    return sum(each.near_hit for each in served) / len(served) if served else 0.0


def _throughput(served: Sequence[Served]) -> float:
    """Answers a second between the first request and the last, backlog left out."""
    start, end = min(each.sent for each in served), max(each.sent for each in served)
    done = sum(start <= each.ended <= end for each in served)
    return done / (end - start) if end > start else 0.0


def _random_quality(alone: Sequence[Alone], share: float, seed: int) -> Interval:
    plain = mean_of([float(each.plain) for each in alone], seed)
    mean, low, high = (1.0 - share * (1.0 - value) for value in plain[:3])
    return Interval(mean, low, high, plain.n)
