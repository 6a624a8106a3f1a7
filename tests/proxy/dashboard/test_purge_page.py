"""What a form of the purge page names, and what is said of it."""

from __future__ import annotations

import pytest

from proxy.admin.purge import Purge
from proxy.dashboard.purge_page import SELECTORS, ordered, said, told


@pytest.mark.parametrize("selector", [name for name in SELECTORS if name != "all"])
def test_one_selector_and_its_value_are_a_purge(selector: str) -> None:
    order = ordered({"selector": selector, "value": " a b "})
    assert order.purge == Purge.model_validate({selector: " a b "})  # a beginning is to the letter
    assert "“ a b ”" in said(order.typed)


def test_all_takes_no_value_and_a_meaning_a_cosine() -> None:
    assert ordered({"selector": "all", "value": ""}).purge == Purge(all=True)
    order = ordered({"selector": "similar_to", "value": "a boat", "threshold": " 0.8 "})
    assert order.purge == Purge(similar_to="a boat", threshold=0.8)
    assert said(order.typed).endswith("cosine 0.8 or more")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"selector": "all", "value": "faq"}, "value"),
        ({"selector": "category", "value": " "}, "value"),
        ({"selector": "category"}, "value"),
        ({"selector": "id", "value": "x"}, "selector"),
        ({"selector": "similar_to", "value": "x", "threshold": "high"}, "threshold"),
        ({"selector": "similar_to", "value": "x", "threshold": "1.1"}, "threshold"),
        ({"selector": "similar_to", "value": "x" * 10_001}, "value"),
        ({"selector": "model", "value": "x", "threshold": "0.9"}, "threshold"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_stays_typed(
    form: dict[str, str], field: str
) -> None:
    order = ordered(form)
    assert order.purge is None and list(order.faults) == [field]
    assert order.typed["value"] == form.get("value", "")


def test_what_was_done_says_if_the_count_was_another() -> None:
    done = {"matched": 1, "purged": 1}
    assert told(done, "1") == "Purged 1 entry."
    assert "There were 3 entries when you counted" in told(done, "3")
    assert told(done, "") == told(done, "many") == "Purged 1 entry."
    more = told({**done, "pairs": 2, "quarantined": 1}, "1")
    assert "2 labelled pairs" in more and "1 quarantine of this tenant" in more
