"""The guards' table counts a row for each guard that forbids it, and apart where it is alone."""

from __future__ import annotations

from bench.guards import tallied


def test_a_row_counts_for_every_guard_that_forbids_it() -> None:
    tally = tallied(
        [
            ("Is 5 more than 3?", "Is 5 less than 4?"),
            ("Is 5 more than 3?", "Is 5 more than 4?"),
            ("Is 5 more than 3?", "Is 5 more than 3, please?"),
        ]
    )
    assert (tally.rows, tally.forbidden) == (3, 2)
    assert tally.by_guard == {"numbers": 2, "polarity": 1}
    assert tally.alone == {"numbers": 1}
