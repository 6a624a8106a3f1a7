"""Words of one kind, of which another one makes another question: Python and Rust, red and blue.

Names that people type in lower case, so that capitals do not give them away, and what is asked of
something: its mean or its median, its symptoms or its treatment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from store.decision.guards.lexicon import Lexicon, Read
from store.decision.guards.members import KINDS

_MEMBERS = Lexicon(
    (spelling, (kind, spellings.split("/")[0]))
    for kind, members in KINDS.items()
    for spellings in members.split()
    for spelling in spellings.split("/")
)


class Kinds(NamedTuple):
    """Which members of a kind a text names."""

    named: frozenset[tuple[str, str]]  # (kind, member): ("colour", "red")
    said: Mapping[str, tuple[tuple[str, str], ...]]  # by the stems that name them


def kinds_of(stems: Read) -> Kinds:
    """Read the kinds that a text names."""
    said = _MEMBERS.find(stems)
    if not said:
        return _NO_KINDS
    return Kinds(frozenset(member for members in said.values() for member in members), said)


_NO_KINDS = Kinds(frozenset(), {})


def exclusive(a: Kinds, b: Kinds) -> frozenset[str]:
    """Return the kinds of which each text names a member that the other does not."""
    if a.named == b.named:
        return _NONE
    ours, theirs = a.named - b.named, b.named - a.named
    return frozenset(kind for kind, _ in ours).intersection(kind for kind, _ in theirs)


_NONE: frozenset[str] = frozenset()


def naming(kinds: Kinds, some: frozenset[str]) -> frozenset[str]:
    """Return the stems by which a text names members of some kinds."""
    return frozenset(
        word for word, members in kinds.said.items() if any(kind in some for kind, _ in members)
    )
