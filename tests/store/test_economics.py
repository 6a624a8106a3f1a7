"""The gate closes where looking up surely costs more than it saves, and opens by itself."""

from __future__ import annotations

import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.economics import PROBE_EVERY, Economics, Watching, break_even

pytestmark = pytest.mark.serial

CATEGORY, GROUP = "chat", "main"
LOOKUP = 0.010  # seconds
FAST = 0.050  # seconds of an answer: break-even is a hit rate of 1 in 5


def feed(
    gate: Economics,
    *,
    hits: int,
    of: int,
    answer: float = FAST,
    lookup: float = LOOKUP,
    category: str = CATEGORY,
    group: str = GROUP,
) -> None:
    """Report so many lookups, the hits evenly among them, with an answer for each miss."""
    for number in range(of):
        hit = (number + 1) * hits // of > number * hits // of
        gate.looked_up(category, group, hit=hit, seconds=lookup)
        if not hit:
            gate.answered(category, group, answer)


def is_open(gate: Economics, category: str = CATEGORY, group: str = GROUP) -> bool:
    return gate.facts()[category, group].open


# The formula


@pytest.mark.parametrize(
    ("hit", "miss", "answer", "rate"),
    [
        pytest.param(0.01, 0.01, 1.0, 0.01, id="lookups as dear either way"),
        pytest.param(0.030, 0.030, 0.150, 0.2, id="a remote vector database before a fast model"),
        pytest.param(0.030, 0.030, 0.200, 0.15, id="the same before a slower one"),
        pytest.param(0.02, 0.01, 0.11, 0.1, id="a hit dearer than a miss"),
        pytest.param(0.01, 0.0, 0.5, 0.0, id="misses for nothing"),
        pytest.param(0.01, 0.01, 0.0, math.inf, id="answers for nothing"),
        pytest.param(0.5, 0.01, 0.1, math.inf, id="hits dearer than answers"),
    ],
)
def test_the_break_even_hit_rate(hit: float, miss: float, answer: float, rate: float) -> None:
    assert break_even(hit=hit, miss=miss, answer=answer) == pytest.approx(rate)


seconds = st.floats(1e-6, 100)


@given(seconds, seconds, seconds, st.floats(0, 1))
def test_above_break_even_looking_up_is_faster_and_below_it_is_slower(
    hit: float, miss: float, answer: float, rate: float
) -> None:
    least = break_even(hit=hit, miss=miss, answer=answer)
    with_lookup = rate * hit + (1 - rate) * (miss + answer)
    if rate > least * 1.000001:
        assert with_lookup <= answer * (1 + 1e-6)
    elif rate < least * 0.999999:
        assert with_lookup >= answer * (1 - 1e-6)


@given(seconds, seconds, seconds, seconds)
def test_a_slower_upstream_breaks_even_at_a_lower_hit_rate(
    hit: float, miss: float, answer: float, more: float
) -> None:
    slower = break_even(hit=hit, miss=miss, answer=answer + more)
    assert slower <= break_even(hit=hit, miss=miss, answer=answer)


# When it closes


def test_what_was_never_heard_of_is_open() -> None:
    gate = Economics()
    assert all(gate.worthwhile(CATEGORY, GROUP) for _ in range(100))
    assert gate.facts() == {}


def test_lookups_that_never_hit_before_a_fast_upstream_close() -> None:
    gate = Economics()
    feed(gate, hits=0, of=400)
    assert not is_open(gate)


@pytest.mark.parametrize("lookups", [1, 29, 99])
def test_a_small_sample_does_not_close(lookups: int) -> None:
    gate = Economics()
    feed(gate, hits=0, of=lookups)
    assert is_open(gate)


@pytest.mark.parametrize("answers", [0, 1, 29])
def test_lookups_with_hardly_any_answers_do_not_close(answers: int) -> None:
    gate = Economics()
    for _ in range(answers):
        gate.answered(CATEGORY, GROUP, FAST)
    for _ in range(1000):
        gate.looked_up(CATEGORY, GROUP, hit=False, seconds=LOOKUP)
    assert is_open(gate)


def test_a_hit_rate_well_above_break_even_stays_open() -> None:
    gate = Economics()
    feed(gate, hits=600, of=2000)
    assert is_open(gate)


def test_a_hit_rate_well_below_break_even_closes() -> None:
    gate = Economics()
    feed(gate, hits=100, of=2000)
    assert not is_open(gate)


def test_a_hit_rate_that_may_be_chance_does_not_close() -> None:
    gate = Economics()
    feed(gate, hits=17, of=100)  # break-even would be 20
    assert is_open(gate)


@pytest.mark.parametrize(
    ("answer", "lookup"),
    [
        pytest.param(20.0, LOOKUP, id="a slow model"),
        pytest.param(1.0, 0.3, id="an answer of a second, however dear the lookup"),
        pytest.param(0.9, 0.0085, id="a lookup below a hundredth of the answer"),
    ],
)
def test_what_is_slow_or_expensive_never_closes(answer: float, lookup: float) -> None:
    gate = Economics()
    feed(gate, hits=0, of=3000, answer=answer, lookup=lookup)
    assert is_open(gate)


def test_how_slow_an_upstream_must_be_is_a_setting() -> None:
    gate = Economics(slow=10.0)
    feed(gate, hits=0, of=3000, answer=1.0, lookup=0.3)
    assert not is_open(gate)


def test_categories_and_groups_close_on_their_own() -> None:
    gate = Economics()
    feed(gate, hits=0, of=400)
    feed(gate, hits=0, of=400, answer=20.0, group="large")
    feed(gate, hits=300, of=400, category="docs")
    assert not is_open(gate)
    assert is_open(gate, group="large")
    assert is_open(gate, category="docs")
    assert gate.worthwhile("docs", GROUP)
    assert gate.is_open("docs") and gate.is_open("never heard of")
    assert not gate.is_open(CATEGORY)  # one of its two is closed


@given(st.integers(0, 2**32))
def test_chance_does_not_close_a_category_at_three_times_break_even(seed: int) -> None:
    order, gate = random.Random(seed), Economics()
    for _ in range(3000):  # break-even is 0.02
        hit = order.random() < 0.06
        gate.looked_up(CATEGORY, GROUP, hit=hit, seconds=LOOKUP)
        gate.answered(CATEGORY, GROUP, 0.5)
    assert is_open(gate)


# Near-hits: misses of which a small model has made something


def near_hits(gate: Economics, *, helped: int, of: int) -> None:
    """Report so many misses, as many of them near-hits as are said, spread evenly."""
    for number in range(of):
        feed(gate, hits=0, of=1)
        if (number + 1) * helped // of > number * helped // of:
            gate.helped(CATEGORY, GROUP)


def test_a_category_that_lives_off_near_hits_stays_open() -> None:
    gate = Economics()
    near_hits(gate, helped=900, of=1000)
    assert is_open(gate)
    assert gate.facts()[CATEGORY, GROUP].hit_rate == pytest.approx(0.9, abs=0.01)


def test_near_hits_that_are_too_few_for_the_time_that_lookups_take_do_not_hold_it() -> None:
    gate = Economics()
    near_hits(gate, helped=50, of=1000)  # break-even would be 200
    assert not is_open(gate)


def test_near_hits_of_many_calls_at_once_count_when_they_come() -> None:
    gate = Economics()
    for _ in range(20):
        feed(gate, hits=0, of=50)
        for _ in range(45):
            gate.helped(CATEGORY, GROUP)
    assert is_open(gate)
    assert gate.facts()[CATEGORY, GROUP].hit_rate == pytest.approx(0.9, abs=0.06)


def test_a_near_hit_of_a_key_that_was_forgotten_says_nothing() -> None:
    gate = Economics()
    gate.helped(CATEGORY, GROUP)
    assert gate.facts()[CATEGORY, GROUP].hit_rate is None


# While it is closed


def closed() -> Economics:
    """A gate that has just closed."""
    gate = Economics()
    feed(gate, hits=0, of=400)
    assert not is_open(gate)
    return gate


def test_while_closed_every_twentieth_request_is_a_probe() -> None:
    gate = closed()
    asked = [gate.worthwhile(CATEGORY, GROUP) for _ in range(3 * PROBE_EVERY)]
    assert asked == ([False] * (PROBE_EVERY - 1) + [True]) * 3


def test_probes_that_hit_open_it_within_a_few_of_them() -> None:
    gate, probes = closed(), 0
    for _ in range(20 * PROBE_EVERY):
        if gate.worthwhile(CATEGORY, GROUP) and not is_open(gate):
            gate.looked_up(CATEGORY, GROUP, hit=True, seconds=LOOKUP)
            probes += 1
    assert is_open(gate)
    assert probes <= 8


def test_a_single_probe_that_hits_does_not_open_it() -> None:
    gate = closed()
    gate.looked_up(CATEGORY, GROUP, hit=True, seconds=LOOKUP)
    assert not is_open(gate)


def test_probes_that_are_near_hits_open_it() -> None:
    gate = closed()
    for _ in range(8):
        gate.looked_up(CATEGORY, GROUP, hit=False, seconds=LOOKUP)
        gate.helped(CATEGORY, GROUP)
    assert is_open(gate)


def test_an_upstream_that_has_become_slow_opens_it_at_the_next_probe() -> None:
    gate = closed()
    for _ in range(300):
        gate.answered(CATEGORY, GROUP, 20.0)
    gate.looked_up(CATEGORY, GROUP, hit=False, seconds=LOOKUP)
    assert is_open(gate)


def test_after_opening_it_does_not_close_on_the_old_sample() -> None:
    gate = closed()
    for _ in range(20):
        gate.looked_up(CATEGORY, GROUP, hit=True, seconds=LOOKUP)
    assert is_open(gate)
    feed(gate, hits=0, of=60)
    assert is_open(gate)
    feed(gate, hits=0, of=1000)
    assert not is_open(gate)


# A stream whose repetition stops and comes back


def stream(gate: Economics, order: random.Random, texts: int, requests: int) -> tuple[int, int]:
    """Ask that many requests out of so many texts; return lookups and hits.

    As in the proxy, only what was looked up has a vector, so only that can be hit later.
    """
    stored: set[int] = set()
    lookups = hits = 0
    for _ in range(requests):
        text = order.randrange(texts)
        if gate.worthwhile(CATEGORY, GROUP):
            lookups += 1
            hit = text in stored
            gate.looked_up(CATEGORY, GROUP, hit=hit, seconds=order.uniform(0.5, 1.5) * LOOKUP)
            stored.add(text)
            hits += hit
            if hit:
                continue
        gate.answered(CATEGORY, GROUP, order.uniform(0.5, 1.5) * FAST)
    return lookups, hits


@pytest.mark.parametrize("seed", range(5))
def test_it_follows_repetition_that_stops_and_comes_back(seed: int) -> None:
    gate, order = Economics(), random.Random(seed)
    lookups, hits = stream(gate, order, texts=50, requests=2000)
    assert lookups == 2000
    assert hits > 1900
    lookups, hits = stream(gate, order, texts=10**9, requests=10_000)
    assert hits == 0
    assert lookups < 0.15 * 10_000
    assert not is_open(gate)
    lookups, hits = stream(gate, order, texts=50, requests=4000)
    assert is_open(gate)
    assert hits > 0.6 * 4000


@pytest.mark.parametrize("seed", range(3))
def test_closing_saves_time_where_nothing_repeats(seed: int) -> None:
    gate, order = Economics(), random.Random(seed)
    lookups, _ = stream(gate, order, texts=10**9, requests=10_000)
    assert lookups * LOOKUP < 0.1 * 10_000 * LOOKUP


# Nonsense, and bounds

times = st.floats() | st.sampled_from([0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324])


@given(st.lists(st.tuples(st.booleans(), times, times), max_size=300))
def test_no_times_whatever_break_it(reports: list[tuple[bool, float, float]]) -> None:
    gate = Economics()
    for hit, lookup, answer in reports:
        gate.looked_up(CATEGORY, GROUP, hit=hit, seconds=lookup)
        gate.helped(CATEGORY, GROUP)
        gate.answered(CATEGORY, GROUP, answer)
        gate.worthwhile(CATEGORY, GROUP)
    for worth in gate.facts().values():
        for value in (worth.hit_rate, worth.break_even):
            assert value is None or 0 <= value <= 1
        for value in (worth.hit_seconds, worth.miss_seconds, worth.saved_seconds):
            assert value is None or 0 <= value < math.inf


@given(st.lists(st.sampled_from([math.nan, math.inf, -1.0]), min_size=200, max_size=200))
def test_times_that_are_none_leave_the_gate_open(bad: list[float]) -> None:
    gate = Economics()
    for each in bad:
        gate.looked_up(CATEGORY, GROUP, hit=False, seconds=each)
        gate.answered(CATEGORY, GROUP, each)
    assert is_open(gate)


def test_lookups_for_nothing_never_close() -> None:
    gate = Economics()
    feed(gate, hits=0, of=1000, lookup=0.0)
    assert is_open(gate)


def test_where_answers_cost_no_time_no_hit_rate_pays() -> None:
    gate = Economics()
    feed(gate, hits=0, of=1000, answer=0.0)
    assert not is_open(gate)
    assert gate.facts()[CATEGORY, GROUP].break_even == 1.0


def test_facts_say_what_was_measured() -> None:
    gate = Economics()
    for hit in [True] + [False] * 3:
        gate.looked_up(CATEGORY, GROUP, hit=hit, seconds=0.02 if hit else 0.01)
    assert gate.facts()[CATEGORY, GROUP].break_even is None  # no answer yet
    gate.answered(CATEGORY, GROUP, 0.11)
    worth = gate.facts()[CATEGORY, GROUP]
    assert worth.hit_rate == pytest.approx(0.25)
    assert worth.hit_seconds == pytest.approx(0.02)
    assert worth.miss_seconds == pytest.approx(0.01)
    assert worth.saved_seconds == pytest.approx(0.11)
    assert worth.break_even == pytest.approx(0.1)
    assert worth.open


def test_the_numbers_forget() -> None:
    gate = Economics()
    feed(gate, hits=0, of=90, answer=0.01)
    feed(gate, hits=500, of=1000, answer=0.4)
    worth = gate.facts()[CATEGORY, GROUP]
    assert worth.hit_rate == pytest.approx(0.5, abs=0.05)
    assert worth.saved_seconds == pytest.approx(0.4, rel=0.05)


def test_keys_are_bounded_and_the_longest_unheard_of_goes_first() -> None:
    gate = Economics(most=3)
    for group in ("a", "b", "c"):
        gate.answered(CATEGORY, group, 1.0)
    gate.answered(CATEGORY, "a", 1.0)
    gate.looked_up(CATEGORY, "d", hit=False, seconds=LOOKUP)
    assert [group for _, group in gate.facts()] == ["c", "a", "d"]


def test_a_request_costs_it_a_few_microseconds() -> None:
    gate = closed()
    started = time.thread_time()
    for _ in range(10_000):
        gate.worthwhile(CATEGORY, GROUP)
        gate.looked_up(CATEGORY, GROUP, hit=False, seconds=LOOKUP)
        gate.answered(CATEGORY, GROUP, FAST)
    assert (time.thread_time() - started) / 10_000 < 100e-6  # 2 us on a quiet machine


def test_whoever_only_looks_sees_what_the_next_request_would_and_moves_nothing() -> None:
    watched = closed()
    watching = Watching(watched)
    for _ in range(2 * PROBE_EVERY):
        before = watched.facts()
        seen = watching.worthwhile(CATEGORY, GROUP)
        watching.looked_up(CATEGORY, GROUP, hit=True, seconds=0.1)
        watching.helped(CATEGORY, GROUP)
        watching.answered(CATEGORY, GROUP, 100.0)
        assert watched.facts() == before == watching.facts()
        assert watched.worthwhile(CATEGORY, GROUP) is seen
