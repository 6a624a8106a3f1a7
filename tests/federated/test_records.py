"""What crosses: values come back as they went, and what a site makes up does not count."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from federated.records import (
    ARRAYS,
    KEY,
    MASKED,
    METRICS,
    ReplyInvalid,
    arrays_of,
    bytes_of,
    evaluated_of,
    examples_of,
    masked_of,
    masked_record,
    metrics_of,
    state_of,
)
from federated.task import Evaluated, Trained

JUDGED = Evaluated(12, {"f05": 0.5, "recall": 1.0}, {"": (0.8, 12), "faq": (-0.1, 4)})


def test_a_state_comes_back_as_it_went_and_in_its_order() -> None:
    state = {"b": np.ones((2, 3), np.float32), "a": np.zeros(4, np.float32)}
    back = state_of(arrays_of(state))
    assert list(back) == ["b", "a"]
    for name, values in state.items():
        np.testing.assert_array_equal(back[name], values)


def test_figures_and_thresholds_come_back_as_they_went() -> None:
    told = RecordDict({METRICS: metrics_of(JUDGED, Trained(None, 7, 0.25))})
    assert evaluated_of(told) == JUDGED
    assert examples_of(told) == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("f05", 1.5),
        ("f05", float("nan")),
        ("recall", [1.0, 0.5]),
        ("threshold.faq", 7.0),
        ("threshold-count.faq", -3),
        ("threshold-count.faq", 2**40),
    ],
)
def test_what_is_out_of_range_does_not_count(name: str, value: float | list[float]) -> None:
    record = metrics_of(JUDGED)
    record[name] = value
    told = evaluated_of(RecordDict({METRICS: record}))
    if name.startswith("threshold"):
        assert told.thresholds.keys() == {""} and told.metrics == JUDGED.metrics
    else:
        assert name not in told.metrics and told.thresholds == JUDGED.thresholds


def test_a_reply_without_figures_judged_nothing() -> None:
    assert evaluated_of(RecordDict()).pairs == 0
    assert evaluated_of(RecordDict({METRICS: MetricRecord({"num-examples": 5})})).pairs == 0
    assert examples_of(RecordDict({METRICS: MetricRecord({"trained-examples": -1})})) == 0


def test_bytes_that_are_no_array_are_refused() -> None:
    bad = Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=b"nonsense")
    with pytest.raises(ReplyInvalid):
        state_of(ArrayRecord({"a": bad}))


def test_an_upload_is_one_row_of_words_or_none() -> None:
    words = np.arange(5, dtype=np.uint64)
    found = masked_of(RecordDict({ARRAYS: masked_record(words)}))
    assert found is not None and found.tolist() == words.tolist()
    for other in (words.astype(np.float64), words.reshape(1, 5)):
        assert masked_of(RecordDict({ARRAYS: ArrayRecord({MASKED: Array(other)})})) is None
    assert masked_of(RecordDict()) is None


def test_bytes_of_another_length_are_none() -> None:
    content = RecordDict({KEY: ConfigRecord({KEY: bytes(32)})})
    assert bytes_of(content, KEY, 32) == bytes(32)
    assert bytes_of(content, KEY, 16) is None
    assert bytes_of(RecordDict(), KEY, 32) is None
