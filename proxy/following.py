"""Replicas change the checkpoint together: each stages for itself, and one record makes all swap.

The recorded state is what holds (`proxy/checkpoint_state.py`): which checkpoint serves, and which
is being staged. Whoever promotes writes it and appends a record to the journal, so that everybody
looks at once; who missed that looks every few seconds, and at its start. A replica that is to stage
opens the checkpoint from its own directory of them, fills its own index, and reports that; the one
that promotes waits for all that are alive, and gives up when one cannot. A replica that finds
another checkpoint in force than its own takes up that one with the newest policies, in one step. If
it has not got it, it answers nothing by meaning until it has.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from embed.errors import EmbedError
from proxy.checkpoint_state import CheckpointState, read_state
from proxy.upkeep import stop
from store.documents.records import Records
from store.errors import StoreUnavailable
from store.journal import Learnt, Record
from store.membership import Membership

log = logging.getLogger("nearhit.checkpoints")

NUDGE = b"checkpoint"  # what a record says that has everybody look at the state
LOOK_EVERY = 3.0  # seconds between two looks without one
ASK_EVERY = 0.5  # seconds between two looks at who has staged
_PREFIX = "checkpoint-replica:"  # of the states in which replicas report


class NotStaged(Exception):
    """A replica cannot stage a checkpoint; says which and why."""


class Replicas:
    """What replicas tell each other about checkpoints."""

    def __init__(self, records: Records, membership: Membership, where: str) -> None:
        """`where` is this replica to a person."""
        self._where = where
        self._records = records
        self._membership = membership

    @property
    def shared(self) -> bool:
        """Whether there may be others at all."""
        return self._membership.shared

    async def tell(self) -> None:
        """Have the others look at the state now; they do anyway, a little later."""
        if self.shared:
            with suppress(StoreUnavailable):
                await self._membership.tell(Learnt(NUDGE))

    async def report(self, attempt: str, fault: str | None = None) -> None:
        """Say that this replica has staged, or why it cannot. Raises StoreUnavailable."""
        if fault is not None:
            fault = f"replica {self._where} cannot take it up: {fault}"
        said = {"attempt": attempt, "fault": fault}
        await self._records.save_state(_PREFIX + self._membership.name, json.dumps(said))

    async def leave(self) -> None:
        """Take back what was reported."""
        if self.shared:
            with suppress(StoreUnavailable):
                await self._records.save_state(_PREFIX + self._membership.name, "")

    async def staged(self, attempt: str) -> None:
        """Wait until all others that are alive have staged; raise NotStaged, StoreUnavailable.

        Of two that promote at once the one that began last goes on: they would wait for each other.
        """
        while self.shared:
            if (await read_state(self._records)).attempt != attempt:
                raise NotStaged("another replica began to promote a checkpoint, or stopped this")
            waiting = await self._membership.others()
            reports = await self._reports(attempt)
            for name, fault in reports.items():
                if name in waiting and fault is not None:
                    raise NotStaged(fault)
            if not waiting - reports.keys():
                return
            await asyncio.sleep(ASK_EVERY)

    async def _reports(self, attempt: str) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name, state in (await self._records.states()).items():
            if name.startswith(_PREFIX):
                said: dict[str, Any] = json.loads(state)
                if said["attempt"] == attempt:
                    found[name.removeprefix(_PREFIX)] = said["fault"]
        return found


class Following:
    """Takes up what other replicas have put in force, and stages what they want staged."""

    def __init__(
        self,
        records: Records,
        replicas: Replicas,
        *,
        busy: Callable[[], bool],
        take_up: Callable[[CheckpointState], Awaitable[None]],
        help_stage: Callable[[CheckpointState], Awaitable[None]],
    ) -> None:
        """`busy`: this replica is promoting itself. `take_up` makes the recorded state this one's.

        `help_stage` stages what it names, and may take long; both raise EmbedError and OSError.
        """
        self._records = records
        self._replicas = replicas
        self._busy = busy
        self._take_up = take_up
        self._help_stage = help_stage
        self._nudged = asyncio.Event()
        self._attempt = ""  # of the staging that this replica helps with, or has helped with
        self._helping: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow(), name="nearhit-checkpoints")

    def apply(self, record: Record) -> None:
        """Look soon, if a record says so."""
        if isinstance(record.change, Learnt) and record.change.data == NUDGE and not record.own:
            self._nudged.set()

    async def aclose(self) -> None:
        """Stop following."""
        for task in (self._task, self._helping):
            if task is not None:
                await stop(task)
        await self._replicas.leave()

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                if not self._busy():
                    await self._look()
            except (StoreUnavailable, EmbedError, OSError) as error:
                log.warning("the checkpoint of the other replicas is not in force here: %s", error)
            except Exception:
                log.exception("following the other replicas' checkpoint failed; trying again")

    async def _look(self) -> None:
        state = await read_state(self._records)
        if state.staging is None or state.attempt != self._attempt:
            await self._cease()
        await self._take_up(state)
        if state.staging is not None and self._helping is None:
            self._attempt = state.attempt
            self._helping = asyncio.create_task(self._help(state), name="nearhit-staging")

    async def _cease(self) -> None:
        if self._helping is not None:
            await stop(self._helping)
            self._helping, self._attempt = None, ""

    async def _help(self, state: CheckpointState) -> None:
        # Whoever promotes waits for as long as this replica lives, so it has to be told.
        while True:
            try:
                await self._replicas.report(state.attempt, await self._staged(state))
                return
            except StoreUnavailable as error:
                log.warning("what became of %s here is not told yet: %s", state.staging, error)
            await asyncio.sleep(LOOK_EVERY)

    async def _staged(self, state: CheckpointState) -> str | None:
        """Stage; return why it cannot be, None if it is. Raises StoreUnavailable."""
        try:
            await self._help_stage(state)
        except StoreUnavailable:
            raise
        except (EmbedError, OSError) as error:
            log.error("checkpoint %s is not staged here: %s", state.staging, error)
            return str(error)
        except Exception as error:
            log.exception("checkpoint %s is not staged here", state.staging)
            return repr(error)
        return None
