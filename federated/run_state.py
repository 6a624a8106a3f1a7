"""What a run has come to, on the server's disk: after a crash the next start goes on from there."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from federated.options import RunOptions
from federated.task import FloatArray, State

RECORD, STATE, BEST, OPTIMIZER = "run.json", "state.npz", "best.npz", "optimizer.npz"
CHECKPOINT = "checkpoint"  # the directory beside them that the run ends with
LOCK = ".lock"  # in `output`
_ENDLESS = ("num_server_rounds", "wait_for_clients", "round_timeout", "output", "patience")


class RunStateInvalid(Exception):
    """A kept run cannot be gone on with; one line says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The figures of a run so far: plain values, kept as JSON."""

    options: str  # digest of those that must not change in between
    parent: str  # id of the checkpoint it started from
    round: int = 0  # rounds whose training has been averaged
    asked: int = 0  # times that sites were asked to train, also in a round that came to nothing
    clients: int = 0  # the most that trained in one round
    pairs: int = 0  # the most that were trained on in one round
    best_round: int = -1  # whose state did best; -1: none was judged yet
    best_score: float = -1.0  # its F0.5
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of the best state
    history: Sequence[Mapping[str, Any]] = ()  # one object a judged state
    checkpoint: str = ""  # id, once the run has ended


class RunDirectory:
    """One run's directory; every file in it is replaced whole."""

    def __init__(self, directory: Path) -> None:
        self.path = directory

    @classmethod
    def newest(cls, output: Path) -> RunDirectory:
        """Return the directory of the run that has not ended, else that of a new one.

        Runs are numbered directories in `output`. The record is written last: a directory without
        one holds nothing yet.
        """
        output.mkdir(parents=True, exist_ok=True)
        numbers = sorted(int(d.name) for d in output.iterdir() if d.name.isdigit())
        if numbers:
            last = cls(output / f"{numbers[-1]:04d}")
            record = last.record()
            if record is None or not record.checkpoint:
                return last
        fresh = output / f"{(numbers[-1] if numbers else 0) + 1:04d}"
        fresh.mkdir()
        return cls(fresh)

    @classmethod
    def last(cls, output: Path) -> RunRecord | None:
        """Return the record of the newest run in `output`, ended or not; None if there is none."""
        numbers = sorted(int(d.name) for d in output.iterdir() if d.name.isdigit())
        return cls(output / f"{numbers[-1]:04d}").record() if numbers else None

    def record(self) -> RunRecord | None:
        """Return what was kept, None in a new directory; raise RunStateInvalid if it is damaged."""
        try:
            kept = json.loads((self.path / RECORD).read_text())
            return RunRecord(**kept)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise RunStateInvalid(f"{self.path / RECORD} cannot be read: {error}") from None

    def save(
        self, record: RunRecord, state: State, optimizer: State, *, best: State | None = None
    ) -> None:
        """Keep a round; `best` where its state is the best so far. The record goes last."""
        if best is not None:
            self._replace(f"{record.best_round}-{BEST}", best)
        self._replace(f"{record.round}-{STATE}", state)
        self._replace(f"{record.round}-{OPTIMIZER}", optimizer)
        self.note(record)
        kept = {f"{record.round}-{STATE}", f"{record.round}-{OPTIMIZER}"}
        kept.add(f"{record.best_round}-{BEST}")
        for file in self.path.glob("*.npz"):
            if file.name not in kept:
                file.unlink()

    def note(self, record: RunRecord) -> None:
        """Keep a record while the states that were kept stay what they are."""
        _write(self.path / RECORD, (json.dumps(asdict(record), indent=2) + "\n").encode())

    def end(self, record: RunRecord, checkpoint: str) -> RunRecord:
        """Note which checkpoint the run ended with; the weights of its rounds go."""
        ended = replace(record, checkpoint=checkpoint)
        self.note(ended)
        for file in self.path.glob("*.npz"):
            file.unlink()
        return ended

    def state(self, record: RunRecord) -> dict[str, FloatArray]:
        """Return the state after the last round kept."""
        return self._load(f"{record.round}-{STATE}")

    def optimizer(self, record: RunRecord) -> dict[str, FloatArray]:
        """Return what the server's optimiser remembered after it."""
        return self._load(f"{record.round}-{OPTIMIZER}")

    def best(self, record: RunRecord) -> dict[str, FloatArray]:
        """Return the state that did best so far."""
        return self._load(f"{record.best_round}-{BEST}")

    def _replace(self, name: str, arrays: State) -> None:
        with tempfile.TemporaryFile() as file:
            np.savez(file, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
            file.seek(0)
            _write(self.path / name, file.read())

    def _load(self, name: str) -> dict[str, FloatArray]:
        try:
            with (self.path / name).open("rb") as file, np.load(file) as kept:
                return {key: kept[key] for key in kept.files}
        except (OSError, EOFError, ValueError, BadZipFile) as error:
            raise RunStateInvalid(f"{self.path / name} cannot be read: {error}") from None


@contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Hold the right to write runs to `output`; raise RunStateInvalid while another run does.

    It would take this one's directory for its own, as that of a run that a crash has ended. The
    kernel frees the lock when its holder dies.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunStateInvalid(
                f"another run writes to {output}: wait for its end, or give another output"
            ) from None
        yield


def digest_of(options: RunOptions) -> str:
    """Return what tells whether a run may go on with these options: rounds and waits may change."""
    kept = {name: value for name, value in asdict(options).items() if name not in _ENDLESS}
    return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _write(file: Path, data: bytes) -> None:
    """Replace a file whole: after a power cut it is the old one or the new one."""
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(file)
