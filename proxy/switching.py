"""Putting another checkpoint in force: staged beside the one that serves, swapped in one step.

Three steps, of which only the second is seen by a request. `stage` fills an index with vectors of
the other checkpoint while the present one serves. `swap` makes policies and state durable and
changes what is in force by one assignment: a request keeps to the rules that it began with, and
those name one checkpoint for all that is done with its vectors. The former checkpoint's index is
kept, so that `rollback` is such an assignment, too; what was stored since is encoded afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

from embed.encoder import Encoder
from embed.errors import EmbedError
from proxy.calibrated import LiveScore
from proxy.checkpoint_state import CONFIGURED, CheckpointState, read_state, save_staging
from proxy.checkpoints.exchange import Edit, Exchange
from proxy.encoders import AbsentEncoder
from proxy.encoding import Encoding
from proxy.following import NotStaged, Replicas
from proxy.kept_budgets import KeptBudgets
from proxy.policy_editor import PolicyEditor
from proxy.reencoding import Counted, Progress
from proxy.rules import InForce
from proxy.sides import Side, Sides
from store.cache import Cache
from store.documents.records import Records
from store.errors import StoreUnavailable
from store.vector_file import VectorFile

log = logging.getLogger("nearhit.checkpoints")


class SwitchRefused(Exception):
    """A checkpoint cannot be staged, swapped or gone back to now; says why."""


class Switch:
    """The only one to change which checkpoint is in force. Belongs to one event loop."""

    def __init__(
        self,
        *,
        state: CheckpointState,
        in_force: InForce,
        editor: PolicyEditor,
        cache: Cache,
        sides: Sides,
        records: Records,
        budgets: KeptBudgets,
        open: Callable[[str], Awaitable[Encoding]],
        begin: Callable[[Encoder], Awaitable[Encoding]],
        score_of: Callable[[str], Awaitable[LiveScore]],
        replicas: Replicas,
    ) -> None:
        """`state` is what was in use at the end, and its active checkpoint is in force.

        `open` gives another checkpoint by name, ready to serve, `begin` makes an encoder so, and
        `score_of` gives the score that serves with a checkpoint, by its id.
        """
        self._state = state
        self._in_force = in_force
        self._editor = editor
        self._cache = cache
        self._sides = sides
        self._records = records
        self._budgets = budgets
        self._open = open
        self._begin = begin
        self._score_of = score_of
        self._replicas = replicas
        self._staged: str | None = None  # the name of who is ready to be swapped in
        self._turn = asyncio.Lock()  # one of stage, swap, rollback, take_up
        self._taking_up = False  # and it is the last of these

    @property
    def active(self) -> str:
        """The id of the checkpoint that serves."""
        return self._in_force.rules.encoding.checkpoint

    @property
    def former(self) -> str:
        """The id of the one that one can go back to; "" if none."""
        return "" if self._state.former is None else self._state.id_of(self._state.former)

    @property
    def staging(self) -> str:
        """The id of the one for which entries are re-encoded; "" if none.

        After a restart it is still that: `stage` goes on where it was.
        """
        return "" if self._state.staging is None else self._state.id_of(self._state.staging)

    @property
    def progress(self) -> Counted:
        """How far the re-encoding under way is, or the last one came."""
        side = self._sides.get(self._state.staging) or self._sides.get(self._state.active)
        return Counted() if side is None else side.reencoder.progress

    @property
    def lacking(self) -> int:
        """How many entries wait for a vector of the checkpoint in force."""
        return len(self._cache.vectors[self.active].lacking)

    async def start(self, file: VectorFile | None) -> None:
        """Take up what was in use at the end; call it once.

        `file` is that of the active checkpoint, where the configured one was ever left. What the
        former one can find is brought back in the background.
        """
        if file is not None:
            await self._sides.adopt(self._state.active, self._in_force.rules.encoding, file)
        if self._state.former is not None:
            try:
                await self._sides.open(self._state.former, await self._open(self._state.former))
            except (EmbedError, OSError) as error:
                log.warning("one cannot go back to checkpoint %s: %s", self.former, error)
        self._sides.tend(lambda: (self._state.active, self._staged))

    async def stage(self, encoder: Encoder, on_progress: Progress) -> None:
        """Give all entries vectors of this encoder, which is the switch's from now on.

        The index in force serves meanwhile. Cut off, it goes on where it was when it is called
        again, after a restart too. Raises SwitchRefused, EncoderFailed when the encoder fails on
        everything, StoreUnavailable and OSError.
        """
        refused = AsyncExitStack()
        refused.push_async_callback(encoder.aclose)  # it takes 100 MB
        async with refused, self._alone():
            if encoder.checkpoint == self.active:
                raise SwitchRefused(f"checkpoint {self.active} serves already")
            side = await self._side_to_stage(encoder)
            refused.pop_all()
            attempt = uuid.uuid4().hex
            await self._note(replace(self._state, staging=side.name, attempt=attempt))
            try:
                if not self._state.never_switched:  # else nothing was stored under another one
                    await self._sides.bring_back()
                await side.reencoder.fill(on_progress)
                await self._replicas.staged(attempt)
            except asyncio.CancelledError:
                raise  # what was made is kept, and so is what was wanted
            except NotStaged as error:
                await self._give_up(side.name)
                raise SwitchRefused(str(error)) from None
            except Exception:
                await self._give_up(side.name)
                raise
            self._staged = side.name

    async def _side_to_stage(self, encoder: Encoder) -> Side:
        """Return a side for the encoder, in the place of whoever else is not in force."""
        known = self._sides.of(encoder.checkpoint)
        if known is not None:  # that of one which was gone back from, or the staging was cut off
            if known.encoding.encoder is not encoder:
                await encoder.aclose()
            return known
        self._sides.retire_all_but({self._state.active})
        return await self._sides.open(encoder.checkpoint, await self._begin(encoder))

    async def abandon(self) -> None:
        """Give up what is staged; its vectors stay in their file. Raises as `stage`."""
        async with self._alone():
            if self._state.staging is not None:
                await self._give_up(self._state.staging)

    async def _give_up(self, name: str) -> None:
        self._staged = None
        self._sides.retire(name)
        attempt, self._state = self._state.attempt, replace(self._state, staging=None)
        if (await read_state(self._records)).attempt in ("", attempt):  # not another replica's
            await self._note(self._state)

    async def swap(self, exchange: Exchange) -> None:
        """Put what is staged in force, with policies and score that belong to it, in one step.

        Raises SwitchRefused, PolicyInvalid, EmbedError, StoreUnavailable, VersionTaken, OSError:
        then all is as it was.
        """
        name = exchange.encoder.checkpoint
        async with self._alone():
            side = self._sides.get(self._staged)
            if side is None or side.encoding.checkpoint != name:
                raise SwitchRefused(f"checkpoint {name} is not staged")
            await side.reencoder.catch_up()
            side.encoding = replace(side.encoding, score=exchange.score)
            await self._exchange(side, exchange.edit, exchange.who, exchange.note)
            self._staged = None
            await self._sides.delete_other_files()

    async def rollback(self, edit: Edit, who: str, note: str = "") -> None:
        """Put the former checkpoint in force again, at once where its vectors are in memory.

        What was stored since is found by meaning as soon as it is encoded. Raises as `swap`.
        """
        async with self._alone():
            name = self._state.former
            if name is None:
                raise SwitchRefused("there is no former checkpoint to go back to")
            if self._state.staging is not None:
                raise SwitchRefused(f"checkpoint {self.staging} is staged: give it up first")
            side = self._sides.get(name)
            if side is None:
                side = await self._sides.open(name, await self._open(name))
            await self._exchange(side, edit, who, note)
            side.unfilled = True

    async def _exchange(self, side: Side, edit: Edit, who: str, note: str) -> None:
        """Put a side in force. What is in force now keeps an index, and gets a file."""
        before, dimension = self._state, side.encoding.dimension
        if before.active == CONFIGURED:
            before = replace(before, configured=self.active)
        await self._sides.adopt(before.active, self._in_force.rules.encoding)
        after = before.switched(side.name, dimension)

        await self._editor.exchange(side.encoding, edit, who, state=after.to_store, note=note)
        # Nothing has waited since the rules were assigned: points and rules change together.
        self._state = after
        self._budgets.ship_anew(side.encoding.score.point)
        log.info("checkpoint %s is in force, by %s", side.encoding.checkpoint, who)
        with suppress(StoreUnavailable):  # one that serves counts as staged no more anyway
            await save_staging(self._records, after)
        await self._replicas.tell()
        await self._budgets.save_all()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Raise SwitchRefused if there may be no switch now."""
        if self._turn.locked() and not self._taking_up:  # that takes a moment only
            raise SwitchRefused("another switch of checkpoints is under way")
        async with self._turn:
            if self._replicas.shared:  # another one may have changed it a moment ago
                state = await read_state(self._records)
                if state.active != self._state.active or await self._editor.is_forgotten():
                    raise SwitchRefused("another replica is just switching the checkpoint")
                self._state = state
            yield

    async def _note(self, state: CheckpointState) -> None:
        await save_staging(self._records, state)
        self._state = state
        await self._replicas.tell()

    # -- what other replicas have done

    @property
    def leads(self) -> bool:
        """Whether this replica is changing the checkpoint itself."""
        return self._turn.locked()

    @property
    def to_store(self) -> tuple[str, str]:
        """What is in force, as it is stored with policies: a name and a text."""
        return self._state.to_store

    async def belongs_elsewhere(self) -> bool:
        """Whether the newest policies are those of another checkpoint than the one in force here.

        Raises StoreUnavailable.
        """
        return (await read_state(self._records)).active != self._state.active

    async def take_up(self, state: CheckpointState) -> None:
        """Make what is recorded this replica's: it was written by another.

        Raises StoreUnavailable, PolicyInvalid and OSError; where the checkpoint is not here,
        nothing is answered by meaning until it is.
        """
        async with self._turn:
            self._taking_up = True
            try:
                await self._make_own(state)
            finally:
                self._taking_up = False

    async def _make_own(self, state: CheckpointState) -> None:
        if await self._editor.is_forgotten():
            return  # what is in force here is about to be stored again
        absent = isinstance(self._in_force.rules.encoding.encoder, AbsentEncoder)
        if (state.active != self._state.active or absent) and not await self._take_over(state):
            return
        self._state = state
        self._sides.retire_all_but(state.names)
        if self._staged not in state.names:
            self._staged = None

    async def _take_over(self, state: CheckpointState) -> bool:
        """Return whether that checkpoint is in force now, or still is not here."""
        name, old = state.active, self._in_force.rules.encoding
        side = self._sides.get(name)
        if side is None or isinstance(side.encoding.encoder, AbsentEncoder):
            try:
                encoding = await self._open(name)
            except (EmbedError, OSError) as error:
                if side is not None:
                    return True  # it is still not here
                log.error("nothing is answered by meaning: %s", error)
                absent = AbsentEncoder(state.id_of(name), state.dimension, str(error))
                encoding = await self._begin(absent)
            if side is not None:
                side = self._sides.renew(name, encoding)
            else:
                self._sides.retire_all_but({self._state.active})
                side = await self._sides.open(name, encoding)
        if name != self._state.active:
            await self._sides.adopt(self._state.active, old)
        side.encoding = replace(side.encoding, score=await self._score_of(side.encoding.checkpoint))
        if not await self._editor.take_over(side.encoding, lambda: self._is_active(name)):
            return False  # yet another one is in force by now
        self._budgets.ship_anew(side.encoding.score.point)
        side.unfilled = True
        log.info("checkpoint %s is in force, as in other replicas", side.encoding.checkpoint)
        return True

    async def _is_active(self, name: str) -> bool:
        return (await read_state(self._records)).active == name

    async def help_stage(self, state: CheckpointState) -> None:
        """Stage what another replica wants to swap in. Raises EmbedError, OSError."""
        name = state.staging
        assert name is not None
        side = self._sides.get(name)
        if side is None:
            self._sides.retire_all_but({self._state.active})
            side = await self._sides.open(name, await self._open(name))
        if not self._state.never_switched:
            await self._sides.bring_back()
        await side.reencoder.fill(lambda done, of: None)
        self._staged = name
