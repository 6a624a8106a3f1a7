"""A checkpoint: a versioned directory of weights, tokenizer and a manifest vouching for them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from embed.errors import CheckpointInvalid

FORMAT = 1  # raised whenever the export recipe changes, so that older directories are built anew
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
TRAINED = "trained.npz"  # of a trained checkpoint: parameter name -> float32 array
BUNDLED = "minilm-l6-v2"


class Precision(StrEnum):
    """How the weights are kept, and so which vectors come out."""

    FP32 = "fp32"
    INT8 = "int8"


WEIGHTS = {Precision.FP32: "model.onnx", Precision.INT8: "model-int8.onnx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the weights were taken from."""

    package: str
    version: str
    licence: str


MOST_JUDGED = 1000  # states of a run whose figures a checkpoint carries


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What a checkpoint was trained from, and what came of it: counts and figures, never text."""

    parent: str  # id of the checkpoint that training started from
    rounds: int
    clients: int
    pairs: int  # trained on, by all clients
    metrics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)  # category -> cosine; "": pooled
    privacy: Mapping[str, Any] = field(default_factory=dict)  # what kept the updates private
    # One object a judged state, in order: its `round`, the pairs `judged`, and the figures.
    history: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint directory."""

    directory: Path
    name: str
    dimension: int
    max_tokens: int
    precision: Precision  # the default one
    files: Mapping[str, str]  # file name -> SHA-256
    source: Source
    created: datetime
    lineage: Lineage | None = None  # None: it was not trained here

    @property
    def id(self) -> str:
        """The id of vectors made at the default precision."""
        return self.id_at(self.precision)

    def id_at(self, precision: Precision) -> str:
        """Return the id that vectors of this precision carry."""
        return identify(self.name, precision, self.files[WEIGHTS[precision]], self.files[TOKENIZER])

    def weights(self, precision: Precision) -> Path:
        """Return the path of this precision's ONNX file."""
        return self.directory / WEIGHTS[precision]

    @property
    def tokenizer(self) -> Path:
        """The path of tokenizer.json."""
        return self.directory / TOKENIZER

    @classmethod
    def load(cls, directory: Path) -> Checkpoint:
        """Read the manifest and verify every file; raise CheckpointInvalid with one line."""
        try:
            manifest = json.loads((directory / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise CheckpointInvalid(f"{directory} holds no {MANIFEST}") from None
        except (OSError, ValueError, RecursionError) as error:  # the last: nested too deeply
            raise CheckpointInvalid(f"{directory / MANIFEST} cannot be read: {error}") from None
        checkpoint = _parse(directory, manifest)
        for name, digest in checkpoint.files.items():
            try:
                found = digest_of(directory / name)
            except OSError as error:
                reason = f"{name} cannot be read: {error.strerror}"
                raise CheckpointInvalid(f"{directory} is incomplete: {reason}") from None
            if found != digest:
                reason = f"{name} has SHA-256 {found[:12]}..., its manifest says {digest[:12]}..."
                raise CheckpointInvalid(f"{directory} is damaged: {reason}")
        if manifest.get("id") != checkpoint.id:
            raise _fault(directory, "id", manifest.get("id"), f"{checkpoint.id!r} for these files")
        return checkpoint


def identify(name: str, *made_by: str) -> str:
    """Name an encoder by all that shapes its vectors, so that vectors of two never share an id."""
    return f"{name}-{hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:12]}"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(
    directory: Path,
    *,
    name: str,
    dimension: int,
    max_tokens: int,
    precision: Precision,
    source: Source,
    lineage: Lineage | None = None,
) -> Checkpoint:
    """Vouch for every file now in `directory`; return the checkpoint that load() will give.

    Raise CheckpointInvalid for a lineage that load() would refuse.
    """
    if lineage is not None:
        _parse_lineage(directory, asdict(lineage))
    checkpoint = Checkpoint(
        directory=directory,
        name=name,
        dimension=dimension,
        max_tokens=max_tokens,
        precision=precision,
        files={p.name: digest_of(p) for p in sorted(directory.iterdir()) if p.name != MANIFEST},
        source=source,
        created=datetime.now(UTC).replace(microsecond=0),
        lineage=lineage,
    )
    manifest = asdict(checkpoint) | {
        "format": FORMAT,
        "id": checkpoint.id,
        "created": checkpoint.created.isoformat(),
    }
    del manifest["directory"]
    if lineage is None:
        del manifest["lineage"]
    elif not lineage.history:
        del manifest["lineage"]["history"]  # as it was written before there were any
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return checkpoint


def bundled_checkpoint_dir() -> Path:
    """Return where the bundled checkpoint lives: the virtual environment, or the user's cache."""
    place = Path("share", "nearhit", "checkpoints", BUNDLED)
    shipped = Path(sys.prefix, place)
    in_virtualenv = sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK)
    # An image may build it as root and serve as a user who cannot write there.
    if in_virtualenv or (shipped / MANIFEST).exists():
        return shipped
    return Path.home() / ".cache" / "nearhit" / "checkpoints" / BUNDLED


def _parse(directory: Path, manifest: Any) -> Checkpoint:
    """Turn a manifest into a checkpoint whose files are not yet looked at."""
    if not isinstance(manifest, dict):
        raise CheckpointInvalid(f"{directory / MANIFEST} is not a JSON object")
    if manifest.get("format") != FORMAT:
        raise _fault(directory, "format", manifest.get("format"), str(FORMAT))
    for key in ("dimension", "max_tokens"):
        if type(manifest.get(key)) is not int or manifest[key] < 1:
            raise _fault(directory, key, manifest.get(key), "a positive integer")
    if not isinstance(manifest.get("name"), str) or not manifest["name"]:
        raise _fault(directory, "name", manifest.get("name"), "a name")
    if manifest.get("precision") not in list(Precision):
        raise _fault(directory, "precision", manifest.get("precision"), " or ".join(Precision))
    try:
        source = Source(**manifest["source"])
        created = datetime.fromisoformat(manifest["created"])
        if created.tzinfo is None:  # else nobody could say how old it is
            created = created.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointInvalid(f"{directory / MANIFEST}: source or created: {error}") from None
    return Checkpoint(
        directory=directory,
        name=manifest["name"],
        dimension=manifest["dimension"],
        max_tokens=manifest["max_tokens"],
        precision=Precision(manifest["precision"]),
        files=_parse_files(directory, manifest.get("files")),
        source=source,
        created=created,
        lineage=_parse_lineage(directory, manifest.get("lineage")),
    )


def _parse_lineage(directory: Path, said: Any) -> Lineage | None:
    """Return what a manifest says of where a checkpoint comes from; absent: None."""
    if said is None:
        return None
    names = set(Lineage.__dataclass_fields__)
    if not isinstance(said, dict) or not said.keys() <= names:
        raise _fault(directory, "lineage", said, f"an object of {', '.join(sorted(names))}")
    if not isinstance(said.get("parent"), str):
        raise _fault(directory, "lineage.parent", said.get("parent"), "a checkpoint's id")
    for key in ("rounds", "clients", "pairs"):
        if type(said.get(key)) is not int or said[key] < 0:
            raise _fault(directory, f"lineage.{key}", said.get(key), "an integer, 0 or more")
    for key in ("metrics", "thresholds"):
        _check_numbers(directory, f"lineage.{key}", said.get(key, {}))
    for category, cosine in said.get("thresholds", {}).items():
        if not -1 <= cosine <= 1:
            raise _fault(directory, f"lineage.thresholds.{category}", cosine, "a cosine")
    if not isinstance(said.get("privacy", {}), dict):
        raise _fault(directory, "lineage.privacy", said["privacy"], "an object")
    return Lineage(**{**said, "history": _parse_history(directory, said.get("history", ()))})


def _parse_history(directory: Path, said: Any) -> tuple[Mapping[str, float], ...]:
    if not isinstance(said, list | tuple) or len(said) > MOST_JUDGED:
        raise _fault(directory, "lineage.history", said, f"a list of at most {MOST_JUDGED}")
    for number, judged in enumerate(said):
        _check_numbers(directory, f"lineage.history[{number}]", judged)
    return tuple(said)


def _check_numbers(directory: Path, key: str, said: Any) -> None:
    if not isinstance(said, dict):
        raise _fault(directory, key, said, "an object of numbers")
    for name, number in said.items():
        if type(number) not in (int, float) or not abs(number) <= sys.float_info.max:
            raise _fault(directory, f"{key}.{name}", number, "a number")


def _parse_files(directory: Path, files: Any) -> dict[str, str]:
    """Return file name -> digest; every needed name there, no name leading elsewhere."""
    if not isinstance(files, dict):
        raise _fault(directory, "files", files, "an object of file names and SHA-256 digests")
    for name in (*WEIGHTS.values(), TOKENIZER):
        if name not in files:
            raise CheckpointInvalid(f"{directory / MANIFEST}: files: {name} is not listed")
    for name, digest in files.items():
        # What cannot be printed (a zero, half a surrogate pair) is no file's name either.
        strange = Path(name).name != name or not name.isprintable()
        if strange or not isinstance(digest, str):
            raise _fault(directory, f"files.{name}", digest, "a file beside it and its SHA-256")
    return files


def _fault(directory: Path, key: str, value: object, allowed: str) -> CheckpointInvalid:
    return CheckpointInvalid(f"{directory / MANIFEST}: {key} is {value!r}, allowed: {allowed}")
