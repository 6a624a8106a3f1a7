"""A checkpoint directory vouches for itself; anything off is one clear line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from embed.checkpoint import (
    Checkpoint,
    Lineage,
    Precision,
    Source,
    bundled_checkpoint_dir,
    identify,
    write_manifest,
)
from embed.errors import CheckpointInvalid

FILES = ("model.onnx", "model-int8.onnx", "tokenizer.json")


LINEAGE = Lineage(
    parent="minilm-l6-v2-0123456789ab",
    rounds=3,
    clients=2,
    pairs=400,
    metrics={"f_beta": 0.75, "clients": 2},
    thresholds={"": 0.83, "code": 0.9},
    privacy={"secure_aggregation": True, "noise": 0.5},
)


def write(
    directory: Path,
    *,
    precision: Precision = Precision.FP32,
    weights: str = "",
    lineage: Lineage | None = None,
) -> Path:
    """Make a sound checkpoint directory with stand-ins for the files."""
    directory.mkdir(exist_ok=True)
    for name in FILES:
        (directory / name).write_text(f"content of {name}{weights}")
    write_manifest(
        directory,
        name="minilm-l6-v2",
        dimension=384,
        max_tokens=256,
        precision=precision,
        source=Source(package="some-model", version="1.0", licence="MIT"),
        lineage=lineage,
    )
    return directory


def edit(directory: Path, **changes: Any) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    for key, value in changes.items():
        manifest[key] = value
    (directory / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_written_is_what_loads(tmp_path: Path) -> None:
    directory = write(tmp_path)
    checkpoint = Checkpoint.load(directory)
    assert checkpoint.dimension == 384
    assert checkpoint.max_tokens == 256
    assert checkpoint.precision is Precision.FP32
    assert set(checkpoint.files) == set(FILES)
    assert checkpoint.source.package == "some-model"
    assert checkpoint.created.tzinfo is not None
    assert checkpoint.weights(Precision.INT8) == directory / "model-int8.onnx"
    assert checkpoint.tokenizer == directory / "tokenizer.json"
    assert checkpoint.id.startswith("minilm-l6-v2-")


def test_where_a_trained_checkpoint_comes_from_is_written_and_read(tmp_path: Path) -> None:
    assert Checkpoint.load(write(tmp_path / "trained", lineage=LINEAGE)).lineage == LINEAGE
    bundled = write(tmp_path / "bundled")
    assert Checkpoint.load(bundled).lineage is None
    assert "lineage" not in json.loads((bundled / "manifest.json").read_text())


def test_figures_of_rounds_are_read_and_a_manifest_without_them_is_as_before(
    tmp_path: Path,
) -> None:
    judged = ({"round": 0, "judged": 40, "f05": 0.7}, {"round": 1, "judged": 40, "f05": 0.75})
    known = replace(LINEAGE, history=judged)
    assert Checkpoint.load(write(tmp_path / "known", lineage=known)).lineage == known
    without = write(tmp_path / "without", lineage=LINEAGE)
    assert "history" not in json.loads((without / "manifest.json").read_text())["lineage"]
    assert Checkpoint.load(without).lineage == LINEAGE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"metrics": {"loss": float("nan")}}, id="a metric that is no number"),
        pytest.param({"thresholds": {"code": 1.5}}, id="a threshold that is no cosine"),
        pytest.param({"rounds": -1}, id="a negative count"),
    ],
)
def test_a_lineage_that_would_not_load_is_not_written(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointInvalid, match="lineage"):
        write(tmp_path, lineage=replace(LINEAGE, **changes))
    assert not (tmp_path / "manifest.json").exists()


def test_the_same_content_has_the_same_id_wherever_it_lies(tmp_path: Path) -> None:
    here, there = write(tmp_path / "a"), write(tmp_path / "b")
    assert Checkpoint.load(here).id == Checkpoint.load(there).id


def test_ids_differ_by_weights_tokenizer_and_precision(tmp_path: Path) -> None:
    plain = Checkpoint.load(write(tmp_path / "a"))
    other_weights = Checkpoint.load(write(tmp_path / "b", weights="!"))
    other_default = Checkpoint.load(write(tmp_path / "c", precision=Precision.INT8))
    ids = {plain.id, other_weights.id, other_default.id}
    assert len(ids) == 3
    assert plain.id_at(Precision.INT8) == other_default.id


def test_an_id_tells_its_parts_apart() -> None:
    assert identify("name", "ab", "c") != identify("name", "a", "bc")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    directory = write(tmp_path)
    (directory / name).unlink()
    with pytest.raises(CheckpointInvalid, match=f"incomplete: {name} cannot be read: No such file"):
        Checkpoint.load(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    directory = write(tmp_path)
    with (directory / name).open("a") as file:
        file.write("x")
    with pytest.raises(CheckpointInvalid, match=f"damaged: {name} has SHA-256"):
        Checkpoint.load(directory)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({"format": 0}, "format is 0, allowed: 1", id="an older format"),
        pytest.param({"dimension": 0}, "dimension is 0, allowed: a positive", id="no dimension"),
        pytest.param({"dimension": "384"}, "dimension is '384'", id="dimension as text"),
        pytest.param({"max_tokens": True}, "max_tokens is True", id="window as boolean"),
        pytest.param({"name": ""}, "name is '', allowed: a name", id="no name"),
        pytest.param(
            {"precision": "fp8"}, "precision is 'fp8', allowed: fp32 or int8", id="precision"
        ),
        pytest.param({"precision": ["fp32"]}, "precision is ", id="precision as list"),
        pytest.param({"source": {}}, "source or created: .*missing", id="source without a package"),
        pytest.param({"source": None}, "source or created: ", id="no source"),
        pytest.param({"created": "today"}, "source or created: .*'today'", id="date"),
        pytest.param({"files": []}, r"files is \[\], allowed: an object", id="files as list"),
        pytest.param({"files": {}}, "files: model.onnx is not listed", id="no files"),
        pytest.param(
            {"files": dict.fromkeys(FILES, "0" * 64) | {"../secret": "0" * 64}},
            "files.../secret is .* allowed: a file beside it",
            id="a file elsewhere",
        ),
        pytest.param(
            {"files": dict.fromkeys(FILES, 7)}, "files.model.onnx is 7", id="digest as number"
        ),
        pytest.param(
            {"files": dict.fromkeys([*FILES, "a\0b"], "0" * 64)}, "files.a", id="a zero in a name"
        ),
        pytest.param(
            {"files": dict.fromkeys([*FILES, "\ud800"], "0" * 64)}, "files.", id="half a character"
        ),
        pytest.param({"id": "minilm-l6-v2-0"}, "id is 'minilm-l6-v2-0', allowed", id="other id"),
        pytest.param({"id": None}, "id is None, allowed", id="no id"),
        pytest.param({"lineage": []}, r"lineage is \[\], allowed: an object of", id="no lineage"),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"texts": []}},
            "allowed: an object of",
            id="text",
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"parent": None}},
            "lineage.parent is None",
            id="no parent",
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"pairs": 1.5}}, "lineage.pairs is 1.5", id="half a pair"
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"metrics": {"loss": True}}},
            "lineage.metrics.loss is True, allowed: a number",
            id="a metric that is a boolean",
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"metrics": {"loss": 10**400}}},
            "lineage.metrics.loss is 1000",
            id="a metric beyond all floats",
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"thresholds": [0.9]}},
            "lineage.thresholds is",
            id="thresholds as list",
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"privacy": None}}, "lineage.privacy", id="no privacy"
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"history": [{"round": 0}, {"f05": "good"}]}},
            r"lineage.history\[1\].f05 is 'good', allowed: a number",
            id="a figure of a round that is a text",
        ),
        pytest.param(
            {"lineage": asdict(LINEAGE) | {"history": {}}},
            "lineage.history is {}, allowed: a list",
            id="history as object",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    directory = write(tmp_path)
    edit(directory, **changes)
    with pytest.raises(CheckpointInvalid, match=line) as caught:
        Checkpoint.load(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(None, "holds no manifest.json", id="no manifest"),
        pytest.param("{", "manifest.json cannot be read", id="half a manifest"),
        pytest.param("[]", "manifest.json is not a JSON object", id="not an object"),
        pytest.param("\x00\udcff", "manifest.json cannot be read", id="binary"),
        pytest.param("[" * 100_000, "manifest.json cannot be read", id="nested deeply"),
    ],
)
def test_a_broken_manifest_is_one_line(tmp_path: Path, content: str | None, line: str) -> None:
    directory = write(tmp_path)
    (directory / "manifest.json").unlink()
    if content is not None:
        (directory / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointInvalid, match=line):
        Checkpoint.load(directory)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match="nowhere holds no manifest.json"):
        Checkpoint.load(tmp_path / "nowhere")


def test_a_virtual_environment_that_can_be_written_holds_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert bundled_checkpoint_dir() == tmp_path / "share/nearhit/checkpoints/minilm-l6-v2"


def test_outside_a_virtual_environment_it_is_in_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bundled_checkpoint_dir() == tmp_path / ".cache/nearhit/checkpoints/minilm-l6-v2"


def test_one_built_into_an_image_is_found_where_nobody_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("embed.checkpoint.os.access", lambda path, mode: False)
    shipped = tmp_path / "share/nearhit/checkpoints/minilm-l6-v2"
    assert bundled_checkpoint_dir() != shipped
    shipped.mkdir(parents=True)
    write(shipped)
    assert bundled_checkpoint_dir() == shipped
