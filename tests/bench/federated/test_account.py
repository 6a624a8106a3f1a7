"""What a run comes to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from bench.federated.account import Account, account, record, table, targets
from bench.federated.jobs import BASE, CENTRAL, FEDERATED, Job, Made, Trial, all_texts
from bench.federated.rows import JUDGED, PairSet, read
from embed.encoder import Vectors

FOLDS = 2


def unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    for name in JUDGED:
        rows = [
            {"q1": f"{name} s{i}", "q2": f"{name} q{i}", "label": int(i % 3 == 0)}
            for i in range(150)
        ]
        (tmp_path / f"pairs_{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Trial(data=tmp_path, folds=FOLDS, clients=2)


def told_of(trial: Trial) -> tuple[PairSet, dict[Job, Made], Account]:
    """The trained encoders put right pairs together; the bundled one knows nothing."""
    rows = read(trial.data, trial.folds, trial.seed)
    texts = all_texts(rows, trial.data)
    chance = np.random.default_rng(0)
    blind = unit(chance.normal(size=(len(texts), 384)).astype(np.float32))
    seeing = blind.copy()
    places = {text: place for place, text in enumerate(texts)}
    for pair in rows.pairs:
        if pair.label:
            seeing[places[pair.query]] = seeing[places[pair.stored]]
    made = {Job(BASE, -1): Made(blind, {})}
    for fold in range(FOLDS):
        made |= {Job(way, fold): Made(seeing, {"steps": 1}) for way in (FEDERATED, CENTRAL)}
    return rows, made, account(rows, trial, made)


def test_an_encoder_that_sees_gains_and_pca_is_judged_beside_it(trial: Trial) -> None:
    rows, made, told = told_of(trial)
    data = record(rows, trial, made, told, {"minutes": 1.0})
    names = {f"pairs_{name}.jsonl" for name in JUDGED}
    for way in (BASE, FEDERATED, CENTRAL):
        assert data[way].keys() == names
    assert all(value == 1.0 for value in data[FEDERATED].values())
    assert all(value < 0.8 for value in data[BASE].values())
    assert told.share_of_central == pytest.approx(1.0)
    assert data["by_threshold"][BASE]["pairs_sts16.jsonl"]["false_hit_rate"] > 0
    pca = data["pca"]
    assert pca["storage_saved"] >= 0.6 and pca["sites_that_tell"] == [2, 2]
    assert pca["recall_at_1_whole"] == 1.0 and pca["asked"] == 200
    json.loads(orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY))


def test_the_tables_say_what_was_measured_and_what_fails(trial: Trial) -> None:
    _, _, told = told_of(trial)
    shown = table(told)
    assert "| pairs_gsmplus.jsonl | federated | 1.000 | +" in shown
    assert "| mean | federated, PCA 128 |" in shown
    held = dict(targets(told, minutes=61.0, round_s=20.0))
    assert list(held.values()) == [True, True, True, False, True]


def test_a_trial_is_named_by_its_settings_and_its_files(trial: Trial) -> None:
    before = trial.digest()
    assert Trial(data=trial.data, folds=FOLDS, clients=2).digest() == before
    assert Trial(data=trial.data, folds=FOLDS, clients=2, seed=5).digest() != before
    file = trial.data / "pairs_nqopen.jsonl"
    file.write_text(file.read_text().splitlines()[0])
    assert trial.digest() != before
