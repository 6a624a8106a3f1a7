"""Questions of our own: ten thousand to store, and rewordings that ask the same thing.

A rewording changes no number, name or negation, so that only its meaning has to be recognised.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

VERBS = (
    "repair rent sell paint clean store insure ship recycle assemble lubricate photograph restore"
    " lend customise replace inspect register donate transport"
).split()
NOUNS = (
    "bicycle,piano,camera,kayak,washing machine,sofa,telescope,scooter,violin,bookcase,lawn mower,"
    "coffee grinder,tent,carpet,radiator,wardrobe,guitar,printer,mattress,chandelier,"
    "sewing machine,saxophone,canoe,dishwasher,fireplace"
).split(",")
PLACES = (
    "Lisbon Oslo Nairobi Toronto Lima Osaka Warsaw Cairo Dublin Hanoi Sydney Vienna Athens Denver"
    " Quito Seoul Tunis Riga Bergen Porto"
).split()
WORDS = (
    "amber anchor apron arrow attic badge bakery bamboo banner barrel basin beacon bell blanket"
    " blossom bottle bracket branch bridge bronze bucket button cabin cactus candle canyon cargo"
    " castle cedar cellar chalk cherry cider clay cliff cloud cobalt copper coral cotton cradle"
    " crater cricket crystal curtain daisy dawn desert diamond dolphin drum dune eagle ember engine"
    " fabric falcon feather fern fiddle flame flute forest fossil fountain galaxy garden garlic"
    " ginger glacier globe granite grape gravel hammer harbour harvest hazel helmet honey horizon"
    " iceberg island ivory jacket jasmine jewel jungle kettle ladder lagoon lantern lavender lemon"
    " linen lobster magnet mango maple marble meadow melon meteor mirror monsoon mosaic mustard"
    " nectar needle nickel oasis ocean olive orchard otter oyster paddle panther paper parrot peach"
    " pebble pepper pigeon pillow planet plum pocket pollen prairie pumpkin quartz quilt rabbit"
    " raven reef ribbon river rocket saddle saffron salmon sapphire satin shadow shell silk silver"
    " sparrow spice spruce squirrel starch stone sugar summit sunset swan temple thistle thunder"
    " timber topaz tulip tunnel turtle valley vanilla velvet village vinegar violet walnut wheat"
    " whistle willow window winter wool yarn zebra zinc"
).split()

STORED = "How do I {verb} a {noun} in {place}?"
REWORDED = (
    "How can I {verb} a {noun} in {place}?",
    "How does one {verb} a {noun} in {place}?",
    "How would I {verb} a {noun} in {place}?",
    "How could I {verb} a {noun} in {place}?",
    "Tell me how to {verb} a {noun} in {place}.",
    "What is the way to {verb} a {noun} in {place}?",
)


class Subject(NamedTuple):
    """What a question is about."""

    verb: str
    noun: str
    place: str


def subjects() -> list[Subject]:
    """Return 10,000 subjects, the same ones in the same mixed order every time."""
    mixed = [Subject(*words) for words in product(VERBS, NOUNS, PLACES)]
    random.Random(1).shuffle(mixed)
    return mixed


def stored_question(subject: Subject) -> str:
    """Return the question about a subject that is stored."""
    return STORED.format(**subject._asdict())


def rewordings(about: Sequence[Subject]) -> list[str]:
    """Return six distinct rewordings of every subject's stored question, mixed."""
    texts = [template.format(**subject._asdict()) for template in REWORDED for subject in about]
    random.Random(2).shuffle(texts)
    return texts


def random_texts(seed: int) -> Iterator[str]:
    """Yield texts of ten random words for ever: nobody asked them before, and they mean nothing."""
    order = random.Random(seed)
    while True:
        yield " ".join(order.choices(WORDS, k=10))


class Supply:
    """Hands out every text once, so that nothing that remembers texts can help."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._used = 0

    def peek(self, count: int) -> Sequence[str]:
        """Return the next texts without using them up; raise ValueError when too few are left."""
        left = len(self._texts) - self._used
        if count > left:
            raise ValueError(f"{count} unused questions are needed, {left} are left")
        return self._texts[self._used : self._used + count]

    def use(self, count: int) -> None:
        """Count that many as used."""
        self._used += count
