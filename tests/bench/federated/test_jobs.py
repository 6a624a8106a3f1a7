"""What a run that was cut off left is not made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orjson

from bench.federated import jobs
from bench.federated.jobs import BASE, Job, Trial, minutes_before, run_all, sites_of
from bench.federated.rows import JUDGED, read


def trial_in(folder: Path) -> Trial:
    for name in JUDGED:
        rows = [{"q1": f"{name} s{i}", "q2": f"{name} q{i}", "label": i % 2} for i in range(20)]
        (folder / f"pairs_{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Trial(data=folder, folds=2, clients=3)


def test_encoders_that_are_there_are_read_and_the_time_they_took_counts(
    tmp_path: Path,
) -> None:
    trial = trial_in(tmp_path)
    place = tmp_path / "scratch" / trial.digest()
    place.mkdir(parents=True)
    names = ["base", *(f"{way}-{fold}" for way in ("federated", "central") for fold in (0, 1))]
    for name in names:
        facts = np.frombuffer(orjson.dumps({"steps": len(name)}), np.uint8)
        np.savez(place / f"{name}.npz", vectors=np.eye(2, dtype=np.float32), facts=facts)
    (place / jobs.MINUTES).write_text("12.5")
    said: list[str] = []
    made = run_all(trial, tmp_path / "scratch", 1, said.append)
    assert said == ["5 encoders, 5 of them made before"]
    assert made[Job(BASE, -1)].facts == {"steps": 4} and len(made) == 5
    assert minutes_before(trial, tmp_path / "scratch") == 12.5
    assert minutes_before(trial, tmp_path / "elsewhere") == 0.0


def test_a_site_has_its_own_chosen_pairs(tmp_path: Path) -> None:
    trial = trial_in(tmp_path)
    rows = read(tmp_path, 2, 1)
    owners = np.arange(len(rows.pairs)) % 3
    sites = sites_of(rows, trial, owners, rows.trained(0))
    assert sum(map(len, sites)) == int(rows.trained(0).sum()) > 0
    assert not (rows.trained(0) & (rows.folds == 0)).any()
    for number, site in enumerate(sites):
        assert all(rows.pairs.index(pair) % 3 == number for pair in site)
