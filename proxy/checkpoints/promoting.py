"""Promoting a checkpoint: judge it, re-encode what is stored, refit, swap. One at a time.

It passes the gate on this proxy's held-out pairs, or stays a candidate with the reasons on record.
Whatever fails before the swap leaves everything as it was. A restart in the middle of re-encoding
goes on with that: the verdict is on record by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from embed.checkpoint import Checkpoint
from embed.encoder import Encoder
from embed.errors import CheckpointInvalid, EmbedError
from proxy.checkpoints.evidence import Evidence
from proxy.checkpoints.exchange import Edit, Exchange, Switching
from proxy.checkpoints.judging import Judge
from proxy.checkpoints.library import Library
from proxy.checkpoints.promotion import Bulletin, Outcome, Promotion, Step
from proxy.checkpoints.refitting import refitted
from proxy.policy_editor import Edited
from proxy.switching import SwitchRefused
from store.errors import PolicyInvalid, StoreUnavailable, VersionTaken
from store.policy import PolicyBook

log = logging.getLogger("nearhit.checkpoints")

BEAT = 1.0  # seconds between two times that a promotion is told
TAKE_OVER_EVERY = 5.0  # seconds between two looks for one whose process has died


_EXPECTED = (EmbedError, StoreUnavailable, PolicyInvalid, VersionTaken, SwitchRefused, OSError)


class Busy(Exception):
    """A promotion is under way already."""


class AlreadyActive(Exception):
    """This checkpoint serves already."""


class NothingBefore(Exception):
    """No checkpoint served before this one whose vectors are still there."""


class Promoter:
    """Promotes checkpoints of the library, and goes back."""

    def __init__(
        self,
        *,
        library: Library,
        judge: Judge,
        bulletin: Bulletin,
        switch: Switching,
        open_encoder: Callable[[str], Awaitable[Encoder]],
        clock: Callable[[], datetime],
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """`open_encoder` opens a checkpoint of the library by its id."""
        self._library = library
        self._judge = judge
        self._bulletin = bulletin
        self._switch = switch
        self._open = open_encoder
        self._clock = clock
        self._on_outcome = on_outcome
        self._now: Promotion | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def latest(self) -> Promotion | None:
        """Return the latest promotion, whoever began it; raise StoreUnavailable."""
        if self._now is not None and self._now.running:
            return self._now
        return await self._bulletin.latest()

    async def promote(
        self, asked: str, who: str, *, force: bool = False, dry_run: bool = False
    ) -> Promotion:
        """Begin to promote a checkpoint: an id of the library, or an absolute path to a directory.

        `force` goes on in spite of the gate's verdict, never in spite of damage. Raises
        CheckpointInvalid, OSError, AlreadyActive, Busy, StoreUnavailable.
        """
        async with self._turn:
            await self._check_free()
            by_path = Path(asked).is_absolute()
            library = self._library
            found = await (library.take_in(Path(asked)) if by_path else library.load(asked))
            if found.id == self._switch.active:
                raise AlreadyActive(found.id)
            began = self._clock().isoformat(timespec="seconds")
            now = Promotion(checkpoint=found.id, who=who, began=began, dry_run=dry_run, force=force)
            await self._begin(now, found)
            return now

    async def rollback(self, who: str) -> str:
        """Put the checkpoint from before in force again; return its id.

        Raises Busy, NothingBefore, SwitchRefused, EmbedError, PolicyInvalid, StoreUnavailable,
        VersionTaken, OSError: then nothing has changed.
        """
        async with self._turn:
            await self._check_free()
            active, former = self._switch.active, self._switch.former
            if not former:
                raise NothingBefore
            if self._switch.staging:  # for nobody: no promotion is under way
                await self._let_go()
            edit = await self._edit_back(active, former)
            await self._switch.rollback(edit, who, f"checkpoint {former}")
            return former

    async def _edit_back(self, active: str, former: str) -> Edit:
        """Return what gives the policies the thresholds of the former one."""
        here, there = await self._library.note(active), await self._library.note(former)

        def edit(base: PolicyBook) -> Edited:
            book = base
            if here.over == former:
                book = refitted(base, here.changes, back=True)
            elif there.over == active:  # it was gone back from, and is taken up again
                book = refitted(base, there.changes)
            before, after = {"checkpoint": active}, {"checkpoint": former}
            return book, ("checkpoint.rollback", None, before, after)

        return edit

    async def stop(self, who: str) -> str | None:
        """Stop the promotion that this process runs; return its checkpoint's id, None if none."""
        now = self._now
        if self._task is None or now is None or not self._running:
            return None
        await self._cease(self._task)
        if self._now is not None and self._now.running:
            await self._let_go()
            await self._end(Outcome.STOPPED, (f"stopped by {who}",))
        return now.checkpoint

    async def watch(self) -> None:
        """Go on, for ever, with promotions whose process has died: after a restart, this one's."""
        while True:
            try:
                await self.take_over()
            except StoreUnavailable as error:
                log.warning("whether a promotion is to go on cannot be read: %s", error)
            except Exception:
                log.exception("a promotion could not be taken over; trying again")
            await asyncio.sleep(TAKE_OVER_EVERY)

    async def take_over(self) -> bool:
        """Go on with a promotion whose process has died; return whether there is one.

        Before it re-encoded anything there is nothing to go on with. Raises StoreUnavailable.
        """
        async with self._turn:
            orphan = await self._bulletin.orphan()
            if orphan is None or self._running:
                return False
            self._now = orphan
            if self._switch.staging != orphan.checkpoint:
                done = self._switch.active == orphan.checkpoint
                reasons = orphan.reasons if done else ("its process ended before anything changed",)
                await self._end(Outcome.PROMOTED if done else Outcome.FAILED, reasons)
                return False
            await self._tell()
            try:
                found = await self._library.load(orphan.checkpoint)
            except CheckpointInvalid as error:
                await self._fail(str(error))
                return False
            log.info("goes on promoting %s", orphan.checkpoint)
            await self._begin(replace(orphan, step=Step.STAGE, done=0, total=0), found)
            return True

    async def aclose(self) -> None:
        """Leave a promotion under way to the next start."""
        if self._task is not None:
            await self._cease(self._task)
        if self._now is not None and self._now.running:
            with suppress(StoreUnavailable):
                await self._bulletin.leave(self._now)

    async def _cease(self, task: asyncio.Task[None]) -> None:
        # The swap is not cut in two: it takes a moment.
        if self._now is None or self._now.step is not Step.SWITCH:
            task.cancel()
        await asyncio.wait([task])

    async def _check_free(self) -> None:
        if self._running or await self._bulletin.elsewhere():
            raise Busy

    @property
    def _running(self) -> bool:
        under_way = self._task is not None and not self._task.done()
        return under_way and self._now is not None and self._now.running

    async def _begin(self, now: Promotion, checkpoint: Checkpoint) -> None:
        self._now = now
        await self._tell()
        self._task = asyncio.create_task(self._run(checkpoint), name="nearhit-promotion")

    async def _run(self, checkpoint: Checkpoint) -> None:
        telling = asyncio.create_task(self._tell_for_ever())
        try:
            await self._promote(checkpoint)
        except _EXPECTED as error:
            await self._fail(str(error))
        except Exception as error:
            log.exception("promoting %s failed", checkpoint.id)
            await self._fail(f"{type(error).__name__}: {error}")
        finally:
            telling.cancel()
            await asyncio.wait([telling])

    async def _fail(self, reason: str) -> None:
        await self._let_go()
        await self._end(Outcome.FAILED, (reason,))

    async def _let_go(self) -> None:
        with suppress(*_EXPECTED):
            await self._switch.abandon()

    async def _promote(self, checkpoint: Checkpoint) -> None:
        assert self._now is not None
        id, resumed = checkpoint.id, self._now.step is not Step.JUDGE
        try:
            encoder = await self._open(id)
        except CheckpointInvalid as error:
            await self._library.change(id, refused=str(error))
            await self._end(Outcome.REFUSED, (str(error),))
            return
        try:
            evidence = await self._judge.evidence(encoder, self._progressed)
            if not resumed and not await self._judged(id, evidence):
                await encoder.aclose()
                return
            self._at(Step.STAGE)
            await self._tell()  # a restart from here on does not judge again
        except BaseException:
            await encoder.aclose()
            raise
        try:
            await self._switch.stage(encoder, self._progressed)  # whose the encoder is from now on
        except SwitchRefused as error:
            # It has let go of its own; what is staged by now may be another replica's.
            await self._end(Outcome.FAILED, (str(error),))
            return
        self._at(Step.SWITCH)
        await self._exchange(checkpoint, encoder, evidence)
        await self._end(Outcome.PROMOTED, self._now.reasons)

    async def _judged(self, id: str, evidence: Evidence) -> bool:
        """Return whether to go on by the gate's verdict; a refusal is audited."""
        assert self._now is not None
        verdict = await self._judge.verdict(id, evidence)
        if self._now.dry_run:
            outcome = Outcome.PASSED if verdict.passed else Outcome.REFUSED
            await self._end(outcome, verdict.reasons)
            return False
        if verdict.passed or self._now.force:
            self._now = replace(self._now, reasons=verdict.reasons)
            return True
        await self._judge.refuse(id, verdict, self._now.who)
        await self._end(Outcome.REFUSED, verdict.reasons)
        return False

    async def _exchange(self, checkpoint: Checkpoint, encoder: Encoder, evidence: Evidence) -> None:
        assert self._now is not None
        fit = await self._judge.fit(
            checkpoint, evidence, over=self._switch.active, forced=bool(self._now.reasons)
        )
        await self._switch.swap(
            Exchange(
                encoder=encoder,
                score=fit.score,
                edit=fit.edit,
                who=self._now.who,
                note=f"checkpoint {checkpoint.id}",
            )
        )
        await self._judge.keep(fit)

    def _at(self, step: Step) -> None:
        assert self._now is not None
        self._now = replace(self._now, step=step, done=0, total=0)

    def _progressed(self, done: int, total: int) -> None:
        assert self._now is not None
        self._now = replace(self._now, done=done, total=total)

    async def _end(self, outcome: Outcome, reasons: tuple[str, ...]) -> None:
        assert self._now is not None
        self._now = replace(self._now, outcome=outcome, reasons=reasons)
        log.info("promoting %s: %s %s", self._now.checkpoint, outcome, "; ".join(reasons))
        self._on_outcome(outcome)
        with suppress(StoreUnavailable):
            await self._tell()

    async def _tell(self) -> None:
        assert self._now is not None
        await self._bulletin.tell(self._now)

    async def _tell_for_ever(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            with suppress(StoreUnavailable):
                await self._tell()
