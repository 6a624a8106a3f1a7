"""A switch in memory, and a promoter in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from embed.encoder import Encoder
from embed.errors import CheckpointInvalid
from embed.promotion import GateRules
from proxy.calibrated import LiveScore, score_by
from proxy.checkpoints.exchange import Edit, Exchange
from proxy.checkpoints.judging import Judge
from proxy.checkpoints.library import Library
from proxy.checkpoints.promoting import Promoter
from proxy.checkpoints.promotion import Bulletin, Outcome, Promotion
from proxy.policy_editor import Edited
from proxy.rules import InForce, Rules
from store.decision.score import shipped_score
from store.policy import Policy, PolicyBook
from tests.encodings import encoding_of
from tests.fakes_documents import MemoryDocuments
from tests.proxy.checkpoints.encoders import TopicEncoder

BOOK = PolicyBook({"default": Policy(name="default")})


def noon() -> datetime:
    return datetime(2026, 11, 30, 12, tzinfo=UTC)


class FakeSwitch:
    """Puts another encoder in force at once; re-encodes three entries, one when told to."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force
        self.former = ""
        self.staging = ""
        self.staged: Encoder | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.edits: list[Edited] = []
        self.notes: list[str] = []
        self.fails: Exception | None = None

    @property
    def active(self) -> str:
        return self.in_force.rules.encoding.checkpoint

    async def stage(self, encoder: Encoder, on_progress: Callable[[int, int], None]) -> None:
        self.staging, self.staged = encoder.checkpoint, encoder
        for done in range(1, 4):
            on_progress(done, 3)
            await self.go_on.wait()
        if self.fails is not None:
            raise self.fails

    async def swap(self, exchange: Exchange) -> None:
        self.former, self.staging = self.active, ""
        self._edit(exchange.edit, exchange.note, exchange.encoder, exchange.score)

    async def rollback(self, edit: Edit, who: str, note: str) -> None:
        former, self.former = self.former, self.active
        self._edit(edit, note, TopicEncoder(former, 0.5), LiveScore(None))

    async def abandon(self) -> None:
        self.staging = ""
        if self.staged is not None:
            await self.staged.aclose()

    def _edit(self, edit: Edit, note: str, encoder: Encoder, score: LiveScore) -> None:
        edited = edit(self.in_force.rules.book)
        self.edits.append(edited)
        self.notes.append(note)
        self.in_force.rules = Rules(book=edited[0], encoding=encoding_of(encoder, score=score))


@dataclass
class Bench:
    """A promoter with everything that it needs; `start` begins another process on the same data."""

    directory: Path
    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    alone: bool = True
    pulls: dict[str, float] = field(default_factory=dict)  # of candidates, by id
    opened: list[TopicEncoder] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.switch = FakeSwitch(
            InForce(Rules(book=BOOK, encoding=encoding_of(TopicEncoder("bundled-0", 0.1))))
        )
        self.start()

    def start(self) -> None:
        records = self.documents.records
        self.library = Library(self.directory, records)
        self.promoter = Promoter(
            library=self.library,
            judge=Judge(
                library=self.library,
                records=records,
                in_force=self.switch.in_force,
                shipped=shipped_score(),
                score_for=lambda _, calibration: score_by(calibration, shipped_score()),
                rules=GateRules(),
                clock=noon,
            ),
            bulletin=Bulletin(records, alone=self.alone),
            switch=self.switch,
            open_encoder=self._open,
            clock=noon,
            on_outcome=self.outcomes.append,
        )

    async def ended(self) -> Promotion:
        """Wait for the promotion under way to end."""
        async with asyncio.timeout(20):
            while True:
                latest = await self.promoter.latest()
                if latest is not None and not latest.running:
                    return latest
                await asyncio.sleep(0.01)

    async def _open(self, id: str) -> Encoder:
        pull = self.pulls.get(id, 0.9)
        if pull < 0:
            raise CheckpointInvalid("model.onnx does not run: it is text")
        encoder = TopicEncoder(id, pull)
        self.opened.append(encoder)
        return encoder
