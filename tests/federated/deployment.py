"""A real federation on this machine: one SuperLink and SuperNodes, each a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from embed.checkpoint import Checkpoint
from federated.processes import Flower, Ports, Tls, Value
from federated.run_state import CHECKPOINT, RunDirectory, RunRecord
from tests.harness import free_port

# Small and quick: one epoch over the upper layer alone.
QUICK: Mapping[str, Value] = {
    "num-server-rounds": 2,
    "local-epochs": 1,
    "batch-size": 8,
    "warmup-steps": 1,
    "trainable-layers": 1,
    "least-pairs": 4,
    "wait-for-clients": 60.0,
    "round-timeout": 120.0,
}


@dataclass
class Deployment:
    """A SuperLink with its SuperNodes, and where its runs are kept."""

    flower: Flower
    output: Path
    lines: list[str] = field(default_factory=list)  # what the runs have said

    def run(self, config: Mapping[str, Value], say: Callable[[str], None] = lambda _: None) -> Path:
        """Run the app with QUICK and `config` over it; return the checkpoint's directory."""

        def hear(line: str) -> None:
            self.lines.append(line)
            say(line)

        self.flower.run({**QUICK, "output": str(self.output), **config}, hear, timeout=600)
        newest = max(self.output.iterdir(), key=lambda directory: directory.name)
        Checkpoint.load(newest / CHECKPOINT)
        return newest / CHECKPOINT

    @property
    def record(self) -> RunRecord:
        """What the newest run has come to."""
        record = RunDirectory.last(self.output)
        assert record is not None
        return record


@contextmanager
def deployed(
    directory: Path,
    nodes: Sequence[Mapping[str, Value]],
    *,
    environ: Mapping[str, str] | None = None,
    tls: Tls | None = None,
    keys: Sequence[Path] | None = None,
) -> Iterator[Deployment]:
    """Run a SuperLink and one SuperNode (`site-N`) a node-config; end all of them afterwards.

    A node-config says where a site's pairs are: {"proxy": "http://...", "proxy-key-env": "KEY"},
    or {"pairs": "FILE"}. `environ` is added to the SuperNodes' environment. With `keys` (private
    keys of OpenSSH, the public one beside it as .pub) only registered SuperNodes are let in.
    """
    with Flower(directory / "flower", tls=tls) as flower:
        flower.superlink(
            Ports(control=free_port(), fleet=free_port(), app=free_port()),
            known_nodes_only=keys is not None,
        )
        for number, config in enumerate(nodes):
            key = keys[number] if keys is not None else None
            if key is not None:
                flower.register(key.with_suffix(".pub"))
            flower.supernode(f"site-{number}", free_port(), config, key=key, environ=environ)
        yield Deployment(flower, directory / "runs")
