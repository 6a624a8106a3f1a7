from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet import Fleet, UpstreamSpec
from proxy.upstream_errors import ModelUnknown


def spec(name: str, *models: str, max_retries: int = 2) -> UpstreamSpec:
    return UpstreamSpec(name=name, models=models, base_url="http://x/v1", max_retries=max_retries)


def names(fleet: Fleet, model: str | None) -> list[str]:
    return [member.name for member in fleet.route(model).members]


MIXED = Fleet(
    [
        spec("all", "*"),
        spec("gpts", "gpt-*"),
        spec("four", "gpt-4*"),
        spec("dated", "gpt-4o-20??-*"),
        spec("exact", "gpt-4o"),
        spec("local", "[lm]*", "smol*"),
    ]
)


@pytest.mark.parametrize(
    ("model", "upstream"),
    [
        ("gpt-4o", "exact"),
        ("gpt-4o-mini", "four"),
        ("gpt-4o-2024-08-06", "dated"),
        ("gpt-5", "gpts"),
        ("claude-x", "all"),
        ("", "all"),
        ("GPT-4o", "all"),
        ("smollm2", "local"),
        ("llama", "local"),  # no literal prefix on either side: more literal characters decide
        ("a\nb", "all"),
    ],
)
def test_the_most_specific_pattern_wins(model: str, upstream: str) -> None:
    assert names(MIXED, model) == [upstream]


def test_entries_with_the_same_models_are_replicas() -> None:
    fleet = Fleet([spec("a", "x", "y-*"), spec("b", "y-*", "x"), spec("c", "x")])
    assert names(fleet, "y-1") == ["a", "b"]
    assert names(fleet, "x") == ["a", "b"]  # the first that names it
    assert len(fleet.groups) == 2


def test_a_group_tries_as_often_as_its_most_patient_replica() -> None:
    fleet = Fleet([spec("a", "*", max_retries=0), spec("b", "*", max_retries=4)])
    assert fleet.route("x").max_retries == 4


@pytest.mark.parametrize(
    ("fleet", "default"),
    [
        pytest.param([spec("a", "x"), spec("b", "*")], "b", id="the one for everything"),
        pytest.param([spec("a", "x"), spec("b", "y")], "a", id="else the first"),
        pytest.param([spec("a", "a*"), spec("b", "y", "*")], "b", id="everything among others"),
    ],
)
def test_a_call_without_a_model_goes_to_the_default(
    fleet: list[UpstreamSpec], default: str
) -> None:
    assert names(Fleet(fleet), None) == [default]


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelUnknown, match="no upstream serves the model 'gpt-9'") as unknown:
        Fleet([spec("a", "x"), spec("b", "claude-*")]).route("gpt-9")
    assert unknown.value.param == "model"


def test_a_very_long_unknown_model_is_cut_short() -> None:
    with pytest.raises(ModelUnknown) as unknown:
        Fleet([spec("a", "x")]).route("m" * 100_000)
    assert len(str(unknown.value)) < 200


@given(st.text(max_size=30))
def test_a_star_serves_whatever_is_asked(model: str) -> None:
    assert names(Fleet([spec("a", "*")]), model) == ["a"]


@given(st.text(min_size=1, max_size=10), st.text(max_size=10))
def test_a_longer_prefix_always_beats_a_shorter(prefix: str, rest: str) -> None:
    clean = "".join(c for c in prefix if c not in "*?[") or "m"
    fleet = Fleet([spec("short", clean[:-1] + "*"), spec("long", clean + "*")])
    assert names(fleet, clean + rest) == ["long"]


def test_the_api_key_is_not_shown() -> None:
    assert "secret" not in repr(UpstreamSpec(name="a", models=("*",), api_key="secret"))


def test_the_p95_is_of_recent_calls_only() -> None:
    group = Fleet([spec("a", "*")]).route("x")
    assert group.first_byte_p95() is None
    group.first_bytes.extend([9.0] * 1000)
    assert group.first_byte_p95() == 9.0
    group.first_bytes.extend(n / 100 for n in range(256))
    assert group.first_byte_p95() == pytest.approx(2.42)
    assert len(group.first_bytes) == 256
