"""The hour's account: what a model costs, and when nothing more may be spent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.answer_text import Tokens
from proxy.spending import Price, Spending

PRICES = (Price("small-*", 1.0, 2.0), Price("small-x", 9.0, 9.0), Price("large", 10.0, 30.0))
OTHER = Price("*", 5.0, 15.0)


def account(most: float = 1.0) -> Spending:
    return Spending(PRICES, OTHER, most)


@pytest.mark.parametrize(
    ("model", "cost"),
    [("small-x", 3.0), ("large", 40.0), ("Large", 20.0), ("unheard-of", 20.0)],
)
def test_the_first_price_that_matches_counts_else_the_default(model: str, cost: float) -> None:
    assert account().cost(model, Tokens(1_000_000, 1_000_000)) == cost


def test_what_was_spent_frees_up_an_hour_later() -> None:
    spending = account(most=1.0)
    spending.spend(0.6, 0.0)
    assert not spending.exhausted(10.0)
    spending.spend(0.4, 1200.0)
    assert spending.exhausted(1200.0)
    assert spending.exhausted(3540.0)
    assert not spending.exhausted(3600.0)
    assert spending.last_hour(4000.0) == 0.4
    assert spending.last_hour(4800.0) == 0.0


def test_without_a_budget_nothing_may_be_spent() -> None:
    assert account(most=0.0).exhausted(0.0)


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 1)), max_size=300))
def test_no_hour_is_counted_short_and_the_account_stays_small(
    steps: list[tuple[float, float]],
) -> None:
    spending, now = account(), 0.0
    spent: list[tuple[float, float]] = []
    for pause, cost in steps:
        now += pause
        spending.spend(cost, now)
        spent.append((now, cost))
        hour = sum(cost for at, cost in spent if now - at < 3540.0)
        assert spending.last_hour(now) >= hour - 1e-9
        assert len(spending._minutes) <= 61
