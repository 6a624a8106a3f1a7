"""The whole app in one process: a Grid whose sites answer at once, and a model of a few numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from embed.checkpoint import Lineage
from embed.encoder import Vectors
from federated import client_app, server_app, task
from federated.options import Config, RunOptions
from federated.pairs import LabelledPair
from federated.run_state import RunDirectory, RunRecord
from federated.simulate import write_pairs
from federated.task import FloatArray, Say, Site, State, Trained

RUN = 77
DIMENSION = 12
QUICK: Mapping[str, bool | int | float | str] = {
    "num-server-rounds": 2,
    "round-timeout": 0.05,
    "wait-for-clients": 0.05,
    "least-pairs": 4,
    "max-update-norm": 100.0,
}
Tamper = Callable[[Message], Message | None]  # what becomes of a reply; None: it never comes


class TinyModel:
    """Texts to unit vectors by a hash and one matrix; says what it was told as its state."""

    def __init__(self) -> None:
        self.weights = np.eye(DIMENSION, dtype=np.float32)
        self.bias = np.zeros(DIMENSION, np.float32)

    def state(self) -> dict[str, FloatArray]:
        return {"weights": self.weights.copy(), "bias": self.bias.copy()}

    def load_state(self, state: State) -> None:
        self.weights, self.bias = state["weights"].copy(), state["bias"].copy()

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = np.stack([hashed(text) for text in texts]) @ self.weights + self.bias
        unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


def hashed(text: str) -> FloatArray:
    """Return a vector of a text's words that is the same in every process."""
    total = np.zeros(DIMENSION, np.float32)
    for word in text.split():
        digest = hashlib.sha256(word.encode()).digest()[:DIMENSION]
        total += np.frombuffer(digest, np.uint8).astype(np.float32) / 128 - 1
    return total


def tiny_training(model: Any, site: Site, options: RunOptions, seed: int, say: Say) -> Trained:
    """Move every weight by a tenth of the share of label 1: known, and another at every site."""
    step = np.float32(share_of_ones(site) / 10)
    state = {name: values + step for name, values in model.state().items()}
    return Trained(state, len(site.learns_from), 0.5)


def share_of_ones(site: Site) -> float:
    return sum(pair.label for pair in site.learns_from) / len(site.learns_from)


class InProcessGrid(Grid):
    """Sites that answer as soon as they are asked; each reply goes over the wire and is kept."""

    def __init__(self, nodes: Mapping[int, Config], config: Config) -> None:
        self.contexts = {
            node: Context(RUN, node, dict(of), RecordDict(), dict(config))
            for node, of in nodes.items()
        }
        self.there = set(nodes)
        self.tamper: Tamper = lambda reply: reply
        self.asked: list[Message] = []
        self.replies: list[Message] = []  # as the sites sent them
        self._waiting: dict[str, Message] = {}
        self._run = Run.create_empty(RUN)

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.there)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identities = []
        for number, message in enumerate(messages, len(self.asked)):
            identity = f"message-{number}"
            message.metadata.__dict__["_message_id"] = identity
            self.asked.append(message)
            identities.append(identity)
            node = message.metadata.dst_node_id
            if node in self.there:
                over_the_wire(message)
                reply = client_app.app(message, self.contexts[node])
                over_the_wire(reply)
                self.replies.append(reply)
                arrived = self.tamper(reply)
                if arrived is not None:
                    self._waiting[identity] = arrived
        return identities

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._waiting.pop(i) for i in list(message_ids) if i in self._waiting]

    def send_and_receive(self, *_: object, **__: object) -> Iterable[Message]:
        raise NotImplementedError


def over_the_wire(message: Message) -> bytes:
    """Turn a message's content into bytes and back; return the bytes."""
    if message.has_error():
        return str(message.error).encode()
    data: bytes = recorddict_to_proto(message.content).SerializeToString()
    message.content = recorddict_from_proto(recorddict_to_proto(message.content))
    return data


@dataclass
class Federation:
    """Sites with pairs of their own, and the server's directory."""

    directory: Path
    grid: InProcessGrid
    config: dict[str, bool | int | float | str]
    lines: list[str] = field(default_factory=list)

    def run(self, **config: bool | int | float | str) -> RunRecord:
        """Run the server to its end, these options over the others; return what came of it."""
        self.config |= {name.replace("_", "-"): value for name, value in config.items()}
        for context in self.grid.contexts.values():
            context.run_config = dict(self.config)
        server_app.main(self.grid, Context(RUN, 0, {}, RecordDict(), dict(self.config)))
        record = RunDirectory.last(self.directory / "runs")
        assert record is not None
        return record

    @property
    def published(self) -> dict[str, FloatArray]:
        """The state of the checkpoint that the newest run has written."""
        with np.load(self._checkpoint / "state.npz") as kept:
            return {name: kept[name] for name in kept.files}

    @property
    def lineage(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self._checkpoint / "lineage.json").read_text())
        return told

    @property
    def _checkpoint(self) -> Path:
        return max((self.directory / "runs").iterdir(), key=lambda d: d.name) / "checkpoint"


@dataclass(frozen=True)
class FakeCheckpoint:
    id: str
    directory: Path


def fake_export(state: State, directory: Path, *, lineage: Lineage, **_: object) -> FakeCheckpoint:
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {k: np.asarray(v) for k, v in state.items()}
    np.savez(directory / "state.npz", allow_pickle=False, **arrays)
    (directory / "lineage.json").write_text(json.dumps(asdict(lineage)))
    return FakeCheckpoint(f"tiny-{directory.parent.name}", directory)


@contextmanager
def federation(
    directory: Path, sites: Sequence[Sequence[LabelledPair]], **config: bool | int | float | str
) -> Iterator[Federation]:
    """Put a site behind each list of pairs, with the tiny model in the place of the real one."""
    directory.mkdir(exist_ok=True)
    nodes = {}
    for number, pairs in enumerate(sites, 1):
        file = directory / f"site-{number}.jsonl"
        write_pairs(file, pairs)
        nodes[number] = {"pairs": str(file)}
    model = TinyModel()
    lines: list[str] = []
    whole = {**QUICK, "output": str(directory / "runs")}
    whole |= {name.replace("_", "-"): value for name, value in config.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_app, "_model", lambda _: model)
        patch.setattr(task, "train", tiny_training)
        patch.setattr(task, "open_model", lambda options, start=None: TinyModel())
        patch.setattr(server_app, "parent_of", lambda options: ("parent-1", {}))
        patch.setattr(server_app, "export_trained", fake_export)
        patch.setattr(server_app, "say", lines.append)
        yield Federation(directory, InProcessGrid(nodes, whole), whole, lines)


def pairs_of(site: int, count: int = 30, ones: int = 15) -> list[LabelledPair]:
    """Return pairs of texts that no other site has, `ones` of label 1, in two categories."""
    return [
        LabelledPair(
            f"site{site} question number{n} wording{n % 7}",
            f"site{site} stored number{n} wording{n % 7 if n < ones else n % 5 + 9}",
            int(n < ones),
            "faq" if n % 2 else "code",
        )
        for n in range(count)
    ]
