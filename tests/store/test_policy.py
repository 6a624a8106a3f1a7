"""Policies are data and one judgement; a bad file is refused whole, with a line per fault."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import PolicyInvalid
from store.eviction import Quota
from store.policy import (
    Mode,
    Policy,
    Verdict,
    load_policies,
    parse_duration,
    parse_policies,
    parse_size,
    policy_as_data,
    stricter,
)

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


@pytest.mark.parametrize(
    ("text", "seconds"), [("15m", 900), ("7d", 604800), ("250ms", 0.25), (90, 90), ("1.5h", 5400)]
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "5 parsecs", None, True, -1, [], "1e400d", 1e300])
def test_a_bad_duration_says_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("256MiB", 2**28), (10, 10), ("1 kB".upper(), 1000)])
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["-1", -1, "many", None, "5MiBs"])
def test_a_bad_size_says_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="a size"):
        parse_size(text)


def test_a_file_is_read_with_defaults_for_what_it_leaves_out() -> None:
    book = parse_policies(
        {"categories": [{"name": "faq", "hit_threshold": 0.8, "ttl": "1h", "mode": False}]}, "f"
    )
    assert book["faq"] == Policy(name="faq", hit_threshold=0.8, ttl=HOUR, mode=Mode.OFF)
    assert book.names == ["faq", "default"]


def test_capacity_is_the_sum_of_all_quotas() -> None:
    quota = {"entries": 5, "bytes": 10}
    book = parse_policies(
        {"categories": [{"name": "a", "quota": quota}, {"name": "default", "quota": quota}]}, "f"
    )
    assert book.capacity == Quota(10, 20)


@pytest.mark.parametrize(
    ("category", "line"),
    [
        (
            {"name": "a", "hit_treshold": 1},
            "categories[0].hit_treshold: unknown key; allowed: name",
        ),
        ({"name": "a", "hit_threshold": 2}, "categories[0].hit_threshold: 2 is not allowed"),
        ({"name": "a", "hit_threshold": True}, "allowed: a number from -1 to 1"),
        ({"name": "a", "ttl": "soon"}, "categories[0].ttl: 'soon' is not allowed; allowed: a dur"),
        ({"name": "a", "quota": {"entries": -1}}, "allowed: a whole number, 0 or more"),
        ({"name": "a", "quota": {"rows": 1}}, "allowed: {entries: N, bytes: SIZE}"),
        ({"name": "a", "mode": "fuzzy"}, "allowed: semantic | exact | off"),
        ({"name": "A b"}, "categories[0].name: 'A b' is not allowed"),
        ({"ttl": "1h"}, "categories[0].name: None is not allowed"),
        ("faq", "categories[0]: 'faq' is not allowed; allowed: a mapping"),
        ({"name": "a", "near_threshold": 0.95, "hit_threshold": 0.9}, "at most hit_threshold"),
        ({"name": "a", "match": [{"model": "x"}]}, "not in force in this version"),
        ({"name": "a", "scope": "shared"}, "not in force in this version"),
    ],
)
def test_a_bad_category_is_named_with_its_value_and_what_is_allowed(
    category: object, line: str
) -> None:
    with pytest.raises(PolicyInvalid) as raised:
        parse_policies({"categories": [category]}, "policies.yaml")
    assert len(raised.value.faults) == 1
    assert raised.value.faults[0].startswith("policies.yaml: ")
    assert line in raised.value.faults[0]


def test_every_fault_of_a_file_gets_its_line() -> None:
    raw = {"categories": [{"name": "a", "ttl": "x"}, {"name": "a", "mode": "y"}], "categoreis": []}
    with pytest.raises(PolicyInvalid) as raised:
        parse_policies(raw, "f")
    assert len(raised.value.faults) == 4


@pytest.mark.parametrize("raw", [None, [], {}, {"categories": {}}, "text", 5])
def test_a_document_of_another_shape_is_refused(raw: object) -> None:
    with pytest.raises(PolicyInvalid, match="a list of categories"):
        parse_policies(raw, "f")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        load_policies(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("categories: [")
    with pytest.raises(PolicyInvalid, match="is not YAML"):
        load_policies(tmp_path / "bad.yaml")


def test_without_a_file_the_default_category_rules() -> None:
    assert load_policies(None).names == ["default"]


policies = st.builds(
    Policy,
    name=st.just("a"),
    mode=st.sampled_from(Mode),
    hit_threshold=st.floats(-1, 1).map(lambda x: round(x, 3)),
    ttl=st.integers(0, 10**6).map(lambda s: timedelta(seconds=s)),
    quota=st.builds(Quota, st.integers(0, 10**6), st.integers(0, 10**9)),
    max_temperature=st.floats(0, 2).map(lambda x: round(x, 2)),
    max_turns=st.integers(0, 100),
    store_tool_calls=st.booleans(),
)


@given(policies)
def test_what_is_exported_reads_back_the_same(policy: Policy) -> None:
    assert parse_policies({"categories": [policy_as_data(policy)]}, "f")["a"] == policy


@given(policies, policies, st.floats(-1, 1), st.integers(0, 10**6))
def test_the_stricter_of_two_policies_hits_only_where_both_do(
    a: Policy, b: Policy, similarity: float, seconds: int
) -> None:
    age = timedelta(seconds=seconds)
    both = all(policy.judge(similarity, age) is Verdict.HIT for policy in (a, b))
    strict = stricter(a, b)
    assert (strict.judge(similarity, age) is Verdict.HIT) == both
    assert (strict.mode is Mode.OFF) == (Mode.OFF in (a.mode, b.mode))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_document_is_read_or_refused_but_never_crashes(raw: object) -> None:
    try:
        parse_policies({"categories": raw}, "f")
    except PolicyInvalid as error:
        assert error.faults
