"""Pairs in folds and among clients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.federated.rows import JUDGED, PairSet, clients_of, read, topics_of
from embed.encoder import Vectors


def written(folder: Path, *names: str, rows: int = 60) -> Path:
    """Write files in which every third pair shares its stored text with the one before."""
    for name in names:
        lines = [
            {"q1": f"{name} stored {i - (i % 3 == 2)}", "q2": f"{name} asked {i}", "label": i % 2}
            for i in range(rows)
        ]
        (folder / f"pairs_{name}_x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> PairSet:
    return read(written(tmp_path, *JUDGED, "other"), folds=5, seed=3)


def vectors_of(rows: PairSet) -> Vectors:
    made = np.random.default_rng(0).normal(size=(len(rows.pairs), 8)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


def test_no_text_is_in_two_folds_and_every_file_is_in_each(rows: PairSet) -> None:
    home: dict[str, int] = {}
    for pair, fold in zip(rows.pairs, rows.folds, strict=True):
        assert home.setdefault(pair.stored, fold) == home.setdefault(pair.query, fold) == fold
    for name in rows.judged:
        assert np.bincount(rows.folds[rows.file(name)], minlength=5).tolist() == [12] * 5


def test_another_seed_gives_other_folds(tmp_path: Path, rows: PairSet) -> None:
    assert (read(tmp_path, 5, 3).folds == rows.folds).all()
    assert (read(tmp_path, 5, 4).folds != rows.folds).any()


def test_the_judged_files_are_named_as_they_are(rows: PairSet) -> None:
    assert rows.judged == [f"pairs_{name}_x.jsonl" for name in JUDGED]
    assert len(rows.pairs) == 300 and len(rows.texts) == 500


def test_a_folder_without_a_judged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gsmplus"):
        read(written(tmp_path, "nqopen", "stackexchange", "sts16"), 5, 1)


def test_clients_differ_widely_and_no_text_is_at_two(rows: PairSet) -> None:
    owners = clients_of(rows, vectors_of(rows), clients=10, seed=1)
    assert ((owners >= 0) & (owners < 10)).all()
    home: dict[str, int] = {}
    for pair, owner in zip(rows.pairs, owners, strict=True):
        assert home.setdefault(pair.stored, owner) == owner
    sizes = np.bincount(owners, minlength=10)
    assert sizes.max() > 2 * max(1, sizes.min())
    assert (clients_of(rows, vectors_of(rows), 10, 1) == owners).all()


def test_topics_are_what_lies_together() -> None:
    near = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    topics = topics_of(near, 3, seed=2)
    assert topics[0] == topics[1] and topics[2] == topics[3] and topics[4] == topics[5]
    assert topics_of(near[:1], 3, seed=2).tolist() == [0]
