"""What leaves a site: every message of whole runs is looked at. No text, no vector, no label."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord

from federated import client_app, task
from federated.model import SimilarityModel
from federated.pairs import LabelledPair
from federated.projection import LEAST_QUERIES
from federated.records import ARRAYS, KEY, MASKED, METRICS, SEED
from federated.task import Site
from tests.federated.in_process import (
    DIMENSION,
    Federation,
    TinyModel,
    federation,
    over_the_wire,
    pairs_of,
)

Options = Mapping[str, bool | int | float | str]
CATEGORIES = {"", "faq", "code"}
FIGURES = {"f05", "precision", "recall", "false_hit_rate", "loss"}
COUNTS = {"num-examples", "trained-examples"}
MOMENTS = 1 + DIMENSION + DIMENSION**2
STATE = sum(values.size for values in TinyModel().state().values())
MODES: dict[str, Options] = {
    "plain": {},
    "masked": {"secure_aggregation": True, "secure_least": 2},
    "central": {"central_dp": True},
    "central and masked": {"central_dp": True, "secure_aggregation": True, "secure_least": 2},
    "local": {"local_dp": True},
    "shorter vectors": {"pca_dimension": 4},
    "shorter vectors, masked": {
        "pca_dimension": 4,
        "secure_aggregation": True,
        "secure_least": 2,
    },
}


def check_arrays(record: ArrayRecord, kind: str, masked: bool) -> None:
    """An update or sums, of the only shapes that these have; under masks where that is on."""
    shapes = {name: array.shape for name, array in record.items()}
    types = {array.dtype for array in record.values()}
    if masked:
        size = MOMENTS if kind == "query.moments" else STATE + 1
        assert shapes == {MASKED: (size,)} and types == {"uint64"}
    elif kind == "query.moments":
        assert shapes == {ARRAYS: (MOMENTS,)}
    else:
        assert kind == "train"
        assert shapes == {name: values.shape for name, values in TinyModel().state().items()}
        assert types == {"float32"}


def check_metrics(record: MetricRecord, masked: bool) -> None:
    """Figures of a whole site, each one number: nothing with a row a pair."""
    for name, value in record.items():
        assert type(value) in (int, float), name
        prefix, _, category = name.partition(".")
        if prefix in ("threshold", "threshold-count"):
            assert category in CATEGORIES
        else:
            assert name in FIGURES | COUNTS
    assert not (masked and "trained-examples" in record)


def check_config(name: str, record: ConfigRecord) -> None:
    """A key, or the seed of one mask: 32 random bytes."""
    assert name in (KEY, SEED) and record.keys() == {name}
    value = record[name]
    assert isinstance(value, bytes) and len(value) == 32


def check(reply: Message, masked: bool) -> None:
    """Fail unless a reply is made of what may leave a site, and nothing else."""
    kind = reply.metadata.message_type
    for name, record in reply.content.items():
        if isinstance(record, ArrayRecord):
            assert name == ARRAYS
            check_arrays(record, kind, masked)
        elif isinstance(record, MetricRecord):
            assert name == METRICS
            check_metrics(record, masked)
        else:
            assert isinstance(record, ConfigRecord)
            check_config(name, record)


def sites_of(
    directory: Path, mode: str, count: int = 40
) -> tuple[list[list[LabelledPair]], Options]:
    count = LEAST_QUERIES if "pca_dimension" in MODES[mode] else count
    return [pairs_of(n, count, count // 2) for n in (1, 2, 3)], MODES[mode]


@pytest.mark.parametrize("mode", MODES)
def test_a_run_sends_nothing_but_weights_sums_figures_and_keys(mode: str, tmp_path: Path) -> None:
    lists, options = sites_of(tmp_path, mode)
    masked = bool(options.get("secure_aggregation"))
    with federation(tmp_path, lists, **options) as sites:
        sites.run()
    assert {r.metadata.src_node_id for r in sites.grid.replies} == {1, 2, 3}
    assert any(ARRAYS in reply.content for reply in sites.grid.replies)
    for reply in sites.grid.replies:
        assert not reply.has_error()
        check(reply, masked)
    if "pca_dimension" in options:
        kinds = [reply.metadata.message_type for reply in sites.grid.replies]
        assert kinds.count("query.moments") == 3


@pytest.mark.parametrize("mode", MODES)
def test_no_text_is_in_the_bytes_of_a_run(mode: str, tmp_path: Path) -> None:
    lists, options = sites_of(tmp_path, mode)
    with federation(tmp_path, lists, **options) as sites:
        sites.run()
    words = {word for pairs in lists for p in pairs for word in (p.query + " " + p.stored).split()}
    for reply in sites.grid.replies:
        data = over_the_wire(reply).lower()
        for word in words - {"stored"}:
            assert word.lower().encode() not in data
        for text in ("question", "wording"):
            assert text.encode() not in data


@pytest.mark.parametrize("mode", ["plain", "masked", "shorter vectors"])
def test_no_array_has_a_row_a_pair_or_holds_a_vector(mode: str, tmp_path: Path) -> None:
    lists, options = sites_of(tmp_path, mode)
    with federation(tmp_path, lists, **options) as sites:
        sites.run()
        vectors = TinyModel().encode([p.query for pairs in lists for p in pairs])
    held = {len(part) for pairs in lists for part in (pairs, Site.of(pairs).learns_from)}
    held |= {len(Site.of(pairs).judges) for pairs in lists}
    for reply in sites.grid.replies:
        for record in reply.content.array_records.values():
            for array in record.values():
                assert not held & set(array.shape) - {DIMENSION}
                rows = array.numpy().reshape(-1)[: DIMENSION * (array.numpy().size // DIMENSION)]
                for row in rows.reshape(-1, DIMENSION).astype(np.float64):
                    assert np.abs(vectors - row).max(axis=1).min() > 1e-3


def leak_text(sites: Federation, reply: Message) -> None:
    reply.content["note"] = ConfigRecord({"note": "site1 question number1"})


def leak_labels(sites: Federation, reply: Message) -> None:
    reply.content.metric_records[METRICS]["labels"] = [0, 1, 1]


def leak_vectors(sites: Federation, reply: Message) -> None:
    reply.content[ARRAYS] = ArrayRecord({"vectors": Array(np.zeros((3, DIMENSION), np.float32))})


@pytest.mark.parametrize("leak", [leak_text, leak_labels, leak_vectors])
def test_the_check_sees_a_leak(leak: Callable[[Federation, Message], None], tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2)]) as sites:
        sites.run()
        (first, *_) = [r for r in sites.grid.replies if r.metadata.message_type == "train"]
        leak(sites, first)
    with pytest.raises(AssertionError):
        check(first, masked=False)


def test_the_real_model_sends_its_trained_layers_and_nothing_of_its_words(
    tmp_path: Path, model: SimilarityModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [pairs_of(1), pairs_of(2)]
    options = {"trainable_layers": 1, "local_epochs": 1, "batch_size": 16, "num_server_rounds": 1}
    start = model.state()
    real = task.train
    with federation(tmp_path, lists, **options) as sites:
        monkeypatch.setattr(client_app, "_model", lambda _: model)
        monkeypatch.setattr(task, "train", real)
        monkeypatch.setattr(task, "open_model", lambda options, start=None: model)
        sites.run()
    (first, _) = [r for r in sites.grid.replies if r.metadata.message_type == "train"]
    sent = first.content.array_records[ARRAYS]
    assert {name: array.shape for name, array in sent.items()} == {
        name: values.shape for name, values in start.items()
    }
    assert all(re.match(r"encoder\.layer\.5\.", name) for name in sent)
    assert any(not np.array_equal(sent[name].numpy(), start[name]) for name in start)
    for reply in sites.grid.replies:
        data = over_the_wire(reply).lower()
        assert not any(word in data for word in (b"question", b"wording", b"stored"))
