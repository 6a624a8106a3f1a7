"""A policies file is read whole or refused whole; what is written reads back the same."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from store import policy_file
from store.errors import PolicyInvalid
from store.eviction import Quota, Share
from store.match import MatchRule
from store.policy import LoadRule, Mode, Offload, Policy, Scope
from store.policy_file import (
    MAX_CATEGORIES,
    book_as_data,
    load_policies,
    parse_policies,
    policy_as_data,
)

HOUR = timedelta(hours=1)


def test_a_file_is_read_with_defaults_for_what_it_leaves_out() -> None:
    book = parse_policies(
        {"categories": [{"name": "faq", "hit_threshold": 0.8, "ttl": "1h", "mode": False}]}, "f"
    )
    assert book["faq"] == Policy(name="faq", hit_threshold=0.8, ttl=HOUR, mode=Mode.OFF)
    assert book.names == ["faq", "default"]


def test_a_category_has_a_share_of_its_quota_and_priority() -> None:
    quota = {"entries": 5, "bytes": 10}
    book = parse_policies(
        {"categories": [{"name": "a", "quota": quota}, {"name": "default", "quota": quota}]}, "f"
    )
    assert book.shares == {name: Share(Quota(5, 10), 1.0) for name in ("a", "default")}


LOAD = {"latency_target_ms": 500, "threshold_floor": 0.88, "ttl_ceiling": "2d"}


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
        ({"name": "a", "quota": {"bytes": 10**400}}, "a size of 0 or more and below 2^63 bytes"),
        ({"name": "a", "quota": {"bytes": "9" * 400 + "GiB"}}, "a size of 0 or more"),
        ({"name": "a", "hit_threshold": 10**400}, "allowed: a number from -1 to 1"),
        ({"name": "a", "max_turns": 10**400}, "allowed: a whole number, 0 or more"),
        ({"name": "a", "load": LOAD | {"latency_target_ms": 10**400}}, "latency_target_ms above"),
        ({"name": "a", "quota": {"rows": 1}}, "allowed: {entries: N, bytes: SIZE}"),
        ({"name": "a", "mode": "fuzzy"}, "allowed: semantic | exact | off"),
        ({"name": "A b"}, "categories[0].name: 'A b' is not allowed"),
        ({"ttl": "1h"}, "categories[0].name: None is not allowed"),
        ("faq", "categories[0]: 'faq' is not allowed; allowed: a mapping"),
        ({"name": "a", "near_threshold": 0.95, "hit_threshold": 0.9}, "at most hit_threshold"),
        ({"name": "a", "match": [{"colour": "x"}]}, "allowed: a list of rules with any of model"),
        ({"name": "a", "match": [{"regex": "(a"}]}, "an RE2 expression (missing )"),
        ({"name": "a", "match": {"model": "x"}}, "a list of at most 50 rules"),
        ({"name": "a", "match": [{"header": {"x-team": 5}}]}, "a glob"),
        ({"name": "a", "match": [{}]}, "allowed: a list of rules with any of model"),
        ({"name": "a", "match": [{"header": {}}]}, "a mapping of header names, each once, to gl"),
        ({"name": "a", "match": [{"model": "m", "header": {}}]}, "one at least"),
        ({"name": "a", "match": [{"header": {"X-A": "a", "x-a": "b"}}]}, "header names, each once"),
        ({"name": "a", "scope": "everybody"}, "allowed: tenant | user | shared"),
        ({"name": "a", "example_scope": "shared"}, "allowed: user | tenant"),
        ({"name": "a", "examples": ["a", " "]}, "a list of at most 200 texts"),
        ({"name": "a", "examples": "a"}, "a list of at most 200 texts"),
        ({"name": "a", "priority": 0}, "a number above 0 to 1000"),
        ({"name": "a", "error_budget": 0}, "a number above 0 to 0.5"),
        ({"name": "a", "stale_if_error": "later"}, "a duration such as"),
        ({"name": "a", "load": {"latency_target_ms": 100}}, "null, or all of"),
        ({"name": "a", "load": LOAD | {"threshold_floor": 0.99}}, "at most hit_threshold (0.92)"),
        ({"name": "a", "load": LOAD | {"ttl_ceiling": "1m"}}, "at least ttl (1d)"),
        ({"name": "a", "load": LOAD | {"latency_target_ms": "fast"}}, "latency_target_ms above 0"),
        ({"name": "a", "description": "\ud83d"}, "description: '\\ud83d' is not allowed"),
        ({"name": "a", "examples": ["\ude00"]}, "without half a surrogate pair"),
        ({"name": "a", "match": [{"model": "\ud83d*"}]}, "without half a surrogate pair"),
        ({"name": "a", "match": [{"regex": "\ud83d"}]}, "without half a surrogate pair"),
        ({"name": "a", "match": [{"header": {"x\ud83d": "a"}}]}, "without half a surrogate pair"),
        ({"name": "a", "match": [{"header": {"x": "\ude00"}}]}, "without half a surrogate pair"),
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


@pytest.mark.parametrize("name", ["policies.yaml", "policies.json"])
def test_a_character_that_json_escapes_as_two_is_read_as_one(tmp_path: Path, name: str) -> None:
    smile = json.dumps("\N{GRINNING FACE}")
    rule = f'{{"model": {smile}, "regex": {smile}, "header": {{"x-{smile[1:]}: {smile}}}}}'
    (tmp_path / name).write_text(
        f'{{"categories": [{{"name": "a", "description": {smile}, "examples": [{smile}],'
        f' "match": [{rule}]}}]}}'
    )
    policy = load_policies(tmp_path / name)["a"]
    assert (policy.description, policy.examples) == ("\N{GRINNING FACE}", ("\N{GRINNING FACE}",))
    assert policy.match == (
        MatchRule(
            model="\N{GRINNING FACE}",
            regex="\N{GRINNING FACE}",
            header=(("x-\N{GRINNING FACE}", "\N{GRINNING FACE}"),),
        ),
    )


def test_too_many_categories_are_refused() -> None:
    raw = {"categories": [{"name": f"c{n}"} for n in range(MAX_CATEGORIES + 1)]}
    with pytest.raises(PolicyInvalid, match="allowed: 200"):
        parse_policies(raw, "f")


def test_an_unset_near_threshold_follows_a_low_hit_threshold() -> None:
    book = parse_policies({"categories": [{"name": "chat", "hit_threshold": 0.7}]}, "f")
    assert book["chat"].near_threshold == 0.7


def test_what_the_admin_api_adds_to_a_policy_is_read_over() -> None:
    raw = {"name": "faq", "effective": {"hit_threshold": 0.5}}
    assert parse_policies({"categories": [raw]}, "f")["faq"] == Policy(name="faq")


@pytest.mark.parametrize("value", ["off", False, "on", True, "unjudged"])
def test_on_and_off_are_read_bare_and_quoted(value: object) -> None:
    book = parse_policies({"categories": [{"name": "a", "offload": value}]}, "f")
    named = {False: "off", True: "on"}.get(value, value) if isinstance(value, bool) else value
    assert book["a"].offload == named


def test_without_a_file_the_starter_file_rules() -> None:
    assert "default" in load_policies(None)


globs = st.text("abc*?-", min_size=1, max_size=8)
rules = st.builds(
    MatchRule,
    model=st.none() | globs,
    tenant=st.none() | globs,
    path=st.just("/v1/*"),
    header=st.lists(st.tuples(st.sampled_from(["x-team", "x-app"]), globs), max_size=2).map(
        lambda pairs: tuple(sorted(dict(pairs).items()))
    ),
    regex=st.none() | st.sampled_from(["(?i)price of", r"\\d{3}"]),
)
hits = st.integers(500, 1000).map(lambda n: n / 1000)
policies = st.builds(
    Policy,
    name=st.just("a"),
    description=st.text(max_size=20),
    examples=st.lists(st.text("xyz", min_size=1), unique=True, max_size=3).map(tuple),
    match=st.lists(rules, max_size=2).map(tuple),
    locked=st.booleans(),
    mode=st.sampled_from(Mode),
    hit_threshold=hits,
    near_threshold=st.integers(0, 500).map(lambda n: n / 1000),
    context_threshold=hits,
    ttl=st.integers(0, 10**6).map(lambda s: timedelta(seconds=s)),
    stale_if_error=st.integers(0, 10**6).map(lambda s: timedelta(seconds=s)),
    quota=st.builds(Quota, st.integers(0, 10**6), st.integers(0, 10**9)),
    priority=st.integers(1, 100).map(lambda n: n / 10),
    max_temperature=st.floats(0, 2).map(lambda x: round(x, 2)),
    max_turns=st.integers(0, 100),
    scope=st.sampled_from(Scope),
    store_tool_calls=st.booleans(),
    error_budget=st.none() | st.just(0.01),
    audit=st.booleans(),
    offload=st.sampled_from(Offload),
    example_scope=st.sampled_from([Scope.USER, Scope.TENANT]),
    load=st.none()
    | st.builds(
        LoadRule,
        latency_target_ms=st.integers(1, 5000).map(float),
        threshold_floor=st.just(0.4),
        ttl_ceiling=st.just(timedelta(days=100)),
    ),
)


@given(policies)
def test_what_is_exported_reads_back_the_same(policy: Policy) -> None:
    assert parse_policies({"categories": [policy_as_data(policy)]}, "f")["a"] == policy


@given(policies)
def test_what_is_exported_survives_yaml(policy: Policy) -> None:
    book = parse_policies({"categories": [policy_as_data(policy)]}, "f")
    assert parse_policies(yaml.safe_load(yaml.safe_dump(book_as_data(book))), "f") == book


globs_as_written = st.text(max_size=3) | st.integers(0, 3) | st.none()
durations = (
    st.integers(0, 10**10)
    | st.floats(0, 1e9)
    | st.floats(0, 0.01)
    | st.builds("{:f}{}".format, st.floats(0, 1e5), st.sampled_from(["ms", "s", "m", "d"]))
)
rules_as_written = st.fixed_dictionaries(
    {},
    optional={
        "model": globs_as_written,
        "header": st.dictionaries(st.sampled_from(["X-A", "x-a", "É", "x-b"]), globs_as_written),
        "regex": st.sampled_from(["", "a", "(?i)é"]),
    },
)


@given(
    st.fixed_dictionaries(
        {"name": st.just("a")},
        optional={
            "description": st.text(max_size=5),
            "match": st.lists(rules_as_written, max_size=2),
            "mode": st.sampled_from([True, False, "on", "off", "exact"]),
            "hit_threshold": st.floats(-1, 1) | st.integers(-1, 1),
            "ttl": durations,
            "stale_if_error": durations,
            "quota": st.fixed_dictionaries(
                {}, optional={"bytes": st.integers() | st.sampled_from(["1.1KiB", "0.1B", "9GB"])}
            ),
            "priority": st.floats(0, 1000),
            "error_budget": st.none() | st.floats(0, 0.5),
            "load": st.fixed_dictionaries(
                {"latency_target_ms": st.floats(0, 1e9), "threshold_floor": st.just(-1)}
                | {"ttl_ceiling": durations}
            ),
        },
    )
)
def test_what_is_accepted_reads_back_the_same_from_where_it_is_stored(raw: object) -> None:
    try:
        book = parse_policies({"categories": [raw]}, "f")
    except PolicyInvalid as refused:
        assert "reads back the same" not in str(refused)
    else:
        assert parse_policies(json.loads(json.dumps(book_as_data(book))), "f") == book


def test_what_would_not_read_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_file, "duration_text", lambda duration: "5e-05s")
    with pytest.raises(PolicyInvalid, match=r"f: categories\[0\]: cannot be written so that it"):
        parse_policies({"categories": [{"name": "a"}]}, "f")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_document_is_read_or_refused_but_never_crashes(raw: object) -> None:
    try:
        parse_policies({"categories": raw}, "f")
    except PolicyInvalid as error:
        assert error.faults


@given(
    st.dictionaries(
        st.sampled_from(["match", "load", "quota", "examples", "ttl", "mode", "scope", "priority"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["regex", "header", "entries", "bytes", "model"]),
                    inner,
                    max_size=2,
                )
            ),
            max_leaves=4,
        ),
    )
)
def test_any_category_is_read_or_refused_but_never_crashes(fields: dict[str, object]) -> None:
    try:
        parse_policies({"categories": [{"name": "a", **fields}]}, "f")
    except PolicyInvalid as error:
        assert error.faults
