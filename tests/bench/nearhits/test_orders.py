"""The orders in which the same examples are shown, and what is told of them."""

from __future__ import annotations

from bench.nearhits.models import SMALL_MODELS, Reply
from bench.nearhits.neighbours import SHARED_BY
from bench.nearhits.orders import LAST, ORDERS, arranged, facts, table
from bench.nearhits.tasks import Item

NEAR = [[Item("t", f"{name}{at}", name) for name in "cab"] for at in range(SHARED_BY + 2)]


def said(order: str) -> list[str]:
    return ["".join(item.answer for item in shown) for shown in arranged(order, NEAR)]


def test_an_order_changes_nothing_but_the_order() -> None:
    for order in ORDERS[:3]:
        for shown, near in zip(arranged(order, NEAR), NEAR, strict=True):
            assert sorted(shown, key=str) == sorted(near, key=str)
    assert said(LAST)[0] == "cab"
    assert said("most similar first")[0] == "bac"
    assert said("always the same")[0] == "abc"


def test_shared_examples_are_the_first_ones_of_ten() -> None:
    shown = arranged("shared", NEAR)
    assert all(each == NEAR[0] for each in shown[:SHARED_BY])
    assert shown[SHARED_BY] == shown[SHARED_BY + 1] == NEAR[SHARED_BY]


def test_the_table_tells_what_was_read_and_how_much_was_right() -> None:
    items = [Item("t", "q", "yes"), Item("t", "r", "no")]
    replies = [
        Reply("yes", "", "m", 0.2, 100, tokens_read=40),
        Reply("yes", "", "m", 0.4, 100, tokens_read=20),
    ]
    rows = {"answers": facts(items, replies)}
    told = table({f"{small}/{order}": rows for small in SMALL_MODELS for order in ORDERS}, seed=1)
    assert f"| {SMALL_MODELS[0]} | {LAST} | 50 [0, 100] |  | 100 | 30 | 300 |" in told
    assert told.count("0 [0, 0]") == 2 * (len(ORDERS) - 1)
