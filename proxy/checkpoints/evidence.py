"""What this proxy knows to judge a checkpoint by: its held-out pairs, and both encoders' cosines.

The pairs are those that serving has labelled. Which of them are held out, their texts say
(`embed/held_out.py`), so that a trainer beside this proxy has left the same ones alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.encoder import Encoder, Vector
from embed.held_out import held_out
from embed.promotion import Cosines, Judged
from proxy.sides import quiet
from store.documents.records import Pair

MOST = 4_000  # pairs that are encoded, the newest
LONGEST_REST = 0.05  # seconds between two texts
LONGEST_TURN = 0.005  # seconds that texts are looked at before others get the event loop
_FEEDBACK = "feedback"
Progress = Callable[[int, int], None]  # texts that are done, of how many


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Held-out pairs, and how near their questions are under either encoder."""

    pairs: tuple[Pair, ...]  # each pair of questions once, newest first
    running: Cosines  # shape (n,), as below
    candidate: Cosines

    @property
    def judged(self) -> list[Judged]:
        """The pairs as the gate takes them."""
        return [Judged(p.query, p.entry_query, p.label, p.category) for p in self.pairs]


def held_out_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs that nobody trains on, each once; `pairs` are all, newest first.

    Two questions that come again count with their newest verdict, a judge's before a client's.
    Equal questions say nothing about an encoder.
    """
    held = held_out([(pair.query, pair.entry_query) for pair in pairs])
    newest: dict[tuple[str, str, str], Pair] = {}
    for pair, out in zip(pairs, held, strict=True):
        if not out or pair.query == pair.entry_query:
            continue
        first, second = sorted((pair.query, pair.entry_query))
        key = (pair.category, first, second)
        known = newest.get(key)
        if known is None or (known.source == _FEEDBACK and pair.source != _FEEDBACK):
            newest[key] = pair
    return list(newest.values())


async def gather(
    pairs: Sequence[Pair], running: Encoder, candidate: Encoder, on_progress: Progress
) -> Evidence:
    """Encode held-out pairs with both, one text at a time and half the time at most.

    Pairs that either cannot take whole are left out. Raise EncoderFailed.
    """
    chosen = await _whole(pairs, (running, candidate))
    texts = list(dict.fromkeys(t for pair in chosen for t in (pair.query, pair.entry_query)))
    told = 0

    async def cosines(encoder: Encoder) -> Cosines:
        nonlocal told
        encode = quiet(encoder)
        vectors: dict[str, Vector] = {}
        for text in texts:
            began = time.monotonic()
            vectors[text] = (await encode([text]))[0]
            told += 1
            on_progress(told, 2 * len(texts))
            # The rest is the traffic's. Where others take the core anyway, a long one is no help.
            await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST))
        found = [float(vectors[p.query] @ vectors[p.entry_query]) for p in chosen]
        return np.array(found, np.float32)

    return Evidence(tuple(chosen), await cosines(running), await cosines(candidate))


async def _whole(pairs: Sequence[Pair], encoders: Sequence[Encoder]) -> list[Pair]:
    """Return the first MOST of the pairs that every encoder can take whole."""
    chosen: list[Pair] = []
    began = time.monotonic()
    for pair in pairs:
        texts = (pair.query, pair.entry_query)
        if all(each.fits(text) for each in encoders for text in texts):
            chosen.append(pair)
            if len(chosen) == MOST:
                break
        # A look at a text takes a moment, but there may be a hundred thousand.
        if (spent := time.monotonic() - began) > LONGEST_TURN:
            await asyncio.sleep(spent)
            began = time.monotonic()
    return chosen


def flags(pairs: Sequence[Pair], label: int) -> npt.NDArray[np.bool_]:
    """Return which pairs have this label."""
    return np.array([pair.label == label for pair in pairs], bool)
