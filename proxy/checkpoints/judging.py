"""Judging a checkpoint by what this proxy has seen, and fitting policies and score to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from embed.checkpoint import Checkpoint
from embed.encoder import Encoder
from embed.promotion import GateRules, Verdict, compare
from proxy.calibrated import LiveScore
from proxy.checkpoints.evidence import Evidence, Progress, gather, held_out_pairs
from proxy.checkpoints.exchange import Edit
from proxy.checkpoints.library import Library, Note
from proxy.checkpoints.refitting import Refit, recalibrations, refits, refitted
from proxy.collected import read_pairs
from proxy.policy_editor import Edited
from proxy.rules import InForce
from store.decision.calibration_file import Calibration, calibration_as_data
from store.decision.score import Score
from store.documents.records import AuditRow, Records
from store.policy import PolicyBook

ScoreFor = Callable[[str, Calibration | None], LiveScore]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What belongs to a checkpoint once it is in force."""

    id: str
    score: LiveScore
    edit: Edit  # of the policies; notes in `made` what it has changed
    note: Note  # as it is on record
    made: dict[str, Refit]


class Judge:
    """Knows how good a checkpoint is here. Puts nothing in force."""

    def __init__(
        self,
        *,
        library: Library,
        records: Records,
        in_force: InForce,
        shipped: Score,
        score_for: ScoreFor,
        rules: GateRules,
        clock: Callable[[], datetime],
    ) -> None:
        """`shipped` is the score that calibrations are fitted over.

        `score_for` makes what serves with a checkpoint, by its id and its calibration.
        """
        self._library = library
        self._records = records
        self._in_force = in_force
        self._shipped = shipped
        self._score_for = score_for
        self._rules = rules
        self._clock = clock

    async def evidence(self, candidate: Encoder, on_progress: Progress) -> Evidence:
        """Encode the held-out pairs; raise EncoderFailed or StoreUnavailable."""
        known = await read_pairs(self._records)
        pairs = await asyncio.to_thread(held_out_pairs, known)  # of 100,000 it takes a second
        running = self._in_force.rules.encoding.encoder
        return await gather(pairs, running, candidate, on_progress)

    async def verdict(self, id: str, evidence: Evidence) -> Verdict:
        """Return what the gate says, and have it on record; raise StoreUnavailable."""
        verdict = await asyncio.to_thread(
            compare, evidence.judged, evidence.running, evidence.candidate, self._rules
        )
        await self._library.change(id, verdict=verdict.as_data(), judged_at=self._now(), refused="")
        return verdict

    async def refuse(self, id: str, verdict: Verdict, who: str) -> None:
        """Write a refusal into the audit trail; raise StoreUnavailable."""
        after = json.dumps({"checkpoint": id, "verdict": verdict.as_data()})
        at = self._clock()
        await self._records.add_audit(
            AuditRow(at=at, who=who, action="checkpoint.refuse", after=after)
        )

    async def fit(
        self, checkpoint: Checkpoint, evidence: Evidence, *, over: str, forced: bool
    ) -> Fit:
        """Fit thresholds and score, and have them on record; raise StoreUnavailable.

        `over` is the id of the checkpoint whose place it takes.
        """
        id, book = checkpoint.id, self._in_force.rules.book
        learnt = {} if checkpoint.lineage is None else checkpoint.lineage.thresholds
        changes = refits(book, evidence, learnt)
        # The score sees every pair, which takes seconds.
        calibration = await asyncio.to_thread(
            self._calibration, id, refitted(book, changes), evidence
        )
        note = await self._library.change(
            id,
            over=over,
            changes=changes,
            forced=forced,
            calibration=None if calibration is None else calibration_as_data(calibration),
        )
        made = dict(changes)

        def edit(base: PolicyBook) -> Edited:
            made.clear()
            made.update(refits(base, evidence, learnt))  # somebody may have edited meanwhile
            after = {"checkpoint": id, "verdict": note.verdict, "forced": forced}
            return refitted(base, made), ("checkpoint.promote", None, {"checkpoint": over}, after)

        return Fit(id, self._score_for(id, calibration), edit, note, made)

    async def keep(self, fit: Fit) -> None:
        """Have on record what the edit has changed; raise StoreUnavailable."""
        if fit.made != fit.note.changes:
            await self._library.keep(fit.id, replace(fit.note, changes=dict(fit.made)))

    def _calibration(self, id: str, book: PolicyBook, evidence: Evidence) -> Calibration | None:
        if self._shipped.fits(id):
            return None
        heads = recalibrations(book, evidence, self._shipped)
        return Calibration(self._now(), self._shipped.digest, heads) if heads else None

    def _now(self) -> str:
        return self._clock().isoformat(timespec="seconds")
