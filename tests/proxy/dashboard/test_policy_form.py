"""The form of a policy: what stands in it is the policy, and faults are told by their field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dashboard.audit import Change
from proxy.dashboard.policy_form import FIELDS, OTHER, differences, parsed, raw_of, values_of
from store.policy import Policy
from store.policy_file import FIELDS as KEYS
from store.policy_file import load_policies, parse_policies

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
GLOBS = st.text("ab*\\n: '\"#-é", min_size=1, max_size=6)
POLICIES = st.fixed_dictionaries(
    {"name": st.just("p"), "hit_threshold": st.integers(500, 1000).map(lambda n: n / 1000)},
    optional={
        "examples": st.lists(TEXTS.filter(str.strip), max_size=4),
        "match": st.lists(st.fixed_dictionaries({"model": GLOBS}), max_size=3),
        "locked": st.booleans(),
        "audit": st.booleans(),
        "mode": st.sampled_from(("semantic", "exact", "off")),
        "ttl": st.integers(1, 10**7),
        "quota": st.fixed_dictionaries(
            {"entries": st.integers(0, 10**9), "bytes": st.integers(0, 2**40)}
        ),
        "priority": st.floats(0.001, 1000),
        "error_budget": st.none() | st.floats(0.0001, 0.5),
        "load": st.none()
        | st.just({"latency_target_ms": 0.5, "threshold_floor": 0.25, "ttl_ceiling": "365d"}),
    },
)


def as_sent(values: dict[str, str]) -> dict[str, str]:
    """Return the fields as a browser sends them: lines end in CR LF."""
    return {name: value.replace("\n", "\r\n") for name, value in values.items()}


@settings(max_examples=50)
@given(POLICIES)
def test_what_stands_in_the_form_is_the_policy(raw: dict[str, Any]) -> None:
    policy = parse_policies({"categories": [raw]}, "test")["p"]
    read, _, faults = parsed("p", as_sent(values_of(policy)))
    assert (read, faults) == (policy, {})


def test_the_starter_policies_stand_in_the_form_as_they_are() -> None:
    for policy in load_policies(None).policies.values():
        assert parsed(policy.name, as_sent(values_of(policy)))[0] == policy


def test_every_key_of_a_policy_has_a_control() -> None:
    assert {field.key for field in FIELDS} == set(KEYS) - {"name"}
    assert all(field.hint for field in FIELDS)


def test_what_is_empty_takes_its_default() -> None:
    read, raw, _ = parsed("p", {"audit": "on", "error_budget": "0.01"})
    assert read is not None and "hit_threshold" not in raw
    assert read == parse_policies({"categories": [{"name": "p", "error_budget": 0.01}]}, "t")["p"]


def test_faults_are_by_key_and_all_at_once() -> None:
    values = {"hit_threshold": "x", "ttl": "soon", "match": "- {", "load": "{a: 1}"}
    read, _, faults = parsed("No!", {**values_of(Policy(name="p")), **values})
    assert read is None and set(faults) == {"name", "match"}
    read, _, faults = parsed("p", {**values_of(Policy(name="p")), **values})
    assert set(faults) == {"hit_threshold", "ttl", "match", "load"}
    assert OTHER not in faults


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("quota_bytes", "9" * 5000),
        ("quota_bytes", "9" * 400 + "GiB"),
        ("quota_entries", "9" * 5000),
        ("max_turns", "9" * 400),
        ("hit_threshold", "1e400"),
        ("match", "a: 2026-13-45"),
        ("match", "[" * 5000),
        ("match", '- {model: "\\uD83D"}'),
    ],
)
def test_what_no_policy_can_hold_is_a_fault_of_its_field(field: str, typed: str) -> None:
    read, _, faults = parsed("p", {**values_of(Policy(name="p")), field: typed})
    assert read is None and set(faults) == {field.partition("_")[0] if "quota" in field else field}


def test_a_part_of_the_load_section_is_named() -> None:
    values = {"load": "{latency_target_ms: 5, threshold_floor: 0.99, ttl_ceiling: 30d}"}
    _, _, faults = parsed("p", values)
    assert faults["load"][0].startswith("threshold_floor: 0.99")


@given(st.lists(TEXTS.filter(str.strip), max_size=5))
def test_examples_are_one_a_line_whatever_is_in_them(texts: list[str]) -> None:
    policy = Policy(name="p", examples=tuple(dict.fromkeys(texts)))
    values = values_of(policy)
    assert values["examples"].count("\n") == max(0, len(policy.examples) - 1)
    assert raw_of(as_sent(values))[0]["examples"] == list(policy.examples)


def test_of_examples_the_ones_that_came_and_went_are_told() -> None:
    before = {"examples": ["a", "b"], "ttl": "1h"}
    assert differences(before, {"examples": ["b", "c"], "ttl": "1h"}) == [
        Change("examples", "a", None), Change("examples", None, "c")
    ]  # fmt: skip
    assert len(differences(before, {"examples": ["b", "a"], "ttl": "1h"})) == 1
    assert differences(before, dict(before)) == []
