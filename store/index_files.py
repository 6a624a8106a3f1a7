"""A PartitionedIndex as files: its graphs as hnswlib keeps them, not to be built again.

Who lives is written by ordinals into two lists that the caller keeps: of ids and of partition keys.
So ids and keys are one object in memory each, whoever else refers to them.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from store.entry import EntryId, PartitionKey
from store.flat import NO_LABEL
from store.hnsw import Graph
from store.index import PROMOTE_ROWS, PartitionedIndex
from store.labels import SLOT_MASK
from store.partition import Partition

NOBODY = -1
ABOUT = "index.json"
COLUMNS = {"last": np.int64, "homes": np.int32, "owners": np.int32, "keys": np.int32}  # by slot
MATRIX_LABELS, MATRIX_ROWS = "matrix-labels.bin", "matrix-rows.bin"

Ints = npt.NDArray[np.int32]
Labelled = npt.NDArray[np.int64]


def save_index(
    index: PartitionedIndex,
    folder: Path,
    ids: Mapping[EntryId, int],
    keys: Mapping[PartitionKey, int],
) -> int:
    """Write all of the index into a folder; return how many vectors it holds.

    Take it inside `index.still()`. Raises KeyError when an id or key of the index is in neither
    mapping, OSError when it cannot be written.
    """
    table = index.labels
    owners = np.full(len(table.last), NOBODY, np.int32)
    places = np.full(len(table.last), NOBODY, np.int32)
    graphs = list[dict[str, int | bool]]()
    matrix_labels = list[Labelled]()
    with (folder / MATRIX_ROWS).open("wb") as rows:
        for key, partition in index.contents():
            number = keys[key]
            for id, label in partition.labels.items():
                owners[label & SLOT_MASK] = ids[id]
                places[label & SLOT_MASK] = number
            view = partition.flat.view()
            held = np.flatnonzero(view.labels != NO_LABEL)
            matrix_labels.append(view.labels[held])
            view.rows[held].tofile(rows)
            for graph in partition.graphs:
                graph.save(folder / graph_file(graph.number))
                about = (number, graph.number, graph.capacity, graph.closed)
                graphs.append(
                    dict(zip(("key", "number", "capacity", "closed"), about, strict=True))
                )
    columns: tuple[npt.NDArray[Any], ...] = (
        np.array(table.last, np.int64),
        np.array(table.homes, np.int32),
        owners,
        places,
    )
    for name, column in zip(COLUMNS, columns, strict=True):
        column.tofile(folder / f"{name}.bin")
    np.concatenate([np.empty(0, np.int64), *matrix_labels]).tofile(folder / MATRIX_LABELS)
    last_graph = table.graphs
    (folder / ABOUT).write_bytes(orjson.dumps({"graphs": graphs, "last_graph": last_graph}))
    return int(np.count_nonzero(owners != NOBODY))


def load_index(
    folder: Path,
    dimension: int,
    ids: Sequence[EntryId],
    keys: Sequence[PartitionKey],
    *,
    promote_rows: int = PROMOTE_ROWS,
    threads: int | None = None,
) -> PartitionedIndex:
    """Return the index that `save_index` wrote, with the same lists of ids and keys.

    Raises OSError, ValueError, IndexError, KeyError or RuntimeError when the files contradict
    each other.
    """
    about = orjson.loads((folder / ABOUT).read_bytes())
    last, homes, owners, places = (
        np.fromfile(folder / f"{name}.bin", kind) for name, kind in COLUMNS.items()
    )
    if not len(last) == len(homes) == len(owners) == len(places):
        raise ValueError("columns of the label table differ in length")
    index = PartitionedIndex(dimension, promote_rows=promote_rows, threads=threads)
    index.labels.restore(
        [None if number == NOBODY else ids[number] for number in owners.tolist()],
        array("q", last.tobytes()),
        array("i", homes.tobytes()),
        about["last_graph"],
    )
    partitions = {}
    for slots in by_value(places):
        partition = partitions[int(places[slots[0]])] = Partition(dimension, index.labels)
        index.adopt(keys[places[slots[0]]], partition)
        partition.labels = {
            ids[owner]: label
            for owner, label in zip(owners[slots].tolist(), last[slots].tolist(), strict=True)
        }
    load_matrices(folder, dimension, places, partitions)
    for graph in about["graphs"]:
        number, partition = graph["number"], partitions[graph["key"]]
        living = np.asarray(last[homes == number], np.int64)
        loaded = Graph.load(
            folder / graph_file(number),
            dimension,
            graph["capacity"],
            number,
            living,
            closed=graph["closed"],
        )
        partition.graphs = (*partition.graphs, loaded)
    return index


def load_matrices(
    folder: Path, dimension: int, places: Ints, partitions: Mapping[int, Partition]
) -> None:
    """Give every partition its flat matrix."""
    labels = np.fromfile(folder / MATRIX_LABELS, np.int64)
    rows = np.fromfile(folder / MATRIX_ROWS, np.float32).reshape(len(labels), dimension)
    for held in by_value(places[labels & SLOT_MASK]):
        partition = partitions[int(places[labels[held[0]] & SLOT_MASK])]
        partition.flat.fill(labels[held], rows[held])


def by_value(values: Ints) -> list[Labelled]:
    """Return, for each value but NOBODY, the ascending places where it stands."""
    order = np.argsort(values, kind="stable")
    order = order[np.searchsorted(values, 0, sorter=order) :]
    if not len(order):
        return []
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


def graph_file(number: int) -> str:
    """Return a graph's file name."""
    return f"graph-{number}.hnsw"
