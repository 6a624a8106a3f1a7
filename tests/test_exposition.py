"""The lint of what Prometheus scrapes fails on every kind of fault that it looks for."""

from __future__ import annotations

import pytest

from proxy.host_metrics import labelled
from proxy.metrics import Metrics
from tests.exposition import MOST_SERIES, faults

GOOD = """\
# HELP nearhit_asked_total Requests
# TYPE nearhit_asked_total counter
nearhit_asked_total{category="a"} 3.0
nearhit_asked_total{category="b"} 1.0
# HELP nearhit_held Entries
# TYPE nearhit_held gauge
nearhit_held -1.0
# HELP nearhit_took_seconds Time
# TYPE nearhit_took_seconds histogram
nearhit_took_seconds_bucket{le="0.1"} 1.0
nearhit_took_seconds_bucket{le="1.0"} 2.0
nearhit_took_seconds_bucket{le="+Inf"} 3.0
nearhit_took_seconds_count 3.0
nearhit_took_seconds_sum 2.5
"""


def test_what_is_right_has_no_fault() -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("nearhit_held", "held", "does not begin with nearhit_"),
        ("nearhit_held", "nearhit_heldEntries", "not snake_case"),
        ("nearhit_held", "nearhit__held", "not snake_case"),
        ("nearhit_asked_total", "nearhit_asked", "a counter's name ends in _total"),
        ("nearhit_held", "nearhit_held_total", "a gauge's name does not end in _total"),
        ("took_seconds", "took_ms", "not in a base unit"),
        ("took_seconds", "took_minutes", "not in a base unit"),
        ("nearhit_held", "nearhit_held_kib", "not in a base unit"),
        ("nearhit_held", "nearhit_held_percent", "not in a base unit"),
        ("nearhit_held", "nearhit_held_count", "the ending of a histogram's series"),
        ("nearhit_held", "nearhit_held_gauge", "its type in its name"),
        ("# HELP nearhit_held Entries\n", "", "no HELP"),
        ("# HELP nearhit_held Entries", "# HELP nearhit_held  ", "no HELP"),
        ("# TYPE nearhit_held gauge\n", "", "no TYPE"),
        ("nearhit_held gauge", "nearhit_held untyped", "untyped"),
        ('le="+Inf"', 'le="9.0"', "the last bucket is not +Inf"),
        ('le="+Inf"} 3.0', 'le="+Inf"} 4.0', "+Inf has 4 and the count is 3"),
        ('le="1.0"} 2.0', 'le="1.0"} 0.0', "not cumulative"),
        ('le="0.1"', 'le="5.0"', "not in order"),
        ("nearhit_took_seconds_count 3.0\n", "", "one sum and one count"),
        ("nearhit_took_seconds_sum 2.5\n", "", "one sum and one count"),
        ("sum 2.5", "sum -2.5", "the sum is -2.5"),
        ("} 3.0\nnearhit_asked", "} -3.0\nnearhit_asked", "a counter is -3"),
        ('category="b"', 'category="a"', "is there twice"),
        ('category="b"', 'tenant="b"', "the label tenant is not one of ours"),
        ('category="b"', 'request_id="b"', "the label request_id is not one of ours"),
        ('category="b"', 'category="http://a.example/v1?x=1"', "looks unbounded"),
        ('category="b"', 'category="Why is the sky blue?"', "looks unbounded"),
        ('category="b"', f'category="{"b" * 65}"', "looks unbounded"),
        ('category="b"} 1.0', 'category="b} 1.0', "cannot be read"),
        ("nearhit_held -1.0", "nearhit_held many", "cannot be read"),
    ],
)
def test_each_kind_of_fault_is_seen(old: str, new: str, told: str) -> None:
    assert old in GOOD
    assert any(told in fault for fault in faults(GOOD.replace(old, new))), faults(
        GOOD.replace(old, new)
    )


def test_a_metric_that_is_told_twice_is_seen() -> None:
    assert any("told twice" in fault for fault in faults(GOOD + GOOD.replace("3.0", "4.0")))


def test_too_many_series_are_seen() -> None:
    series = "".join(f'nearhit_asked_total{{category="c{n}"}} 1.0\n' for n in range(MOST_SERIES))
    told = faults(GOOD.replace("# HELP nearhit_held", f"{series}# HELP nearhit_held"))
    assert told == [f"nearhit_asked: has {MOST_SERIES + 2} series"]


def test_what_a_process_and_what_a_host_say_at_their_start_has_no_fault() -> None:
    alone = Metrics(["default", "faq"], ["gpt-4o-mini"]).render()
    assert faults(alone.decode()) == []
    assert faults(labelled({"0": alone, "1": alone}).decode()) == []
