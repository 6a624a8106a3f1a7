"""Sweep `context_threshold` over follow-ups, through the proxy's own lookup.

    python -m bench.contexts --data "$NEARHIT_DATA"

Three questions. Is a follow-up ever answered from another dialogue (ctxpairs_canard)? Is a dialogue
found again in other words (multiturn_meancache, rows with `user_duplicate` in both turns: the
recall)? And what does the threshold let pass where nothing else stands in the way: pairs of first
questions that were labelled, with an answer that says nothing and one and the same follow-up (the
pair sets)? Misses are not stored. What is itself stored word for word is not asked, but the rows of
ctxpairs_canard are asked once more, each in a cache with nothing but its own stored dialogue. Exits
with 1 if a follow-up of ctxpairs_canard was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from bench.dialogues import (
    TENANT,
    Asked,
    DialogueCache,
    after_pairs,
    follow_ups,
    rephrased,
    second_turn,
)
from bench.pairs import bundled_encoder, rows_of
from bench.thresholds import data_folder
from embed.encoder import Encoder
from store.decision.guards import veto
from store.policy import DEFAULT_CATEGORY, Policy, PolicyBook

OTHER_DIALOGUES = "ctxpairs_canard"
IN_OTHER_WORDS = "multiturn_meancache"
PAIRS = (
    "pairs_nqopen_mined",
    "pairs_stackexchange_dup",
    "pairs_sts16_questions",
    "pairs_gsmplus",
    "pairs_svamp_hardneg",
    "pairs_meancache_llmwritten",
    "pairs_canard_rewrites",
)
HIT_THRESHOLDS = (0.92, 0.85, 0.80, 0.75, 0.70, 0.65, 0.60, 0.50, 0.0)
CONTEXT_THRESHOLDS = (0.98, 0.95, 0.92, 0.90, 0.85, 0.80, 0.75, 0.70, 0.60, 0.50, 0.0)


class Count(NamedTuple):
    """What became of some dialogues that were asked."""

    asked: int
    right: int
    wrong: int


class Turns(NamedTuple):
    """Of one rephrased dialogue: the cosines of its turns, and the guards that veto them."""

    first: float
    second: float
    first_veto: str | None
    second_veto: str | None


def book_of(hit_threshold: float, context_threshold: float) -> PolicyBook:
    """Return a book of one category with these thresholds."""
    policy = Policy(
        name=DEFAULT_CATEGORY,
        hit_threshold=hit_threshold,
        near_threshold=0.0,
        context_threshold=context_threshold,
        ttl=timedelta(days=365),
    )
    return PolicyBook({policy.name: policy})


async def count(cache: DialogueCache, cases: Iterable[Asked], tenants: str = "") -> Count:
    """Ask every case; a hit is right if it is the case's own stored dialogue, and the same.

    A dialogue that differs from that in its first question alone is the same one: a set has some
    dialogues twice, word for word but for that.
    With `tenants` each case is asked in the cache of its own tenant, of this name and its number.
    Else what is stored itself is left out.
    """
    asked = right = wrong = 0
    known = set() if tenants else set(cache.stored.values())
    for number, case in enumerate(cases):
        if case.asked in known:
            continue
        asked += 1
        served = await cache.ask(case.asked, f"{tenants} {number}" if tenants else TENANT)
        if served is not None:
            good = case.same and served[1:] == case.stored[1:]
            right += good
            wrong += not good
    return Count(asked, right, wrong)


async def turns_of(encoder: Encoder, cases: Sequence[Asked]) -> list[Turns]:
    """Return what is between the turns of each case's two dialogues of two turns."""
    found = []
    for case in cases:
        (first, _, second), (first_anew, _, second_anew) = case.stored, case.asked
        rows = await encoder.encode([first, first_anew, second, second_anew])
        found.append(
            Turns(
                float(rows[0] @ rows[1]),
                float(rows[2] @ rows[3]),
                veto(first_anew, first),
                veto(second_anew, second),
            )
        )
    return found


def share(
    cases: Sequence[Turns], hit: float, context: float, *, first: bool, second: bool
) -> float:
    """Return the share of dialogues that hit by these thresholds, with the guards that are on."""
    hits = [
        case
        for case in cases
        if case.first >= context
        and case.second >= hit
        and not (first and case.first_veto)
        and not (second and case.second_veto)
    ]
    return len(hits) / len(cases) if cases else 0.0


async def run(data: Path) -> int:
    """Fill one cache, ask everything at every pair of thresholds, print the tables."""
    canard = rows_of(data / f"{OTHER_DIALOGUES}.jsonl")
    talks = rows_of(data / f"{IN_OTHER_WORDS}.jsonl")
    pairs = {name: after_pairs(rows_of(data / f"{name}.jsonl"), name) for name in PAIRS}
    others = {label: follow_ups(canard, label) for label in (0, 1)}
    again = rephrased(talks)
    encoder = bundled_encoder()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(encoder.aclose)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = await DialogueCache.open(stack, folder, encoder, book_of(0.0, 0.0))
        stored = [case.stored for case in (*others[0], *others[1])]
        stored += [second_turn(row) for row in talks]
        stored += [case.stored for cases in pairs.values() for case in cases]
        for number, dialogue in enumerate(dict.fromkeys(stored), 1):
            if encoder.fits(dialogue[-1]):
                await cache.store(dialogue)
            if number % 100 == 0:
                sys.stderr.write(f"\rstored {number} of {len(stored)} dialogues")
        for label, cases in others.items():
            for number, case in enumerate(cases):
                await cache.store(case.stored, f"label {label} {number}")
        sys.stderr.write("\n")
        wrong = await _report_others(cache, others)
        await _report_again(cache, again, await turns_of(encoder, again))
        await _report_pairs(cache, pairs)
    return 1 if wrong else 0


async def _report_others(cache: DialogueCache, others: Mapping[int, Sequence[Asked]]) -> int:
    print(f"\n### {OTHER_DIALOGUES}: hits, at any threshold none is wanted\n")
    print("| hit | context | label | in one cache: asked | hits | each alone: asked | hits |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    for hit, context in ((0.92, 0.92), (0.60, 0.60), (0.0, 0.0)):
        cache.rule(book_of(hit, context))
        for label, cases in others.items():
            cells = [f"{hit:.2f}", f"{context:.2f}", str(label)]
            for tenants in ("", f"label {label}"):
                counted = await count(cache, cases, tenants)
                wrong += counted.right + counted.wrong
                cells += [str(counted.asked), str(counted.right + counted.wrong)]
            print(f"| {' | '.join(cells)} |")
    return wrong


async def _report_again(
    cache: DialogueCache, cases: Sequence[Asked], turns: Sequence[Turns]
) -> None:
    print(f"\n### {IN_OTHER_WORDS}: recall (wrong hits) of {len(cases)} dialogues in other words\n")
    print(f"| context \\ hit | {' | '.join(f'{hit:.2f}' for hit in HIT_THRESHOLDS)} |")
    print("| --- " * (len(HIT_THRESHOLDS) + 1) + "|")
    for context in CONTEXT_THRESHOLDS:
        cells = [f"{context:.2f}"]
        for hit in HIT_THRESHOLDS:
            cache.rule(book_of(hit, context))
            counted = await count(cache, cases)
            cells.append(f"{counted.right / counted.asked:.2f} ({counted.wrong})")
        print(f"| {' | '.join(cells)} |")
    print("\nThe same by cosines alone, and what guards take: of first turns, second turns, both\n")
    print("| context | hit | no guards | guards on first | on second | on both |")
    print("| --- | --- | --- | --- | --- | --- |")
    switches = ((False, False), (True, False), (False, True), (True, True))
    for context in (0.92, 0.85, 0.80, 0.75, 0.70):
        for hit in (0.80, 0.65, 0.50, 0.0):
            cells = [f"{context:.2f}", f"{hit:.2f}"]
            cells += [f"{share(turns, hit, context, first=a, second=b):.2f}" for a, b in switches]
            print(f"| {' | '.join(cells)} |")


async def _report_pairs(cache: DialogueCache, pairs: Mapping[str, Sequence[Asked]]) -> None:
    print("\n### Pairs as first turns: hits of the same (label 1) and of others (label 0)\n")
    names = [name.removeprefix("pairs_") for name in pairs]
    print(f"| context_threshold | {' | '.join(names)} | all |")
    print("| --- " * (len(names) + 2) + "|")
    for context in CONTEXT_THRESHOLDS:
        cache.rule(book_of(0.92, context))
        cells, totals = [f"{context:.2f}"], [0, 0, 0, 0]
        # Each pair has an answer of its own between, so that it is compared with itself alone.
        for cases in pairs.values():
            same = await count(cache, [case for case in cases if case.same])
            other = await count(cache, [case for case in cases if not case.same])
            numbers = [same.right, same.asked, other.wrong, other.asked]
            totals = [total + number for total, number in zip(totals, numbers, strict=True)]
            cells.append(_pair_cell(numbers))
        print(f"| {' | '.join([*cells, _pair_cell(totals)])} |")


def _pair_cell(numbers: Sequence[int]) -> str:
    right, same, wrong, others = numbers
    return f"{right} of {same}, {wrong} of {others}"


def main() -> int:
    """Print the tables; return 1 if a follow-up was answered from another dialogue."""
    return asyncio.run(run(data_folder(argparse.ArgumentParser(description=__doc__))))


if __name__ == "__main__":
    sys.exit(main())
