"""A run's directory: what was kept last counts, and nothing half written does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federated.options import RunOptions
from federated.run_state import RunDirectory, RunRecord, RunStateInvalid, digest_of

STATE = {"encoder.layer.5.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
RECORD = RunRecord(options="abc", parent="minilm-1")


def test_a_round_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    run = RunDirectory.newest(tmp_path)
    record = replace(RECORD, round=1, best_round=1, thresholds={"": 0.8}, history=[{"round": 0}])
    run.save(record, STATE, {"mean.a": np.ones(2, np.float32)}, best=STATE)
    again = RunDirectory.newest(tmp_path)
    found = again.record()
    assert again.path == run.path and found == record
    for kept in (again.state(record), again.best(record)):
        np.testing.assert_array_equal(kept["encoder.layer.5.weight"], next(iter(STATE.values())))
    assert again.optimizer(record).keys() == {"mean.a"}


def test_a_crash_before_the_record_leaves_the_round_before(tmp_path: Path) -> None:
    run = RunDirectory.newest(tmp_path)
    run.save(replace(RECORD, round=1), STATE, {})
    later = {name: values + 1 for name, values in STATE.items()}
    np.savez(run.path / "2-state.npz", allow_pickle=False, **later)  # as far as a crash let it come
    record = run.record()
    assert record is not None and record.round == 1
    np.testing.assert_array_equal(
        run.state(record)["encoder.layer.5.weight"], STATE["encoder.layer.5.weight"]
    )


def test_only_the_last_and_the_best_state_are_kept(tmp_path: Path) -> None:
    run = RunDirectory.newest(tmp_path)
    for number in (1, 2, 3):
        record = replace(RECORD, round=number, best_round=2 if number > 1 else -1)
        run.save(record, STATE, {}, best=STATE if number == 2 else None)
    assert {f.name for f in run.path.iterdir()} == {
        "run.json",
        "3-state.npz",
        "3-optimizer.npz",
        "2-best.npz",
    }


def test_a_run_that_ended_keeps_its_figures_and_is_followed_by_the_next(tmp_path: Path) -> None:
    run = RunDirectory.newest(tmp_path)
    run.save(replace(RECORD, round=1), STATE, {})
    run.end(replace(RECORD, round=1), "minilm-2")
    assert [f.name for f in run.path.iterdir()] == ["run.json"]
    assert RunDirectory.newest(tmp_path).path.name == "0002"
    last = RunDirectory.last(tmp_path)
    assert last is None  # the second holds nothing yet


def test_a_damaged_record_is_told_in_one_line(tmp_path: Path) -> None:
    run = RunDirectory.newest(tmp_path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunStateInvalid, match="run.json cannot be read"):
        RunDirectory.newest(tmp_path)


def test_a_state_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunStateInvalid, match="4-state.npz cannot be read"):
        RunDirectory(tmp_path).state(replace(RECORD, round=4))


@pytest.mark.parametrize("kept", [b"", b"PK", b"PK\x03\x04 and no more of it"])
def test_a_damaged_state_is_told_in_one_line(kept: bytes, tmp_path: Path) -> None:
    (tmp_path / "4-state.npz").write_bytes(kept)
    with pytest.raises(RunStateInvalid, match="4-state.npz cannot be read"):
        RunDirectory(tmp_path).state(replace(RECORD, round=4))


def test_rounds_and_patience_may_change_in_a_run_and_nothing_that_shapes_it() -> None:
    options = RunOptions()
    assert digest_of(options) == digest_of(replace(options, num_server_rounds=9, output="other"))
    assert digest_of(options) != digest_of(replace(options, learning_rate=1e-3))
