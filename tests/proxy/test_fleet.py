from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet import Fleet, Group, Try, UpstreamSpec, fallback_faults
from proxy.upstream_errors import ModelUnknown


def spec(
    name: str, *models: str, max_retries: int = 2, fallback: tuple[str, ...] = ()
) -> UpstreamSpec:
    return UpstreamSpec(
        name=name,
        models=models,
        fallback=fallback,
        base_url="http://x/v1",
        max_retries=max_retries,
    )


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


# -- fallbacks


def chained(**fallbacks: str) -> list[UpstreamSpec]:
    """Upstreams that serve the model of their own name; a fallback list is words in a text."""
    return [spec(name, name, fallback=tuple(text.split())) for name, text in fallbacks.items()]


def order(specs: list[UpstreamSpec], model: str) -> list[str]:
    return [group.name for group in Fleet(specs).route(model).fallbacks]


def test_fallbacks_keep_their_order() -> None:
    assert order(chained(a="c b", b="", c=""), "a") == ["c", "b"]
    assert order(chained(a="c b", b="", c=""), "b") == []


def test_a_groups_own_list_comes_before_those_of_its_fallbacks() -> None:
    specs = chained(a="b c", b="d", c="e", d="e", e="")
    assert order(specs, "a") == ["b", "c", "d", "e"]


def test_replicas_share_the_union_of_their_lists_in_order() -> None:
    replicas = [spec("a", "m", fallback=("c",)), spec("b", "m", fallback=("d", "c"))]
    assert order([*replicas, spec("c", "c"), spec("d", "d")], "m") == ["c", "d"]


def test_to_name_one_replica_is_to_name_its_group() -> None:
    specs = [spec("a", "m", fallback=("c", "b")), spec("b", "n"), spec("c", "n")]
    assert order(specs, "m") == ["b+c"]


@pytest.mark.parametrize(
    ("specs", "faults"),
    [
        pytest.param(chained(a="b c", b="c", c=""), [], id="none"),
        pytest.param(
            chained(a="b x", b=""),
            ["upstreams.0.fallback: 'x' is not allowed; allowed: b"],
            id="unknown",
        ),
        pytest.param(
            chained(a="", b="a x y"),
            [
                "upstreams.1.fallback: 'x' is not allowed; allowed: a",
                "upstreams.1.fallback: 'y' is not allowed; allowed: a",
            ],
            id="two unknown ones, a line each",
        ),
        pytest.param(
            chained(a="a"),
            ["upstreams.0.fallback: 'a' is not allowed, it leads back here; allowed: none"],
            id="itself",
        ),
        pytest.param(
            [spec("a", "m", fallback=("b",)), spec("b", "m"), spec("c", "c")],
            ["upstreams.0.fallback: 'b' is not allowed, it leads back here; allowed: c"],
            id="its own replica",
        ),
        pytest.param(
            chained(a="b", b="c", c="d a", d=""),
            ["upstreams.2.fallback: 'a' is not allowed, it leads back here; allowed: d"],
            id="a cycle",
        ),
        pytest.param(
            [spec("a", "m", fallback=("c",)), spec("b", "m"), spec("c", "c", fallback=("b",))],
            ["upstreams.2.fallback: 'b' is not allowed, it leads back here; allowed: none"],
            id="a cycle by way of a replica",
        ),
    ],
)
def test_an_unknown_fallback_and_one_that_leads_back_are_faults(
    specs: list[UpstreamSpec], faults: list[str]
) -> None:
    assert list(fallback_faults(specs)) == faults


fallback_lists = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from("abcdef"), max_size=4) for name in "abcdef"}
)


@given(fallback_lists)
def test_lists_are_refused_exactly_if_they_go_round_in_a_circle(
    lists: dict[str, list[str]],
) -> None:
    specs = chained(**{name: " ".join(names) for name, names in lists.items()})
    try:
        TopologicalSorter(lists).prepare()
    except CycleError:
        assert list(fallback_faults(specs))
    else:
        assert not list(fallback_faults(specs))


@given(fallback_lists)
def test_a_group_asks_its_own_list_first_and_nobody_twice(lists: dict[str, list[str]]) -> None:
    specs = chained(**{name: " ".join(names) for name, names in lists.items()})
    for name, names in lists.items():
        asked = order(specs, name)
        own = [each for each in dict.fromkeys(names) if each != name]
        assert asked[: len(own)] == own
        assert len({name, *asked}) == 1 + len(asked)


def test_a_very_long_chain_of_diamonds_is_checked_at_once() -> None:
    links = {f"{side}{n}": f"l{n + 1} r{n + 1}" for n in range(60) for side in "lr"}
    assert not list(fallback_faults(chained(**links, l60="", r60="")))


# -- load


def test_calls_in_flight_are_counted_over_all_members() -> None:
    group = Fleet([spec("a", "*"), spec("b", "*")]).route("x")
    assert (group.name, group.in_flight) == ("a+b", 0)
    for member in (group.members[0], *group.members):
        member.start(0.0)
    assert group.in_flight == 3


def tried(*tries: tuple[float, float] | tuple[float, float, str]) -> Group:
    """A group with tries: when, how many seconds, and a word if it failed."""
    group = Fleet([spec("a", "*")]).route("x")
    group.tries.extend(Try(each[0], each[1], len(each) == 3) for each in tries)
    return group


@pytest.mark.parametrize(
    ("group", "p95"),
    [
        pytest.param(tried(), None, id="no calls"),
        pytest.param(tried((99, 2.0)), 2.0, id="one"),
        pytest.param(tried((70, 2.0)), 2.0, id="at the edge of the window"),
        pytest.param(tried((69.9, 2.0)), None, id="all too old"),
        pytest.param(tried((10, 9.0), (99, 2.0)), 2.0, id="the overload is over"),
        pytest.param(tried((98, 9.0), (99, 2.0)), 9.0, id="of two the slower"),
        pytest.param(tried(*[(99, n / 100) for n in range(1, 101)]), 0.95, id="of a hundred"),
        pytest.param(tried(*[(99, 1.0)] * 19, (99, 9.0)), 1.0, id="one slow of twenty"),
        pytest.param(tried(*[(99, 1.0)] * 18, *[(99, 9.0)] * 2), 9.0, id="two slow of twenty"),
        pytest.param(tried((99, 0.01, "failed")), 0.01, id="only failures: as long as they took"),
        pytest.param(
            tried((98, 3.0), *[(99, 0.01, "failed")] * 30), 3.0, id="turned away: as the slowest"
        ),
        pytest.param(tried((98, 3.0), (99, 60.0, "failed")), 60.0, id="timed out: as waited for"),
    ],
)
def test_the_latency_is_of_the_last_seconds(group: Group, p95: float | None) -> None:
    assert group.latency_p95(100.0) == p95


seconds = st.floats(0.001, 100)


@given(st.lists(st.tuples(st.floats(70, 100), seconds, st.booleans()), max_size=60), seconds)
def test_being_turned_away_never_makes_a_group_look_faster_than_its_good_answers(
    tries: list[tuple[float, float, bool]], took: float
) -> None:
    group = Fleet([spec("a", "*")]).route("x")
    group.tries.extend(Try(*each) for each in sorted(tries))
    before = group.latency_p95(100.0) or 0.0
    slowest = max((took for _, took, failed in tries if not failed), default=0.0)
    group.tries.append(Try(100.0, took, failed=True))
    assert (group.latency_p95(100.0) or 0.0) >= min(before, slowest)


@given(st.lists(st.tuples(st.floats(0, 100), seconds, st.booleans())), st.floats(0.1, 100))
def test_the_latency_is_one_of_the_windows_and_none_without_any(
    tries: list[tuple[float, float, bool]], window: float
) -> None:
    group = Fleet([spec("a", "*")]).route("x")
    group.tries.extend(Try(*each) for each in sorted(tries))
    within = [took for at, took, _ in tries if at >= 100.0 - window]
    p95 = group.latency_p95(100.0, window)
    assert (p95 in within) if within else p95 is None


@given(st.lists(seconds, min_size=1, max_size=50), seconds)
def test_a_client_that_left_can_only_make_it_look_slower(took: list[float], left: float) -> None:
    group = tried(*[(50, each) for each in took])
    before = group.latency_p95(60.0) or 0.0
    group.gave_up(60.0, left)
    assert (group.latency_p95(60.0) or 0.0) >= before
    assert len(group.tries) == len(took) + (left >= before)


def test_the_tries_that_are_kept_are_bounded() -> None:
    group = tried(*[(99, 9.0)] * 10_000, *[(99, 1.0)] * 512)
    assert group.latency_p95(100.0) == 1.0
    assert len(group.tries) == 512
