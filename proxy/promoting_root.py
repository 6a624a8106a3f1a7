"""The composition of promoting: the library of checkpoints, and what promotes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from embed.promotion import GateRules
from proxy.admin.access import Access
from proxy.admin.checkpoints import CheckpointsAdmin
from proxy.calibrated import LiveScore, live_score, score_by
from proxy.checkpoints.judging import Judge, ScoreFor
from proxy.checkpoints.library import Library
from proxy.checkpoints.promoting import Promoter
from proxy.checkpoints.promotion import Bulletin, Outcome
from proxy.checkpoints_root import OpenNamed, folder_of
from proxy.metrics import Metrics
from proxy.parts import Parts
from proxy.settings import Settings
from proxy.switching import Switch
from proxy.upkeep import stop, utc_now
from store.decision.calibration_file import Calibration, calibration_of_data
from store.decision.score import shipped_score
from store.documents.records import Records
from store.errors import ScoreInvalid

log = logging.getLogger("nearhit.checkpoints")

ScoreOf = Callable[[str], Awaitable[LiveScore]]  # by a checkpoint's id


@dataclass(frozen=True, kw_only=True)
class Promoting:
    """What promotes checkpoints in a proxy that serves."""

    library: Library
    promoter: Promoter
    switch: Switch


def library_of(settings: Settings, records: Records) -> Library:
    """Return the checkpoints that there are."""
    return Library(folder_of(settings), records)


def score_for(file: Path) -> ScoreFor:
    """Return what makes the score that serves with a checkpoint, by its id and its calibration.

    That is the shipped one, calibrated by `file`, where it fits; else only what the calibration
    says.
    """

    def make(checkpoint: str, calibration: Calibration | None) -> LiveScore:
        shipped = shipped_score()
        if shipped.fits(checkpoint):
            return live_score(checkpoint, file)
        return score_by(calibration, shipped)

    return make


def scorer(library: Library, make: ScoreFor) -> ScoreOf:
    """Return what gives a checkpoint's score by what is on record; it raises StoreUnavailable."""

    async def score_of(checkpoint: str) -> LiveScore:
        said = (await library.note(checkpoint)).calibration
        try:
            known = None if said is None else calibration_of_data(said, checkpoint)
        except ScoreInvalid as error:
            log.error("the calibration of %s is refused: %s", checkpoint, error)
            known = None
        return make(checkpoint, known)

    return score_of


def open_promoting(
    parts: Parts,
    library: Library,
    switch: Switch,
    open_named: OpenNamed,
    make_score: ScoreFor,
    stack: AsyncExitStack,
) -> Promoting:
    """Return what promotes, to be stopped with `stack`; one that was cut off goes on."""
    limits = parts.settings.checkpoints
    records = parts.shelves.records
    judge = Judge(
        library=library,
        records=records,
        in_force=parts.in_force,
        shipped=shipped_score(),
        score_for=make_score,
        rules=GateRules(
            margin=limits.margin, least=limits.min_pairs, of_a_kind=limits.min_pairs // 5
        ),
        clock=utc_now,
    )

    def ended(outcome: Outcome) -> None:
        parts.metrics.promotions.labels(outcome.value).inc()

    promoter = Promoter(
        library=library,
        judge=judge,
        bulletin=Bulletin(records, alone=not parts.shelves.membership.shared),
        switch=switch,
        open_encoder=open_named,
        clock=utc_now,
        on_outcome=ended,
    )
    stack.push_async_callback(promoter.aclose)
    watching = asyncio.create_task(promoter.watch(), name="nearhit-upkeep")
    stack.push_async_callback(stop, watching)
    return Promoting(library=library, promoter=promoter, switch=switch)


def checkpoints_admin(promoting: Promoting, access: Access) -> CheckpointsAdmin:
    """Return what an operator sees and does of checkpoints."""
    switch = promoting.switch
    return CheckpointsAdmin(
        access=access,
        library=promoting.library,
        promoter=promoting.promoter,
        in_use=lambda: (switch.active, switch.former or None),
    )


def show_checkpoints(metrics: Metrics, switch: Switch) -> None:
    """Bring the metrics of checkpoints up to date."""
    metrics.checkpoint.clear()
    metrics.checkpoint.labels(switch.active).set(1)
    progress = switch.progress
    metrics.reencoded.set(progress.done)
    metrics.to_reencode.set(progress.of)
