"""Do examples help? The same questions to a small model: bare, after examples, through the proxy.

Arms: `zero` (the question alone), `random` (five entries of the store), `plain` (its five most
similar entries, most similar last), `selected` (through a running Nearhit, which chooses), and
`replay` (no model: the most similar entry's answer).
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.nearhits.models import (
    BARE_TOKENS,
    MOST_TOKENS,
    SMALL_MODELS,
    Reply,
    ask_each,
    small_models,
    turns,
)
from bench.nearhits.neighbours import Encoded, nearest, random_examples
from bench.nearhits.record import Record, Result
from bench.nearhits.scoring import exact, gain_of, lenient, mean_of
from bench.nearhits.stand import ASK_ONLY, LARGE_MODEL, fill, open_ground, running_oracle
from bench.nearhits.tasks import ASKED, CHOSEN, GENERATED, TRAP, Item, Split

DIRECT = ("zero", "random", "plain")
ARMS = (*DIRECT, "selected")
REPLAY = "replay"
ALL = "all four"
GROUPS: Mapping[str, tuple[str, ...]] = {
    ALL: (*GENERATED, *CHOSEN),
    "past tense + plural": GENERATED,
    "intents": CHOSEN,
    "trap": (TRAP,),
    **{task: (task,) for task in ASKED},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked, in the order of asking, with the examples of the arms without a proxy."""

    items: Sequence[Item]
    examples: Mapping[str, Sequence[Sequence[Item]]]  # by arm
    replayed: Sequence[str]  # the most similar stored answer


async def prepare(split: Split, seed: int, encoded: Encoded) -> Questions:
    """Choose the examples of every direct arm; tasks are mixed, so that each draw meets several."""
    items = list(split.of(*ASKED))
    random.Random(seed).shuffle(items)
    stored = split.stored
    vectors = await encoded([item.question for item in (*items, *stored)])
    near = nearest(vectors[: len(items)], vectors[len(items) :], stored)
    examples: dict[str, list[list[Item]]] = {
        "zero": [[] for _ in items],
        "random": random_examples(len(items), stored, seed),
        "plain": near,
    }
    return Questions(items=items, examples=examples, replayed=[row[-1].answer for row in near])


def facts(items: Sequence[Item], replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """Return what is kept of each answer: no row of the data, only where it stood and its worth."""
    return [
        {
            "task": item.task,
            "exact": exact(item, reply.text),
            "lenient": lenient(item, reply.text),
            "near_hit": reply.near_hit,
            "seconds": round(reply.seconds, 4),
            "prompt_tokens": reply.prompt_tokens,
        }
        for item, reply in zip(items, replies, strict=True)
    ]


async def direct(questions: Questions, arm: str, small: str, base_url: str) -> Result:
    """Ask a small model itself, after the examples of an arm."""
    chats = [
        turns(item.question, shown)
        for item, shown in zip(questions.items, questions.examples[arm], strict=True)
    ]
    most = BARE_TOKENS if arm == "zero" else MOST_TOKENS
    replies = await ask_each(base_url, small, chats, f"{small}, {arm}", most=most)
    return {"answers": facts(questions.items, replies)}


async def selected(
    questions: Questions, stored: Sequence[Item], smalls: Mapping[str, str]
) -> Result:
    """Ask for the large model, through a Nearhit that may let each small model stand in."""
    known = (*questions.items, *stored)
    chats = [turns(item.question) for item in questions.items]
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as name:
        folder = Path(name)
        async with running_oracle(folder, known) as oracle:
            async with open_ground(folder / "filled", oracle, None) as ground:
                await fill(ground, stored)

            async def through(small: str, url: str) -> list[Reply]:
                where, filled = folder / small, folder / "filled"
                async with open_ground(where, oracle, (small, url), filled=filled) as ground:
                    what = f"{small}, selected"
                    return await ask_each(ground.proxy, LARGE_MODEL, chats, what, ASK_ONLY)

            each = await asyncio.gather(*(through(*small) for small in smalls.items()))
    return {
        small: {"answers": facts(questions.items, replies)}
        for small, replies in zip(smalls, each, strict=True)
    }


async def measure(
    record: Record, split: Split, seed: int, encoded: Encoded, arms: Sequence[str] = ARMS
) -> dict[str, Result]:
    """Return every arm's answers by `model/arm`; both models work at once, one thread each."""
    arguments = {"seed": seed, "asked": len(split.of(*ASKED)), "stored": len(split.stored)}
    questions = await prepare(split, seed, encoded)
    results: dict[str, Result] = {}
    async with small_models() as smalls:

        async def one(small: str) -> None:
            for arm in DIRECT:
                if arm in arms:
                    results[f"{small}/{arm}"] = await record.measured(
                        f"examples/{small}/{arm}",
                        arguments,
                        lambda arm=arm: direct(questions, arm, small, smalls[small]),  # type: ignore[misc]
                    )

        await asyncio.gather(*(one(small) for small in SMALL_MODELS))
        if "selected" in arms:
            both = await record.measured(
                "examples/selected", arguments, lambda: selected(questions, split.stored, smalls)
            )
            results.update({f"{small}/selected": both[small] for small in SMALL_MODELS})
    results[REPLAY] = {
        "answers": [
            {"task": item.task, "exact": exact(item, text), "lenient": lenient(item, text)}
            for item, text in zip(questions.items, questions.replayed, strict=True)
        ]
    }
    return results


def values(
    result: Result, group: str, key: str = "exact", where: Result | None = None
) -> list[float]:
    """Return one number an answer, of a group of tasks; with `where`, of its near-hits only.

    What the large model answered says nothing about a small one.
    """
    marks = (where or result)["answers"]
    return [
        float(row[key])
        for row, mark in zip(result["answers"], marks, strict=True)
        if row["task"] in GROUPS[group] and (where is None or mark["near_hit"])
    ]


def table(results: Mapping[str, Result], seed: int) -> str:
    """Return accuracy by group as Markdown, with the paired gains that are asked for."""
    lines = [
        "| model | tasks | n | replay | zero | zero, lenient | 5 random | 5 nearest, plain |"
        " selected | selected - random | selected - zero lenient | near-hits |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for small in SMALL_MODELS:
        for group in GROUPS:
            lines.append("| " + " | ".join(_row(results, small, group, seed)) + " |")
    return "\n".join(lines)


def _row(results: Mapping[str, Result], small: str, group: str, seed: int) -> list[str]:
    replay = values(results[REPLAY], group)

    def of(arm: str, key: str = "exact") -> list[float] | None:
        result = results.get(f"{small}/{arm}")
        return None if result is None else values(result, group, key)

    def mean(found: list[float] | None) -> str:
        return mean_of(found, seed).percent() if found else "-"

    def gain(ours: list[float] | None, theirs: list[float] | None) -> str:
        return gain_of(ours, theirs, seed).percent() if ours and theirs else "-"

    through = results.get(f"{small}/selected")

    def paired(arm: str, key: str = "exact") -> list[float] | None:
        result = results.get(f"{small}/{arm}")
        if result is None or through is None:
            return None
        return values(result, group, key, through)

    chosen, near_hits = paired("selected"), of("selected", "near_hit")
    return [
        small,
        group,
        str(len(replay)),
        mean(replay),
        mean(of("zero")),
        mean(of("zero", "lenient")),
        mean(of("random")),
        mean(of("plain")),
        mean(chosen),
        gain(chosen, paired("random")),
        gain(chosen, paired("zero", "lenient")),
        "-" if near_hits is None else f"{sum(near_hits):.0f}",
    ]
