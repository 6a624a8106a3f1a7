"""Labelled pairs of questions, and which stored question would answer each asked one.

The sets are public and not part of this repository; their texts are read from a folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embed.checkpoint import bundled_checkpoint_dir
from embed.encoder import Encoder, Vectors
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder
from store.decision.guards import veto

NEAREST = 8  # stored questions that are looked at, nearest first
CUT = 150  # words
TOGETHER = 256  # texts between two signs of life

Rows = list[dict[str, Any]]


class Found(NamedTuple):
    """The stored question that answers an asked one if the threshold lets it."""

    similarity: float
    right: bool


def rows_of(file: Path) -> Rows:
    """Return a JSONL file's rows."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def bundled_encoder() -> OnnxEncoder:
    """Return the encoder that is shipped, at its default precision."""
    return OnnxEncoder(ensure_bundled(bundled_checkpoint_dir(), lambda _: None))


async def encode_all(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Return a unit row a text, with progress on stderr."""
    parts = [np.empty((0, encoder.dimension), np.float32)]
    for start in range(0, len(texts), TOGETHER):
        parts.append(await encoder.encode(texts[start : start + TOGETHER]))
        done = min(start + TOGETHER, len(texts))
        sys.stderr.write(f"\rencoded {done} of {len(texts)} texts")
    sys.stderr.write("\n")
    return np.concatenate(parts)


def encode(texts: Sequence[str]) -> Vectors:
    """Return a unit row a text by the bundled encoder; long texts are cut."""

    async def run() -> Vectors:
        encoder = bundled_encoder()
        try:
            return await encode_all(encoder, [" ".join(t.split()[:CUT]) for t in texts])
        finally:
            await encoder.aclose()

    return asyncio.run(run())


def answers(
    files: Mapping[str, Rows], distractors: Sequence[str]
) -> tuple[dict[str, Found], dict[str, Found]]:
    """Return what answers each asked question, by cosine alone and with the guards.

    Every `q1` and every distractor is stored in one partition; every `q2` that is not itself stored
    is asked. The nearest stored question that no guard vetoes answers; it is right if some row
    labels it 1 with this `q2`.
    """
    every = [row for rows in files.values() for row in rows]
    stored = list(dict.fromkeys([row["q1"] for row in every] + list(distractors)))
    right: defaultdict[str, set[str]] = defaultdict(set)
    for row in every:
        if row["label"] == 1:
            right[row["q2"]].add(row["q1"])
    asked = sorted({row["q2"] for row in every} - set(stored))
    vectors = encode(stored + asked)
    similar = vectors[len(stored) :] @ vectors[: len(stored)].T
    nearest = np.argsort(-similar, axis=1)[:, :NEAREST]
    bare: dict[str, Found] = {}
    guarded: dict[str, Found] = {}
    for number, question in enumerate(asked):
        for candidate in nearest[number]:
            known = stored[candidate]
            found = Found(float(similar[number, candidate]), known in right[question])
            bare.setdefault(question, found)
            if veto(question, known) is None:
                guarded[question] = found
                break
    return bare, guarded
