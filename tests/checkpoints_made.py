"""Real checkpoints, made in a second from the bundled one, and pairs that tell them apart."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from embed.checkpoint import (
    MANIFEST,
    WEIGHTS,
    Checkpoint,
    Lineage,
    Precision,
    bundled_checkpoint_dir,
    write_manifest,
)
from embed.export import ensure_bundled
from store.documents.records import Pair
from store.documents.sqlite import SqliteDocuments
from store.entry import EntryId

NAME = "minilm-l6-v2-federated"
KEPT = 3  # numbers of a worn encoder's vectors that say something
LINEAGE = Lineage(parent="worn", rounds=2, clients=2, pairs=300, thresholds={"": 0.6})
_LAST = (
    "bert.encoder.layer.5.output.LayerNorm.weight",
    "bert.encoder.layer.5.output.LayerNorm.bias",
)
_LOOKS = "red blue green black white yellow grey brown pink purple orange silver".split() + (
    "wooden plastic glass leather paper cotton rubber copper stone woollen velvet marble".split()
)
_THINGS = "kettle ladder carpet mirror bicycle curtain bottle jacket teapot window".split() + (
    "basket pillow hammer candle saddle fence bucket violin suitcase lantern".split()
)


def bundled() -> Checkpoint:
    """Return the bundled checkpoint, which is built if nobody has done so."""
    return ensure_bundled(bundled_checkpoint_dir(), lambda line: None)


def trained(directory: Path) -> Checkpoint:
    """Make a checkpoint that encodes as the bundled one does, and says that it was trained."""
    return _made(directory, NAME, worn=False)


def worn(directory: Path) -> Checkpoint:
    """Make a checkpoint that has lost most of what it knew."""
    return _made(directory, "minilm-l6-v2-worn", worn=True)


def _made(directory: Path, name: str, *, worn: bool) -> Checkpoint:
    source = bundled()
    directory.mkdir(parents=True)
    for file in source.files:
        if file != MANIFEST:
            shutil.copyfile(source.directory / file, directory / file)
    if worn:
        _wear(directory / WEIGHTS[Precision.FP32])
    return write_manifest(
        directory,
        name=name,
        dimension=source.dimension,
        max_tokens=source.max_tokens,
        precision=Precision.FP32,
        source=source.source,
        lineage=None if worn else LINEAGE,
    )


def _wear(weights: Path) -> None:
    model = onnx.load(str(weights))
    for tensor in model.graph.initializer:
        if tensor.name in _LAST:
            values = numpy_helper.to_array(tensor).copy()
            values[KEPT:] = 0.0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(weights))


def questions(count: int) -> list[tuple[str, str, int]]:
    """Return (asked, stored, label): rewordings, and questions about another thing, by turns.

    No text occurs twice.
    """
    things = [f"{look} {thing}" for thing in _THINGS for look in _LOOKS]
    order = np.random.default_rng(7).permutation(len(things))
    names = iter(things[i] for i in order)
    found = []
    for number in range(count):
        thing = next(names)
        other = thing if number % 2 else next(names)
        asked, stored = f"How do I clean a {thing}?", f"My {other} is dirty, what should I do?"
        found.append((asked, stored, number % 2))
    return found


async def label(directory: Path, count: int) -> None:
    """Have so many pairs in a data directory that nobody serves, as audits would have labelled."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    documents = SqliteDocuments.open(directory)
    for number, (asked, stored, verdict) in enumerate(questions(count)):
        pair = Pair(
            at=datetime(2026, 11, 30, tzinfo=UTC),
            tenant="default",
            event=f"audit:{number}",
            query=asked,
            entry_query=stored,
            entry_id=EntryId(f"{number:032x}"),
            similarity=0.9,
            label=verdict,
            category="default",
            source="audit",
        )
        await documents.records.add_pair(pair)
    await documents.aclose()
