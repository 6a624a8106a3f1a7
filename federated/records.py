"""What crosses between a site and the server: Flower's records from plain values, and back.

Everything that a site sends is made here, so this file is the list of what may leave one.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from federated.secure_sum import Floats, Words
from federated.task import Evaluated, FloatArray, State, Trained

# the records of a message
ARRAYS, METRICS, CONFIG = "arrays", "metrics", "config"
KEY, SEED = "key", "seed"  # of secure aggregation
# what a MetricRecord of a site may say
JUDGED, EXAMPLES, LOSS = "num-examples", "trained-examples", "loss"
FIGURES = ("f05", "precision", "recall", "false_hit_rate")
THRESHOLD, COUNT = "threshold.", "threshold-count."  # followed by a category's name
MASKED = "masked"  # the one array of a masked reply

ROUND = "server-round"
UNIFORM = "uniform"  # every client counts the same
PURPOSE = "purpose"  # of a masked sum: the kind of message that it is asked for with
EVALUATE, TRAIN = "evaluate", "train"
QUERY_KEY, QUERY_REMASK, QUERY_REVEAL = "query.key", "query.remask", "query.reveal"
QUERY_MOMENTS = "query.moments"

Number = TypeVar("Number", np.uint64, np.float64)


class ReplyInvalid(ValueError):
    """A site's reply cannot be used; one line says why."""


def arrays_of(state: State) -> ArrayRecord:
    """Return a state as a record, in its order."""
    return ArrayRecord({name: Array(np.ascontiguousarray(v)) for name, v in state.items()})


def state_of(record: ArrayRecord) -> dict[str, FloatArray]:
    """Return a record as a state; raise ReplyInvalid where an array cannot be read."""
    try:
        return {name: np.array(array.numpy(), np.float32) for name, array in record.items()}
    except Exception as error:  # whatever numpy makes of a site's bytes
        raise ReplyInvalid(f"an array cannot be read: {type(error).__name__}") from None


def metrics_of(judged: Evaluated, trained: Trained | None = None) -> MetricRecord:
    """Return what a site tells of its evaluation, and of its training if it was asked to."""
    told: dict[str, int | float | list[int] | list[float]] = {JUDGED: judged.pairs}
    told |= {name: float(judged.metrics[name]) for name in FIGURES if name in judged.metrics}
    for category, (value, count) in judged.thresholds.items():
        told[THRESHOLD + category] = float(value)
        told[COUNT + category] = int(count)
    if trained is not None:
        told |= {EXAMPLES: trained.examples, LOSS: float(trained.loss)}
    return MetricRecord(told)


def evaluated_of(content: RecordDict) -> Evaluated:
    """Return what a site told of its evaluation, without what is no number in its range."""
    record = content.metric_records.get(METRICS, MetricRecord())
    figures = {name: _between(record.get(name), 0.0, 1.0) for name in FIGURES}
    thresholds = {}
    for name in record:
        if name.startswith(THRESHOLD):
            category = name.removeprefix(THRESHOLD)
            value = _between(record[name], -1.0, 1.0)
            count = _count(record.get(COUNT + category))
            if value is not None and count:
                thresholds[category] = (value, count)
    known = {name: value for name, value in figures.items() if value is not None}
    return Evaluated(_count(record.get(JUDGED)) if known else 0, known, thresholds)


def examples_of(content: RecordDict) -> int:
    """Return how many pairs a site says that it trained on."""
    return _count(content.metric_records.get(METRICS, MetricRecord()).get(EXAMPLES))


def masked_of(content: RecordDict) -> Words | None:
    """Return a masked upload (n,), or None if there is none that can be read."""
    return _vector_of(content, MASKED, np.uint64)


def sums_of(content: RecordDict) -> Floats | None:
    """Return a site's sums over its vectors (n,), or None if there are none that can be read."""
    return _vector_of(content, ARRAYS, np.float64)


def masked_record(words: Words) -> ArrayRecord:
    """Return a masked upload as a record."""
    return ArrayRecord({MASKED: Array(words)})


def bytes_of(content: RecordDict, record: str, length: int) -> bytes | None:
    """Return the bytes that a site gave in the record of this name, if they have this length."""
    value = content.config_records.get(record, ConfigRecord()).get(record)
    return value if isinstance(value, bytes) and len(value) == length else None


def _vector_of(content: RecordDict, name: str, kind: type[Number]) -> npt.NDArray[Number] | None:
    array = content.array_records.get(ARRAYS, ArrayRecord()).get(name)
    if array is None:
        return None
    try:
        values = array.numpy()
    except Exception:  # what it says of itself need not be so
        return None
    return values if values.dtype == kind and values.ndim == 1 else None


def _between(value: object, least: float, most: float) -> float | None:
    if isinstance(value, int | float) and least <= value <= most:
        return float(value)
    return None


def _count(value: object) -> int:
    most = 2**31
    return value if isinstance(value, int) and 0 <= value < most else 0
