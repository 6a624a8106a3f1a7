"""Putting another checkpoint in force: staged beside the one that serves, swapped in one step.

Three steps, of which only the second is seen by a request. `stage` fills an index with vectors of
the other checkpoint while the present one serves. `swap` makes policies and state durable and
changes what is in force by one assignment: a request keeps to the rules that it began with, and
those name one checkpoint for all that is done with its vectors. The former checkpoint's index stays,
so that `rollback` is such an assignment, too; what was stored since is encoded for it afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from embed.encoder import Encoder
from embed.errors import EmbedError
from embed.onnx_encoder import OnnxEncoder
from proxy.checkpoint_state import CheckpointState, Pending, save_state
from proxy.encoding import Encoding
from proxy.kept_budgets import KeptBudgets
from proxy.policy_editor import Edited, PolicyEditor
from proxy.reencoding import Counted, Progress, Reencoder, made_from
from proxy.rules import InForce
from proxy.upkeep import stop
from store.cache import Cache
from store.documents.base import DocumentStore
from store.documents.records import Records
from store.errors import StoreUnavailable
from store.index import PartitionedIndex, VectorIndex
from store.policy import PolicyBook
from store.vector_file import VectorFile, delete_others

log = logging.getLogger("nearhit.checkpoints")

FOLDER = "checkpoints"  # in the data directory
VECTORS = "vectors"  # in that
LOOKED_AT_ONCE = 200  # stored entries between two turns of the event loop
GRACE = 10.0  # seconds that requests under way may still ask an encoder that is put away
LOOK_EVERY = 1.0  # seconds between two looks at who lacks a vector
AGAIN_AFTER = 60.0  # seconds after an encoder failed

Open = Callable[[str], Awaitable[Encoding]]  # by name
Begin = Callable[[Encoder], Awaitable[Encoding]]
Close = Callable[[Encoding], Awaitable[None]]
Edit = Callable[[PolicyBook], Edited]


class SwitchRefused(Exception):
    """A checkpoint cannot be staged, swapped or gone back to now; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A staged checkpoint that may be put in force."""

    checkpoint: str  # its id, as `stage` was given it
    edited: Edit  # makes the policies that serve with it of those in force, and says what changed
    who: str  # as the audit trail names whoever wants it


def unchanged(book: PolicyBook) -> Edited:
    """Keep the policies as they are."""
    return book, ("checkpoint", None, None, None)


def quiet(encoder: Encoder) -> Callable[..., Awaitable[object]]:
    """Return what encodes without being in the way of those who ask this encoder."""
    return encoder.encode_quietly if isinstance(encoder, OnnxEncoder) else encoder.encode


@dataclass(slots=True)
class Side:
    """A checkpoint that has an index."""

    name: str
    encoding: Encoding
    file: VectorFile
    reencoder: Reencoder


class Switch:
    """The only one to change which checkpoint is in force. Belongs to one event loop."""

    def __init__(
        self,
        *,
        state: CheckpointState,
        in_force: InForce,
        editor: PolicyEditor,
        cache: Cache,
        documents: DocumentStore,
        records: Records,
        budgets: KeptBudgets,
        open: Open,
        begin: Begin,
        close: Close,
        folder: Path,
        share: float,
        shared: bool,
    ) -> None:
        """`state` is what was in force at start, and its encoder is in `in_force`.

        `open` gives another checkpoint by name, ready to serve, `begin` makes an encoder so, and
        `close` ends one that was opened or begun. `folder` is for vectors, `share` of the time goes
        into making them; `shared` says that other processes serve from the same store.
        """
        self.state = state
        self._in_force = in_force
        self._editor = editor
        self._cache = cache
        self._documents = documents
        self._records = records
        self._budgets = budgets
        self._open = open
        self._begin = begin
        self._close = close
        self._folder = folder
        self._share = share
        self._shared = shared
        self._sides: dict[str, Side] = {}  # by name
        self._staged = ""  # the name of who is ready to be swapped in
        self._unfilled: dict[str, None] = {}  # names of those that need a look at every entry
        self._turn = asyncio.Lock()  # one of stage, swap, rollback
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def progress(self) -> Counted | None:
        """How far the re-encoding under way is, or the last one came; None before any."""
        name = self.state.staging if self.state.staging is not None else self.state.active
        side = self._sides.get(name)
        return None if side is None else side.reencoder.progress

    @property
    def lacking(self) -> int:
        """How many entries wait for a vector of the checkpoint in force."""
        checkpoint = self._in_force.rules.encoding.checkpoint
        return len(self._cache.vectors[checkpoint].lacking)

    async def start(self, file: VectorFile | None) -> None:
        """Take up what was in use at the end; `file` is the active checkpoint's, if one is open.

        What the former one can still find is brought back in the background. Call it once.
        """
        if file is not None:
            encoding = self._in_force.rules.encoding
            self._sides[self.state.active] = self._side(self.state.active, encoding, file)
        if self.state.former is not None:
            try:
                await self._open_side(self.state.former, await self._open(self.state.former))
            except (EmbedError, OSError) as error:
                log.warning("one cannot go back to %s: %s", self.state.former or "before", error)
        self._spawn(self._tend())

    async def aclose(self) -> None:
        """Stop; a re-encoding under way goes on when it is asked for after the next start."""
        for task in list(self._tasks):
            await stop(task)
        for side in self._sides.values():
            side.file.close()
            await self._close(side.encoding)

    async def stage(self, encoder: Encoder, on_progress: Progress) -> None:
        """Give all entries vectors of this encoder, which is the switch's from now on.

        The index in force serves meanwhile. Cut off, it goes on where it was when it is called
        again, after a restart too; `state.staging` says so. Raises SwitchRefused, EncoderFailed
        when the encoder fails on everything, StoreUnavailable and OSError.
        """
        name = encoder.checkpoint
        async with self._alone():
            if name in (self.state.active, self._in_force.rules.encoding.checkpoint):
                raise SwitchRefused(f"checkpoint {name} serves already")
            side = await self._side_to_stage(name, encoder)
            await self._note(replace(self.state, staging=name))
            try:
                await side.reencoder.fill(on_progress)
            except asyncio.CancelledError:
                raise  # what was made is kept, and so is what was wanted
            except Exception:
                await self._give_up(name)
                raise
            self._staged = name

    async def abandon(self) -> None:
        """Give up what is staged; its vectors stay in their file. Raises as `stage`."""
        async with self._alone():
            if self.state.staging is not None:
                await self._give_up(self.state.staging)

    async def swap(self, prepared: Prepared) -> None:
        """Put a staged checkpoint in force, with the policies that belong to it, in one step.

        Raises SwitchRefused, PolicyInvalid, EmbedError, StoreUnavailable, VersionTaken, OSError:
        then all is as it was.
        """
        async with self._alone():
            if not self._staged or self._staged != prepared.checkpoint:
                raise SwitchRefused(f"checkpoint {prepared.checkpoint} is not staged")
            side = self._sides[self._staged]
            await side.reencoder.catch_up()
            await self._exchange(side, prepared.edited, prepared.who)
            self._staged = ""
            ids = [each.encoding.checkpoint for each in self._sides.values()]
            await asyncio.to_thread(delete_others, self._folder / VECTORS, ids)

    async def rollback(self, edited: Edit = unchanged, who: str = "nearhit") -> None:
        """Put the former checkpoint in force again, at once where its vectors are in memory.

        What was stored since is found by meaning as soon as it is encoded. Raises as `swap`.
        """
        async with self._alone():
            name = self.state.former
            if name is None:
                raise SwitchRefused("there is no former checkpoint to go back to")
            if self._staged or self.state.staging is not None:
                raise SwitchRefused(f"checkpoint {self.state.staging} is staged: give it up first")
            if name not in self._sides:
                await self._open_side(name, await self._open(name))
            await self._exchange(self._sides[name], edited, who)
            self._unfilled[name] = None

    # -- one step

    async def _exchange(self, side: Side, edited: Edit, who: str) -> None:
        before, after = self.state, self.state.switched(side.name)
        await self._keep_present()

        async def intend(policies: str) -> None:
            await save_state(self._records, replace(before, pending=Pending(side.name, policies)))

        try:
            await self._editor.exchange(
                side.encoding,
                edited,
                who,
                intend=intend,
                commit=lambda: save_state(self._records, after),
            )
        except BaseException:
            with suppress(StoreUnavailable):
                await save_state(self._records, before)
            raise
        # Nothing has waited since the rules were assigned: points and rules change together.
        self.state = after
        self._budgets.ship_anew(side.encoding.score.point)
        log.info("checkpoint %s is in force", side.encoding.checkpoint)
        await self._budgets.save_all()

    async def _keep_present(self) -> None:
        """Have a file for the checkpoint in force: it is about to be the former one."""
        if self.state.active not in self._sides:
            encoding = self._in_force.rules.encoding
            file = await self._file(encoding)
            self._sides[self.state.active] = self._side(self.state.active, encoding, file)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Raise SwitchRefused if there may be no switch now."""
        if self._shared:
            raise SwitchRefused("a checkpoint cannot be switched where replicas share a store")
        if self._turn.locked():
            raise SwitchRefused("another switch of checkpoints is under way")
        async with self._turn:
            yield

    async def _note(self, state: CheckpointState) -> None:
        await save_state(self._records, state)
        self.state = state

    # -- indexes

    async def _side_to_stage(self, name: str, encoder: Encoder) -> Side:
        """Return a side for the encoder, in the place of whoever else is not in force."""
        known = self._sides.get(name)
        if known is not None:  # one that was gone back from
            if encoder is not known.encoding.encoder:
                await encoder.aclose()
            return known
        for other in [each for each in self._sides if each != self.state.active]:
            self._retire(other)
        return await self._open_side(name, await self._begin(encoder))

    async def _open_side(self, name: str, encoding: Encoding) -> Side:
        try:
            file = await self._file(encoding)
            index = PartitionedIndex(encoding.dimension)
            self._cache.vectors.open(encoding.checkpoint, index, made_from(file))
        except BaseException:
            await self._close(encoding)
            raise
        side = self._sides[name] = self._side(name, encoding, file)
        return side

    def _side(self, name: str, encoding: Encoding, file: VectorFile) -> Side:
        encoder, encode = encoding.encoder, quiet(encoding.encoder)
        return Side(
            name, encoding, file, Reencoder(self._cache, encoder, encode, file, self._share)
        )

    async def _file(self, encoding: Encoding) -> VectorFile:
        folder = self._folder / VECTORS
        return await asyncio.to_thread(
            VectorFile.open, folder, encoding.checkpoint, encoding.dimension
        )

    async def _give_up(self, name: str) -> None:
        self._staged = ""
        await self._note(replace(self.state, staging=None))
        if name != self.state.former:
            self._retire(name)

    def _retire(self, name: str) -> None:
        """Forget a checkpoint's vectors; requests under way may still ask its encoder."""
        side = self._sides.pop(name, None)
        if side is not None:
            self._unfilled.pop(name, None)
            index = self._cache.vectors.drop(side.encoding.checkpoint)
            self._spawn(self._put_away(side, index))

    async def _put_away(self, side: Side, index: VectorIndex | None) -> None:
        try:
            await asyncio.sleep(GRACE)
        finally:
            side.file.close()
            if index is not None:
                await index.aclose()
            await self._close(side.encoding)

    # -- in the background

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="nearhit-checkpoints")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tend(self) -> None:
        """Encode what lacks a vector of the checkpoint in force, or of the staged one."""
        await self._complete()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for name in (self.state.active, self._staged):
                side = self._sides.get(name)
                if side is None or (name == "" and name != self.state.active):
                    continue
                try:
                    if name in self._unfilled:
                        await side.reencoder.fill(lambda done, of: None)
                        del self._unfilled[name]
                    await side.reencoder.catch_up()
                except (EmbedError, OSError) as error:
                    log.warning("entries are not encoded for %s: %s", name, error)
                    await asyncio.sleep(AGAIN_AFTER)
                except Exception:
                    log.exception("entries are not encoded for %s", name)
                    await asyncio.sleep(AGAIN_AFTER)

    async def _complete(self) -> None:
        """Bring back what an index lost by a restart: a snapshot holds one, and no list of gaps."""
        if self.state.blank:
            return
        try:
            async for batch in self._documents.load_all(LOOKED_AT_ONCE):
                for stored in batch:
                    if self._cache.exact(stored.held.id) == stored.held:
                        self._cache.vectors.take_up(stored)
                for checkpoint in self._cache.vectors.checkpoints:
                    await self._cache.vectors[checkpoint].index.keep_pace()
                await asyncio.sleep(0.01)
        except StoreUnavailable as error:
            log.warning("some entries are found by their exact key only: %s", error)
