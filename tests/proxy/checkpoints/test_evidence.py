"""A checkpoint is judged by this proxy's held-out pairs, each once, under both encoders."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from embed.held_out import held_out
from proxy.checkpoints import evidence as evidence_module
from proxy.checkpoints.evidence import gather, held_out_pairs
from store.documents.records import Pair
from tests.proxy.checkpoints.encoders import TopicEncoder, labelled, pair


def certainly_held_out(number: int) -> tuple[str, str]:
    """Return the number-th pair of texts that is held out."""
    found = [(f"{n}/a", f"{n}/b") for n in range(200) if held_out([(f"{n}/a", f"{n}/b")])[0]]
    return found[number]


def test_only_what_a_trainer_leaves_alone_is_taken() -> None:
    pairs = labelled(500)
    chosen = held_out_pairs(pairs)
    held = held_out([(each.query, each.entry_query) for each in pairs])
    assert chosen == [each for each, out in zip(pairs, held, strict=True) if out]
    assert 60 < len(chosen) < 140


def test_two_questions_count_once_with_the_newest_verdict_and_a_judges_before_a_clients() -> None:
    first, second = certainly_held_out(0), certainly_held_out(1)
    pairs = [  # newest first
        pair(6, *first, 0, source="feedback"),
        pair(5, first[1], first[0], 1, source="near-miss"),
        pair(4, *first, 0),
        pair(3, *second, 1),
        pair(2, *second, 0),
        pair(1, second[0], second[0], 1),
    ]
    assert [(p.event, p.label) for p in held_out_pairs(pairs)] == [("event 5", 1), ("event 3", 1)]


async def test_both_encoders_see_every_text_once_alone_and_progress_is_told() -> None:
    pairs = [pair(1, "a/1", "a/2", 1), pair(2, "a/1", "b/1", 0), pair(3, "c" * 300, "b/1", 0)]
    running, candidate = TopicEncoder("running", 0.5), TopicEncoder("candidate", 0.9)
    told: list[tuple[int, int]] = []
    evidence = await gather(pairs, running, candidate, lambda *at: told.append(at))
    assert evidence.pairs == tuple(pairs[:2]), "a text beyond the window tells nothing"
    assert told == [(n, 6) for n in range(1, 7)]
    assert running.encoded == candidate.encoded == ["a/1", "a/2", "b/1"]
    assert evidence.candidate[0] > evidence.running[0] > evidence.running[1]
    assert [(j.first, j.label, j.category) for j in evidence.judged] == [
        ("a/1", 1, "default"),
        ("a/1", 0, "default"),
    ]


async def test_without_pairs_there_is_no_evidence() -> None:
    encoder = TopicEncoder("running", 0.5)
    none: list[Pair] = held_out_pairs([])
    evidence = await gather(none, encoder, encoder, lambda done, total: None)
    assert evidence.pairs == () and evidence.running.dtype == np.float32


class SlowToTell(TopicEncoder):
    """Takes a millisecond to say whether a text fits, as a tokenizer does for a long one."""

    looked_at = 0

    def fits(self, text: str) -> bool:
        self.looked_at += 1
        time.sleep(0.001)
        return super().fits(text)


async def test_others_get_their_turn_while_it_is_found_out_which_pairs_fit() -> None:
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            gaps.append(time.monotonic() - began)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    pairs = [pair(number, "x" * 300, "y", 1) for number in range(200)]
    slow = SlowToTell("slow", 0.5)
    assert (await gather(pairs, slow, slow, lambda done, total: None)).pairs == ()
    ticking.cancel()
    assert max(gaps) < 0.1, "200 looks of a millisecond each"


async def test_no_more_pairs_are_looked_at_than_are_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence_module, "MOST", 3)
    slow = SlowToTell("slow", 0.5)
    found = await gather(labelled(50), slow, slow, lambda done, total: None)
    assert len(found.pairs) == 3 and slow.looked_at == 3 * 4
