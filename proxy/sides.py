"""Checkpoints that have an index here: in force, being filled, or kept to go back to.

A side is an encoder that serves, the index of what it made, the file of what it made of entries
that another one stored, and what makes that: in the background, at a share of the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path

from embed.encoder import Encoder
from embed.errors import EmbedError
from embed.onnx_encoder import OnnxEncoder
from proxy.encoding import Encoding
from proxy.reencoding import Encode, Reencoder, made_from
from proxy.upkeep import stop
from store.cache import Cache
from store.documents.base import DocumentStore
from store.errors import StoreUnavailable
from store.index import PartitionedIndex, VectorIndex
from store.vector_file import VectorFile, delete_others

log = logging.getLogger("nearhit.checkpoints")

GRACE = 10.0  # seconds that requests under way may still ask an encoder that is put away
LOOK_EVERY = 1.0  # seconds between two looks at who lacks a vector
AGAIN_AFTER = 60.0  # seconds after an encoder failed
LOOKED_AT_ONCE = 200  # stored entries between two turns of the event loop
REST = 0.01  # seconds between two such turns
Close = Callable[[Encoding], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Side:
    """A checkpoint that has an index."""

    name: str
    encoding: Encoding
    file: VectorFile
    reencoder: Reencoder
    unfilled: bool = False  # entries may lack a vector without being on the list
    rests_until: float = 0.0  # seconds of the loop's clock: its encoder has failed


def quiet(encoder: Encoder) -> Encode:
    """Return what encodes without being in the way of those who ask this encoder."""
    return encoder.encode_quietly if isinstance(encoder, OnnxEncoder) else encoder.encode


async def open_file(folder: Path, encoder: Encoder) -> VectorFile:
    """Open the file of what an encoder has made; raise OSError."""
    return await asyncio.to_thread(VectorFile.open, folder, encoder.checkpoint, encoder.dimension)


class Sides:
    """The sides by name. Belongs to one event loop."""

    def __init__(
        self,
        *,
        cache: Cache,
        documents: DocumentStore,
        folder: Path,
        share: float,
        close: Close,
    ) -> None:
        """Files lie in `folder`; `share` of the time goes into encoding; `close` ends encoders."""
        self._cache = cache
        self._documents = documents
        self._folder = folder
        self._share = share
        self._close = close
        self._sides: dict[str, Side] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, name: str | None) -> Side | None:
        """Return a side; None if there is none of this name."""
        return None if name is None else self._sides.get(name)

    def of(self, checkpoint: str) -> Side | None:
        """Return the side of a checkpoint's id; None if there is none."""
        return next((s for s in self._sides.values() if s.encoding.checkpoint == checkpoint), None)

    def renew(self, name: str, encoding: Encoding) -> Side:
        """Have another encoder of the same checkpoint serve a side; return it."""
        return self._add(name, encoding, self._sides[name].file)

    def retire_all_but(self, names: Collection[str]) -> None:
        """Retire whoever is not in use any more."""
        for other in [each for each in self._sides if each not in names]:
            self.retire(other)

    async def adopt(self, name: str, encoding: Encoding, file: VectorFile | None = None) -> Side:
        """Return the side of a checkpoint whose index the cache has already. Raises OSError."""
        known = self._sides.get(name)
        if known is not None:
            return known
        file = file or await open_file(self._folder, encoding.encoder)
        self._cache.vectors[encoding.checkpoint].made = made_from(file)
        return self._add(name, encoding, file)

    async def open(self, name: str, encoding: Encoding) -> Side:
        """Begin an index for a checkpoint, empty. Raises OSError, and ends the encoder then."""
        try:
            file = await open_file(self._folder, encoding.encoder)
            index = PartitionedIndex(encoding.dimension)
            self._cache.vectors.open(encoding.checkpoint, index, made_from(file))
        except BaseException:
            await self._close(encoding)
            raise
        return self._add(name, encoding, file)

    def _add(self, name: str, encoding: Encoding, file: VectorFile) -> Side:
        encoder, encode = encoding.encoder, quiet(encoding.encoder)
        reencoder = Reencoder(self._cache, encoder, encode, file, self._share)
        side = self._sides[name] = Side(name, encoding, file, reencoder)
        return side

    def retire(self, name: str) -> None:
        """Forget a checkpoint's vectors; requests under way may still ask its encoder."""
        side = self._sides.pop(name, None)
        if side is not None:
            index = self._cache.vectors.drop(side.encoding.checkpoint)
            self._spawn(self._put_away(side, index))

    async def delete_other_files(self) -> None:
        """Delete the files of checkpoints that have no side."""
        ids = [side.encoding.checkpoint for side in self._sides.values()]
        await asyncio.to_thread(delete_others, self._folder, ids)

    def tend(self, names: Callable[[], tuple[str | None, ...]]) -> None:
        """Encode from now on, in the background, what the sides of these names lack."""
        self._spawn(self._tend(names))

    async def aclose(self) -> None:
        """Stop; what lacks a vector gets it after the next start."""
        for task in list(self._tasks):
            await stop(task)
        for side in self._sides.values():
            side.file.close()
            await self._close(side.encoding)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="nearhit-checkpoints")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put_away(self, side: Side, index: VectorIndex | None) -> None:
        try:
            await asyncio.sleep(GRACE)
        finally:
            side.file.close()
            if index is not None:
                await index.aclose()
            await self._close(side.encoding)

    async def _tend(self, names: Callable[[], tuple[str | None, ...]]) -> None:
        if self._sides:
            await self.bring_back()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for name in names():
                side = self.get(name)
                if side is None or asyncio.get_running_loop().time() < side.rests_until:
                    continue
                if not await self._fed(side):
                    side.rests_until = asyncio.get_running_loop().time() + AGAIN_AFTER

    async def _fed(self, side: Side) -> bool:
        """Encode what a side lacks; return whether that could be done."""
        try:
            if side.unfilled:
                await self.bring_back()
                await side.reencoder.fill(lambda done, of: None)
                side.unfilled = False
            await side.reencoder.catch_up()
        except (EmbedError, OSError) as error:
            log.warning("entries lack a vector of %s: %s", side.encoding.checkpoint, error)
            return False
        except Exception:
            log.exception("entries lack a vector of %s", side.encoding.checkpoint)
            return False
        return True

    async def bring_back(self) -> None:
        """Look for what was stored under another checkpoint: a snapshot has one index only.

        What is in a row or a file is found from then on; the rest is noted as lacking.
        """
        vectors = self._cache.vectors
        try:
            async for batch in self._documents.load_all(LOOKED_AT_ONCE):
                for stored in batch:
                    if self._cache.exact(stored.held.id) == stored.held:
                        vectors.take_up(stored)
                for checkpoint in vectors.checkpoints:
                    await vectors[checkpoint].index.keep_pace()
                await asyncio.sleep(REST)
        except StoreUnavailable as error:
            log.warning("some entries are found by their exact key only: %s", error)
