"""What the starter file's examples do: left out one at a time, and with other sets' queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.pairs import encode_all, rows_of
from embed.encoder import Encoder
from proxy.prototypes import Prototypes, solve
from store.policy import PolicyBook

MOST = 500  # queries of a set


class Landing(NamedTuple):
    """Where the queries of one kind went."""

    queries: str
    asked: int
    shares: tuple[tuple[str, float], ...]  # the largest first


class Source(NamedTuple):
    """A set of queries: its file, the text of a row, and which kind a row is."""

    file: str
    text: Callable[[dict[str, Any]], str]
    kind: Callable[[dict[str, Any]], str]


SOURCES = (
    Source("qa_nqopen", lambda row: row["question"], lambda _: "nqopen"),
    Source("qa_gsm8k", lambda row: row["question"], lambda _: "gsm8k"),
    Source(
        "pairs_stackexchange_dup",
        lambda row: row["q1"],
        lambda row: f"stackexchange titles: {row['site']}",
    ),
    Source(
        "multiturn_mtbench", lambda row: row["turns"][0], lambda row: f"mtbench: {row['category']}"
    ),
    Source("qa_vicuna", lambda row: row["question"], lambda row: f"vicuna: {row['category']}"),
    Source("intents_hwu64", lambda row: row["text"], lambda row: f"hwu64: {row['domain']}"),
)
# Of the home assistant's domains, those whose answers age or are a person's own.
SHOWN = {
    f"hwu64: {name}" for name in ("weather", "news", "datetime", "transport", "email", "calendar")
}


def left_out(book: PolicyBook, prototypes: Prototypes) -> list[tuple[str, str, str]]:
    """Return (own category, where it goes, the text) of each example, left out of the rest."""
    texts = [(name, text) for name in prototypes.names for text in book[name].examples]
    place = {name: number for number, name in enumerate(prototypes.names)}
    owners = np.array([place[name] for name, _ in texts], np.intp)
    moved = []
    for number, (own, text) in enumerate(texts):
        others = np.arange(len(texts)) != number
        weights, threshold = solve(prototypes.vectors[others], owners[others], prototypes.names)
        rest = replace(
            prototypes,
            vectors=prototypes.vectors[others],
            weights=weights,
            threshold=threshold,
        )
        moved.append((own, rest.classify(prototypes.vectors[number]), text))
    return moved


async def landings(data: Path, encoder: Encoder, prototypes: Prototypes) -> list[Landing]:
    """Return where the first queries of each kind go; a text that cannot be read goes nowhere."""
    found = []
    for source in SOURCES:
        queries: dict[str, list[str]] = {}
        for row in rows_of(data / f"{source.file}.jsonl"):
            kind = source.kind(row)
            if kind.startswith("hwu64") and kind not in SHOWN:
                continue
            window = encoder.first_window(source.text(row))
            if window is not None and len(queries.setdefault(kind, [])) < MOST:
                queries[kind].append(window)
        for kind, texts in sorted(queries.items()):
            vectors = await encode_all(encoder, texts)
            went = Counter(prototypes.classify(vector) for vector in vectors)
            shares = tuple((name, count / len(texts)) for name, count in went.most_common())
            found.append(Landing(kind, len(texts), shares))
    return found


def show_left_out(moved: Sequence[tuple[str, str, str]]) -> None:
    """Print how many examples come home, and the ones that do not."""
    home = sum(own == went for own, went, _ in moved)
    print(f"\nStarter examples left out once: {home} of {len(moved)} go to their own category")
    for own, went, text in moved:
        if went != own:
            print(f"  {own} -> {went}: {text}")


def show_landings(landed: Sequence[Landing]) -> None:
    """Print the largest shares of each kind."""
    print("\n| queries | count | go to |")
    print("| --- | --- | --- |")
    for kind, asked, shares in landed:
        said = ", ".join(f"{name} {share:.2f}" for name, share in shares if share >= 0.02)
        print(f"| {kind} | {asked} | {said} |")
