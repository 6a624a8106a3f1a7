from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.usage import COLUMNS, as_csv, lines_of
from proxy.outcome import Served
from proxy.usage.numbers import GROUPS, course, summary
from store.documents.usage import Span, UsageKey, UsageRow, start_of
from tests.entries import NOON

MINUTE = start_of(Span.MINUTE, NOON)


def row(
    served: Served, requests: int, amounts: Mapping[str, float] | None = None, *, ago: int = 0
) -> UsageRow:
    key = UsageKey(Span.MINUTE, MINUTE - timedelta(minutes=ago), "", "c", "", served.value)
    return UsageRow(key, {"requests": requests, **(amounts or {})})


def test_nothing_at_all_has_no_rates() -> None:
    told = summary([])
    assert told.requests == 0 and told.hit_rate is None and told.hit_p50 is None
    assert set(told.by_outcome) == set(Served)


def test_rates_are_of_all_requests_and_times_of_hits_and_misses_apart() -> None:
    told = summary(
        [
            row(Served.EXACT, 6, {"ms_le_0.1": 6, "saved": 0.5}),
            row(Served.SEMANTIC, 2, {"ms_le_12.8": 2}),
            row(Served.MISS, 1, {"ms_le_1638.4": 1, "spent": 0.25}),
            row(Served.FAILED, 1, {"ms_le_inf": 1}),
        ]
    )
    assert (told.requests, told.hit_rate) == (10, 0.8)
    assert told.shares == {"exact": 0.6, "semantic": 0.2, "near-hit": 0.0}
    assert told.hit_p50 is not None and 0.00005 < told.hit_p50 <= 0.0001
    assert told.miss_p95 is not None and 0.8 < told.miss_p95 <= 1.6384
    assert (told.saved, told.spent) == (0.5, 0.25)


def test_every_outcome_is_in_one_group_of_the_chart() -> None:
    grouped = [each for group in GROUPS.values() for each in group]
    assert sorted(grouped) == sorted(Served)


@given(st.lists(st.tuples(st.sampled_from(Served), st.integers(0, 70), st.integers(1, 9))))
def test_a_course_has_every_moment_and_loses_nothing_of_the_time_shown(
    counted: list[tuple[Served, int, int]],
) -> None:
    rows = [row(served, requests, ago=minutes) for served, minutes, requests in counted]
    went = course(rows, Span.MINUTE, NOON, timedelta(hours=1))
    assert len(went.times) == 60 and went.times[-1] == MINUTE
    shown = sum(requests for _, minutes, requests in counted if minutes < 60)
    assert sum(v or 0 for values in went.groups.values() for v in values) == shown
    for moment, rate in enumerate(went.hit_rate):
        asked = sum(values[moment] or 0 for values in went.groups.values())
        assert (rate is None) == (asked == 0)


def line_of(tenant: str) -> UsageRow:
    key = UsageKey(Span.DAY, start_of(Span.DAY, NOON), tenant, "c", "m", "miss")
    return UsageRow(key, {"requests": 2, "spent": 0.1})


def test_a_cell_is_never_a_formula() -> None:
    text = as_csv(lines_of([line_of("-2+3"), line_of('=cmd|" /C calc"!A0')], "USD"))
    assert "'-2+3" in text and "\"'=cmd|" in text
    assert text.splitlines()[0] == ",".join(f'"{name}"' for name in COLUMNS)


def test_outcomes_of_one_model_are_one_line() -> None:
    miss = line_of("acme")
    exact = miss._replace(key=miss.key._replace(outcome="exact"))
    (line,) = lines_of([miss, exact], "EUR")
    assert (line["requests"], line["miss"], line["exact"], line["spent"]) == (4, 2, 2, 0.2)
    assert tuple(line) == COLUMNS and line["currency"] == "EUR"
