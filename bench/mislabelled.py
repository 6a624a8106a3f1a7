"""Pairs that their set calls different, or says nothing about, and that mean the same all the same.

Read one by one: the rows labelled 0 of nqopen down to a cosine of 0.56 and of sts16 down to 0.50,
the highest ten of stackexchange, and of all files the fifty pairs in no row and the dozen sums that
the shipped score came nearest to serving wrongly. So the list knows that score's errors better than
other ways' errors. Listed is only what the same answer clearly does for; what was in doubt is not:
another film with the same actor, "next" or "this year" on one side, a special case of the question.

The rows are not part of this repository: a pair is known by its file and the SHA-256 of its texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from bench.pairs import Rows

DIGITS = 16  # of the digest


class Read(NamedTuple):
    """A pair that was read."""

    file: str  # without "pairs_" and ".jsonl"
    digest: str  # of q1, a line feed and q2
    labelled: bool  # as 0 by a row; or no row has the two
    reason: str


READ = (
    Read("nqopen_mined", "71aedecb95c2a400", True, "another verb for bringing in the same rule"),
    Read("nqopen_mined", "827d6bde045f451f", True, "another verb for bringing in the same rule"),
    Read("nqopen_mined", "ae901f065159d73f", True, "the same, asked on two days: age, not meaning"),
    Read("nqopen_mined", "51d49009db6b724d", True, "the same, asked on two days: age, not meaning"),
    Read("nqopen_mined", "32a9699283b75c09", True, "one record, whose holder changed in between"),
    Read("nqopen_mined", "3da02c16299aadd5", True, "word order; the gold answers are two offices"),
    Read("nqopen_mined", "b11382d7ff10af2e", True, "word order; one gold answer is of a namesake"),
    Read("nqopen_mined", "aec0a82ac71b2f82", True, "one document by two halves of its name"),
    Read("nqopen_mined", "1b925f73db8a3d1a", False, "two oceans and a verb, in another order"),
    Read("gsmplus", "d6dcbb3f33bbe108", True, "the same lengths in another unit, the same share"),
    Read("stackexchange_dup", "7c20f0282259e459", False, "the same loss after the same step"),
    Read("stackexchange_dup", "3dedb5ca88b85fab", False, "one title is the other's second half"),
    Read("stackexchange_dup", "8f6fdd225345ff76", False, "the same proposal about one tag"),
    Read("stackexchange_dup", "a0029fa311d85519", False, "why one list is limited, asked twice"),
    Read("stackexchange_dup", "bb85e71dce8bec7d", False, "errors of one command, no more is said"),
    Read("stackexchange_dup", "88d0a8751d1f2eb7", False, "a failing installation, no more is said"),
    Read("meancache_llmwritten", "01d7f3362236e5da", False, "one thing to explain, asked twice"),
    Read("meancache_llmwritten", "afc9839fee422eb9", False, "one theory to explain, asked twice"),
)


def digest(q1: str, q2: str) -> str:
    """Return what a pair is known by."""
    return hashlib.sha256(f"{q1}\n{q2}".encode()).hexdigest()[:DIGITS]


def same_meaning(file: str, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of a file's (q1, q2) that were read and mean the same."""
    known = {each.digest for each in READ if each.file == file}
    if not known:
        return []
    return [pair for pair in pairs if digest(*pair) in known]


def unlabelled(file: str, rows: Rows) -> list[tuple[str, str]]:
    """Return the pairs of a file's texts, a `q1` and a `q2`, that mean the same and are no row."""
    if not any(each.file == file and not each.labelled for each in READ):
        return []
    ones = list(dict.fromkeys(row["q1"] for row in rows))
    others = list(dict.fromkeys(row["q2"] for row in rows))
    rowed = {(row["q1"], row["q2"]) for row in rows}
    found = same_meaning(file, ((one, other) for one in ones for other in others))
    return [pair for pair in found if pair not in rowed]


def corrected(file: str, rows: Rows) -> Rows:
    """Return a file's rows with label 1 wherever it was read that two texts mean the same."""
    same = set(same_meaning(file, ((row["q1"], row["q2"]) for row in rows)))
    mended = [{**row, "label": 1} if (row["q1"], row["q2"]) in same else row for row in rows]
    return mended + [{"q1": one, "q2": two, "label": 1} for one, two in unlabelled(file, rows)]
