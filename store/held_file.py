"""Held entries as a file: columns of a few thousand entries each, in the order of their puts.

What many entries share (tenant, category, model, classifier, user, partition key) is written once
and is one object in memory afterwards. A block is the length of its JSON, the number of its vectors
of earlier turns, the JSON, the vectors.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from store.entry import EntryId, Held, PartitionKey, Vector

Past = tuple[Vector | None, ...]  # vectors of earlier turns
HeldWithPast = tuple[Held, Past]

HELD, NAMES = "held.bin", "names.json"
BLOCK = 2_000  # entries: one is read in about 10 ms
HEAD = struct.Struct("<II")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Names:
    """The ordinals of what entries refer to."""

    def __init__(self) -> None:
        self.ids: dict[EntryId, int] = {}
        self.keys: dict[PartitionKey, int] = {}
        self.texts: dict[str, int] = {}

    def text(self, text: str) -> int:
        """Return a text's ordinal."""
        return self.texts.setdefault(text, len(self.texts))

    def key(self, key: PartitionKey) -> int:
        """Return a key's ordinal."""
        return self.keys.setdefault(key, len(self.keys))

    def save(self, folder: Path) -> None:
        """Write them all."""
        parts = {
            "ids": list(self.ids),
            "keys": list(map(list, self.keys)),
            "texts": list(self.texts),
        }
        (folder / NAMES).write_bytes(orjson.dumps(parts))


class NameLists:
    """What `Names` wrote, by ordinal."""

    def __init__(self, folder: Path) -> None:
        parts = orjson.loads((folder / NAMES).read_bytes())
        self.ids: list[EntryId] = parts["ids"]
        self.texts = [intern(text) for text in parts["texts"]]
        known: dict[str, str] = {}  # half of a key is often the half of another
        self.keys = [
            PartitionKey(known.setdefault(partition, partition), known.setdefault(context, context))
            for partition, context in parts["keys"]
        ]


def save_held(
    entries: Iterable[Held], folder: Path, earlier: Mapping[EntryId, Past] | None = None
) -> Names:
    """Write the entries in their order; return the ordinals. Raises OSError.

    `earlier` has the vectors of earlier turns, of those entries that have any.
    """
    known = {} if earlier is None else earlier
    names, rest = Names(), iter(entries)
    with (folder / HELD).open("wb") as file:
        while block := list(itertools.islice(rest, BLOCK)):
            for held in block:
                names.ids[held.id] = len(names.ids)
            write_block(file, block, names, known)
    names.save(folder)
    return names


def write_block(
    file: BinaryIO, block: Sequence[Held], names: Names, known: Mapping[EntryId, Past]
) -> None:
    """Write one block."""
    earlier = [(row, held) for row, held in enumerate(block) if held.earlier]
    vectors = [v for _, held in earlier for v in known.get(held.id, ()) if v is not None]
    columns = {
        "key": [names.key(held.key) for held in block],
        "tenant": [names.text(held.tenant) for held in block],
        "category": [names.text(held.category) for held in block],
        "model": [names.text(held.model) for held in block],
        "classifier": [names.text(held.classifier) for held in block],
        "user": [names.text(held.user) for held in block],
        "query": [held.query for held in block],
        "created_at": [(held.created_at - EPOCH) // MICROSECOND for held in block],
        "size": [held.size for held in block],
        "cost": [held.cost for held in block],
        "shared_key": {row: held.shared_key for row, held in enumerate(block) if held.shared_key},
        "approved": [row for row, held in enumerate(block) if held.approved],
        "earlier": {
            row: [held.earlier, [v is not None for v in known.get(held.id, ())]]
            for row, held in earlier
        },
    }
    text = orjson.dumps(columns, option=orjson.OPT_NON_STR_KEYS)
    file.write(HEAD.pack(len(text), len(vectors)))
    file.write(text)
    for vector in vectors:
        file.write(vector.tobytes())


def load_held(folder: Path, dimension: int, names: NameLists) -> Iterator[list[HeldWithPast]]:
    """Yield the entries with the vectors of their earlier turns, a block at a time.

    Raises OSError, ValueError, KeyError, IndexError or struct.error when the file is not one that
    `save_held` wrote beside these names.
    """
    start = 0
    with (folder / HELD).open("rb") as file:
        while head := file.read(HEAD.size):
            length, count = HEAD.unpack(head)
            columns = orjson.loads(file.read(length))
            rows = np.frombuffer(file.read(count * dimension * 4), np.float32)
            block = read_block(columns, rows.reshape(count, dimension), names, start)
            start += len(block)
            yield block
    if start != len(names.ids):
        raise ValueError(f"{HELD} ends after {start} entries of {len(names.ids)}")


def read_block(
    columns: dict[str, Any], rows: npt.NDArray[np.float32], names: NameLists, start: int
) -> list[HeldWithPast]:
    """Return the entries of one block, whose first id is the one of ordinal `start`."""
    shared, approved = columns["shared_key"], set(columns["approved"])
    vectors = iter(rows)
    earlier = {
        row: (tuple(texts), tuple(next(vectors).copy() if there else None for there in pattern))
        for row, (texts, pattern) in columns["earlier"].items()
    }
    keys, texts, microseconds = names.keys, names.texts, MICROSECOND
    fields = zip(
        names.ids[start : start + len(columns["key"])],
        *(
            columns[name]
            for name in (
                "key", "tenant", "category", "query", "created_at", "size", "model", "classifier",
                "cost", "user",
            )
        ),
        strict=True,
    )  # fmt: skip
    none: tuple[tuple[str, ...], tuple[Vector | None, ...]] = ((), ())
    block: list[HeldWithPast] = []
    for row, (
        id, key, tenant, category, query, made, size, model, classifier, cost, user
    ) in enumerate(fields):  # fmt: skip
        before, before_vectors = earlier.get(str(row), none) if earlier else none
        held = Held(
            id,
            keys[key],
            texts[tenant],
            texts[category],
            query,
            EPOCH + made * microseconds,
            size,
            texts[model],
            texts[classifier],
            shared.get(str(row), "") if shared else "",
            row in approved,
            cost,
            before,
            texts[user],
        )
        block.append((held, before_vectors))
    return block
