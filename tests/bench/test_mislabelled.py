"""The list of pairs read by hand: what it names is found by its texts, and nothing else is."""

from __future__ import annotations

import re

import pytest

from bench import mislabelled
from bench.mislabelled import READ, Read, corrected, digest, same_meaning, unlabelled

ROWS = [
    {"q1": "Where is the harbour?", "q2": "Where's the harbour?", "label": 0},
    {"q1": "Where is the harbour?", "q2": "Where is the bakery?", "label": 0},
    {"q1": "Where do they sell bread?", "q2": "Where is the port?", "label": 1},
]


@pytest.fixture
def two_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = digest("Where is the harbour?", "Where's the harbour?")
    nowhere = digest("Where do they sell bread?", "Where is the bakery?")
    read = (Read("town", labelled, True, "short form"), Read("town", nowhere, False, "same shop"))
    monkeypatch.setattr(mislabelled, "READ", read)


def test_every_entry_has_a_digest_of_its_own_and_a_reason() -> None:
    assert len({each.digest for each in READ}) == len(READ)
    assert all(re.fullmatch("[0-9a-f]{16}", each.digest) and each.reason for each in READ)


def test_the_order_of_the_two_texts_is_part_of_the_digest() -> None:
    assert digest("a", "b") != digest("b", "a")
    assert digest("a\nb", "c") != digest("a", "b")


@pytest.mark.usefixtures("two_were_read")
def test_rows_that_were_read_get_label_1_and_pairs_in_no_row_are_added() -> None:
    made = corrected("town", ROWS)
    assert [row["label"] for row in made] == [1, 0, 1, 1]
    assert (made[3]["q1"], made[3]["q2"]) == ("Where do they sell bread?", "Where is the bakery?")
    assert ROWS[0]["label"] == 0  # what was given stays as it was


@pytest.mark.usefixtures("two_were_read")
def test_another_file_is_left_alone() -> None:
    assert corrected("village", ROWS) == ROWS
    assert unlabelled("village", ROWS) == []
    assert same_meaning("village", [("Where is the harbour?", "Where's the harbour?")]) == []
