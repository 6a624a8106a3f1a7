"""Load bends the policies in force for the upstream that is pressed, and only while it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from proxy.adaptation import Adaptation
from proxy.rules import InForce
from store.policy import LoadRule, Policy, PolicyBook
from tests.encodings import rules_of

HOUR = timedelta(hours=1)
RULE = LoadRule(latency_target_ms=100, threshold_floor=0.8, ttl_ceiling=3 * HOUR)
BENDING = Policy(name="faq", hit_threshold=0.9, ttl=HOUR, load=RULE)
RIGID = Policy(name="default")


@dataclass
class Upstream:
    name: str
    p95: float | None = 0.05
    in_flight: int = 0

    def latency_p95(self, now: float, window: float, fewest: int) -> float | None:
        return self.p95


@pytest.fixture
def in_force() -> InForce:
    return InForce(rules_of(PolicyBook({"default": RIGID, "faq": BENDING})))


def looked(adaptation: Adaptation, begin: float, seconds: int) -> float:
    for second in range(seconds):
        adaptation.look(begin + second)
    return begin + seconds


def test_calm_upstreams_bend_nothing(in_force: InForce) -> None:
    before = in_force.rules
    looked(Adaptation(in_force, [Upstream("a")]), 0.0, 60)
    assert in_force.rules is before


def test_a_pressed_upstream_bends_only_what_has_a_load_section_and_only_for_itself(
    in_force: InForce,
) -> None:
    pressed, calm = Upstream("a", p95=0.5, in_flight=40), Upstream("b")
    adaptation = Adaptation(in_force, [pressed, calm])
    looked(adaptation, 0.0, 60)
    bent = in_force.rules.policy("faq", "a")
    assert 0.8 <= bent.hit_threshold < 0.9
    assert HOUR < bent.ttl <= 3 * HOUR
    assert in_force.rules.policy("faq", "b") is BENDING
    assert in_force.rules.policy("default", "a") is RIGID
    assert adaptation.factor("faq") > 0
    assert adaptation.factor("default") == 0


def test_everything_is_back_at_base_once_the_pressure_is_gone(in_force: InForce) -> None:
    upstream = Upstream("a", p95=0.5, in_flight=40)
    adaptation = Adaptation(in_force, [upstream])
    now = looked(adaptation, 0.0, 60)
    upstream.p95, upstream.in_flight = 0.05, 1
    looked(adaptation, now, 60)
    assert in_force.rules.policy("faq", "a") is BENDING
    assert adaptation.factor("faq") == 0


def test_it_is_back_at_base_when_no_calls_come_any_more(in_force: InForce) -> None:
    upstream = Upstream("a", p95=0.5, in_flight=40)
    adaptation = Adaptation(in_force, [upstream])
    now = looked(adaptation, 0.0, 60)
    upstream.p95, upstream.in_flight = None, 0
    looked(adaptation, now, 60)
    assert not in_force.rules.bent


def test_a_policy_that_lost_its_load_section_is_no_longer_bent(in_force: InForce) -> None:
    adaptation = Adaptation(in_force, [Upstream("a", p95=0.5, in_flight=40)])
    now = looked(adaptation, 0.0, 60)
    in_force.rules = rules_of(PolicyBook({"default": RIGID, "faq": Policy(name="faq")}))
    looked(adaptation, now, 2)
    assert not in_force.rules.bent
    assert adaptation.factor("faq") == 0
