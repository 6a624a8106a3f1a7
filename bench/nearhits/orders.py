"""Does it matter in which order examples are shown, and what does a beginning that is shared save?

The same examples, the five most similar of the store, in three orders: the most similar last,
first, and always the same order (by question, what Nearhit does), in which two requests that are
shown the same examples share their beginning wherever the engine has it still. `shared` is the most
that reuse can bring: ten requests in a row are shown the same five, the first one's. The engine
says how many tokens it had to read of each prompt, without what it had from the request before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.nearhits.models import SMALL_MODELS, Reply, ask_each, small_models, turns
from bench.nearhits.neighbours import SHARED_BY, Encoded, nearest
from bench.nearhits.record import Record, Result
from bench.nearhits.scoring import exact, gain_of, mean_of
from bench.nearhits.tasks import CHOSEN, GENERATED, Item, Split

LAST = "most similar last"
ORDERS = (LAST, "most similar first", "always the same", "shared")


def arranged(order: str, near: Sequence[Sequence[Item]]) -> list[list[Item]]:
    """Return each request's examples in an order, of those that are most similar last."""
    match order:
        case "most similar first":
            return [list(reversed(shown)) for shown in near]
        case "always the same":
            return [sorted(shown, key=lambda item: item.question) for shown in near]
        case "shared":
            return [list(near[at - at % SHARED_BY]) for at in range(len(near))]
    return [list(shown) for shown in near]


def facts(items: Sequence[Item], replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """Return what is kept of each answer; no row of the data."""
    return [
        {
            "exact": exact(item, reply.text),
            "read": reply.tokens_read,
            "prompt": reply.prompt_tokens,
            "seconds": round(reply.seconds, 4),
        }
        for item, reply in zip(items, replies, strict=True)
    ]


async def measure(record: Record, split: Split, seed: int, encoded: Encoded) -> str:
    """Measure what is not measured yet; return the table. Both models work at once."""
    # Tasks one after the other: two requests of one kind follow each other, as in a busy hour.
    items = sorted(split.of(*GENERATED, *CHOSEN), key=lambda item: item.task)
    vectors = await encoded([item.question for item in (*items, *split.stored)])
    near = nearest(vectors[: len(items)], vectors[len(items) :], split.stored)
    found: dict[str, Result] = {}
    async with small_models() as smalls:

        async def one(small: str) -> None:
            for order in ORDERS:
                shown = arranged(order, near)
                chats = [turns(i.question, some) for i, some in zip(items, shown, strict=True)]
                arguments = {"seed": seed, "asked": len(items), "stored": len(split.stored)}

                async def run(chats: Any = chats, what: str = f"{small}, {order}") -> Result:
                    replies = await ask_each(smalls[small], small, chats, what)
                    return {"answers": facts(items, replies)}

                found[f"{small}/{order}"] = await record.measured(
                    f"orders/{small}/{order}", arguments, run
                )

        await asyncio.gather(*(one(small) for small in SMALL_MODELS))
    return table(found, seed)


def table(found: Mapping[str, Result], seed: int) -> str:
    """Return accuracy, its difference from the first order, tokens read and time, as Markdown."""
    lines = [
        "| model | order | right % | against the first | tokens of the prompt | read | p50 ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for small in SMALL_MODELS:
        base = _column(found[f"{small}/{LAST}"], "exact")
        for order in ORDERS:
            rows = found[f"{small}/{order}"]
            right = _column(rows, "exact")
            cells = [
                small,
                order,
                mean_of(right, seed).percent(),
                "" if order == LAST else gain_of(right, base, seed).percent(),
                f"{mean_of(_column(rows, 'prompt'), seed).mean:.0f}",
                f"{mean_of(_column(rows, 'read'), seed).mean:.0f}",
                f"{1e3 * median(_column(rows, 'seconds')):.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _column(result: Result, key: str) -> list[float]:
    return [float(row[key]) for row in result["answers"]]
