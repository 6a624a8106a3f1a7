"""Dialogues out of labelled rows, and what the proxy's lookup makes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.contexts import Count, Turns, book_of, count, share
from bench.dialogues import (
    Asked,
    DialogueCache,
    after_pairs,
    follow_ups,
    of_context,
    rephrased,
    second_turns,
)
from embed.encoder import Vectors
from tests.entries import near

COSINES = {"Which tea is green?": 1.0, "What tea is green?": 0.9, "And black?": 1.0}


class KnownEncoder:
    """Knows three texts."""

    checkpoint = "known"
    dimension = 8
    max_tokens = 100

    def fits(self, text: str) -> bool:
        return True

    def first_window(self, text: str) -> str | None:
        return text

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return np.stack([near(0, COSINES[text]) for text in texts])

    async def aclose(self) -> None: ...


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[DialogueCache]:
    async with AsyncExitStack() as stack:
        yield await DialogueCache.open(stack, tmp_path, KnownEncoder(), book_of(0.8, 0.8))


STORED = ("Which tea is green?", "Sencha.", "And black?")
ASKED = ("What tea is green?", "Sencha.", "And black?")


async def test_a_dialogue_in_other_words_is_found_from_its_threshold_on(
    cache: DialogueCache,
) -> None:
    await cache.store(STORED)
    assert await count(cache, [Asked(STORED, ASKED, True)]) == Count(1, 1, 0)
    assert await count(cache, [Asked(STORED, ASKED, False)]) == Count(1, 0, 1)
    cache.rule(book_of(0.8, 0.95))
    assert await count(cache, [Asked(STORED, ASKED, True)]) == Count(1, 0, 0)


async def test_what_is_stored_itself_is_asked_only_where_it_is_not(cache: DialogueCache) -> None:
    for dialogue in (STORED, ASKED):
        await cache.store(dialogue)
    await cache.store(STORED, "alone 0")
    cases = [Asked(STORED, ASKED, True)]
    assert await count(cache, cases) == Count(0, 0, 0)
    assert await count(cache, cases, "alone") == Count(1, 1, 0)


@pytest.mark.parametrize(
    ("context", "dialogue"),
    [
        ([], ("q",)),
        (["u", "a"], ("u", "a", "q")),
        (["title", "u", "a"], ("u", "a", "q")),
        (["title", "u", "a", "v", "b"], ("u", "a", "v", "b", "q")),
    ],
)
def test_a_context_may_begin_with_a_title(context: list[str], dialogue: tuple[str, ...]) -> None:
    assert of_context(context, "q") == dialogue


def test_rows_become_dialogues() -> None:
    row = {"context1": ["t", "u", "a"], "q1": "q", "context2": [], "q2": "r", "label": 1}
    assert follow_ups([row], 1) == [Asked(("u", "a", "q"), ("r",), True)]
    assert follow_ups([row], 0) == []
    first: dict[str, Any] = {"user": "u", "user_duplicate": "v", "assistant": "a"}
    second = {"user": "q", "user_duplicate": "r"}
    talks = [{"turns": [first, second]}, {"turns": [first, {"user": "q"}]}]
    assert rephrased(talks) == [Asked(("u", "a", "q"), ("v", "a", "r"), True)]
    (turn,) = second_turns(talks, "talks")
    assert (turn.q1, turn.q2) == ((("u", "a"), "q"), (("v", "a"), "r"))
    assert (turn.file, turn.place, turn.label) == ("talks", "talks:1", 1)
    again = {"turns": [{**first, "user": "w", "user_duplicate": "x"}, second]}
    assert second_turns([*talks, again], "talks")[1].q1 == turn.q1  # the set has it twice
    pairs = [{"q1": "x", "q2": "y", "label": 0}, {"q1": "x", "q2": "x", "label": 1}]
    (only,) = after_pairs(pairs, "set")
    assert (only.stored[0], only.asked[0], only.same) == ("x", "y", False)
    assert only.stored[1:] == only.asked[1:]


def test_guards_are_counted_on_either_turn() -> None:
    turns = [Turns(0.9, 0.7, None, None), Turns(0.9, 0.7, "numbers", None),
             Turns(0.9, 0.7, None, "names"), Turns(0.6, 0.7, None, None)]  # fmt: skip

    def shares(first: bool, second: bool) -> float:
        return share(turns, 0.7, 0.8, first=first, second=second)

    assert shares(False, False) == 0.75
    assert shares(True, False) == shares(False, True) == 0.5
    assert shares(True, True) == 0.25
