"""A policy is one judgement over values; the stricter of two hits only where both do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.eviction import Quota
from store.match import MatchRule
from store.policy import Mode, Policy, PolicyBook, Verdict, stricter

HOUR = timedelta(hours=1)
POLICY = Policy(name="faq", hit_threshold=0.9, ttl=HOUR)


@pytest.mark.parametrize(
    ("similarity", "age", "verdict"),
    [
        pytest.param(0.90, HOUR, Verdict.HIT, id="at both limits"),
        pytest.param(0.8999, HOUR, Verdict.MISS, id="just below the threshold"),
        pytest.param(0.99, 2 * HOUR, Verdict.STALE, id="similar but expired"),
        pytest.param(0.10, 2 * HOUR, Verdict.MISS, id="neither"),
    ],
)
def test_judge(similarity: float, age: timedelta, verdict: Verdict) -> None:
    assert POLICY.judge(similarity, age) is verdict


def test_a_category_of_mode_off_or_locked_is_ruled_first_if_it_has_rules() -> None:
    rule = (MatchRule(regex="salary"),)
    off = Policy(name="off", mode=Mode.OFF, match=rule)
    locked = Policy(name="locked", locked=True, match=rule)
    open_ = Policy(name="open", match=rule)
    bare = Policy(name="bare", mode=Mode.OFF, examples=("what do I earn?",))
    book = PolicyBook({p.name: p for p in (open_, off, locked, bare)})
    assert book.ruled_first == (off, locked)
    assert book.ruled == (open_,)
    assert book.exemplified == (bare,)


@pytest.mark.parametrize(("hours", "helps"), [(1, True), (3, True), (4, False)])
def test_an_expired_entry_helps_in_need_only_for_so_long(hours: int, helps: bool) -> None:
    policy = Policy(name="a", ttl=HOUR, stale_if_error=2 * HOUR)
    assert policy.helps_in_need(hours * HOUR) is helps


policies = st.builds(
    Policy,
    name=st.just("a"),
    mode=st.sampled_from(Mode),
    hit_threshold=st.floats(-1, 1).map(lambda x: round(x, 3)),
    ttl=st.integers(0, 10**6).map(lambda s: timedelta(seconds=s)),
    stale_if_error=st.integers(0, 10**6).map(lambda s: timedelta(seconds=s)),
    quota=st.builds(Quota, st.integers(0, 10**6), st.integers(0, 10**9)),
)


@given(policies, policies, st.floats(-1, 1), st.integers(0, 10**6))
def test_the_stricter_of_two_policies_hits_only_where_both_do(
    a: Policy, b: Policy, similarity: float, seconds: int
) -> None:
    age = timedelta(seconds=seconds)
    both = all(policy.judge(similarity, age) is Verdict.HIT for policy in (a, b))
    strict = stricter(a, b)
    assert (strict.judge(similarity, age) is Verdict.HIT) == both
    assert (strict.mode is Mode.OFF) == (Mode.OFF in (a.mode, b.mode))


@given(policies, policies, st.integers(0, 10**7))
def test_the_stricter_of_two_policies_helps_in_need_only_where_both_do(
    a: Policy, b: Policy, seconds: int
) -> None:
    age = timedelta(seconds=seconds)
    if stricter(a, b).helps_in_need(age):
        assert a.helps_in_need(age)
        assert b.helps_in_need(age)
