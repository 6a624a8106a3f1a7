"""Giving stored entries the vectors of another checkpoint, beside the requests, out of their way.

A few texts at a time, and then a rest: at most a share of the time of one encoder's threads is
taken, so that whoever asks finds a core free. What was encoded is in a file before anything else is
done with it (`store/vector_file.py`), so that a restart goes on where this was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from embed.encoder import Encoder, Vectors
from embed.errors import EncoderFailed
from store.cache import Cache
from store.entry import Held, Vector
from store.vector_file import VectorFile
from store.vectors import Made, Maker

log = logging.getLogger("nearhit.checkpoints")

BATCH = 8  # texts a forward pass: about 15 ms on one core, which is what a request may wait
AT_ONCE = 64  # entries looked at between two turns of the event loop
LONGEST_REST = 1.0  # seconds
_PROBE = "Is the encoder well?"
Encode = Callable[[Sequence[str]], Awaitable[Vectors]]
Progress = Callable[[int, int], None]  # (entries done, of how many)


@dataclass(slots=True)
class Counted:
    """How far a re-encoding is: for metrics and for whoever waits."""

    done: int = 0
    of: int = 0


def made_from(file: VectorFile) -> Maker:
    """Return what gives an entry's vectors from a file, once all of its texts are in it."""

    def made(held: Held) -> Made | None:
        vector = file.get(held.query)
        if vector is None or not all(map(file.knows, held.earlier)):
            return None
        return Made(vector, tuple(map(file.get, held.earlier)))

    return made


def rest_after(spent: float, share: float) -> float:
    """Return for how many seconds to rest so that the seconds spent are this share of the time."""
    return min(spent * (1 / share - 1), LONGEST_REST)


class Reencoder:
    """Fills the index of one checkpoint with what another index has."""

    def __init__(
        self, cache: Cache, encoder: Encoder, encode: Encode, file: VectorFile, share: float
    ) -> None:
        """`encode` is the encoder's, for whoever has time; `share` of the time it may be used."""
        self.checkpoint = encoder.checkpoint
        self.file = file
        self.progress = Counted()
        self._cache = cache
        self._encoder = encoder
        self._encode = encode
        self._share = share
        self._made = made_from(file)
        self._turn = asyncio.Lock()

    async def fill(self, on_progress: Progress) -> None:
        """Give every entry that is found by meaning elsewhere its vectors here.

        Raises EncoderFailed when the encoder fails on everything, OSError when the file cannot
        be written; what was done until then stays done.
        """
        every = self._cache.held()
        self.progress = Counted(0, len(every))
        on_progress(0, len(every))
        for start in range(0, len(every), AT_ONCE):
            part = every[start : start + AT_ONCE]
            vectors = self._cache.vectors
            async with self._turn:
                await self._give([each for each in part if vectors.lacks(each, self.checkpoint)])
            self.progress.done = start + len(part)
            on_progress(self.progress.done, len(every))
            await asyncio.sleep(0)
        await self.catch_up()
        await asyncio.to_thread(self.file.sync)

    async def catch_up(self) -> None:
        """Give those their vectors that came meanwhile. Raises as `fill`."""
        lacking = self._cache.vectors[self.checkpoint].lacking
        async with self._turn:
            while lacking:
                ids = list(islice(lacking, AT_ONCE))
                for id in ids:  # before: one that is stored anew meanwhile is lacking again
                    del lacking[id]
                held = [each for id in ids if (each := self._cache.exact(id)) is not None]
                try:
                    await self._give(held)
                except BaseException:
                    lacking.update(dict.fromkeys(each.id for each in held))
                    raise

    async def _give(self, entries: Sequence[Held]) -> None:
        await self._make(entries)
        place = self._cache.vectors[self.checkpoint]
        for held in entries:
            made = self._made(held)
            # None: the encoder cannot take the question whole, so it is found by its key only.
            if made is not None and self._cache.exact(held.id) == held:
                place.put(held, made)
        await place.index.keep_pace()

    async def _make(self, entries: Sequence[Held]) -> None:
        """Have all texts of the entries in the file."""
        texts = dict.fromkeys(text for held in entries for text in (held.query, *held.earlier))
        fresh = sorted((text for text in texts if not self.file.knows(text)), key=len)
        for start in range(0, len(fresh), BATCH):
            began = time.monotonic()
            some = fresh[start : start + BATCH]
            # Few at a time: a look at whether one fits takes a moment of the event loop.
            whole = [text for text in some if self._encoder.fits(text)]
            made: dict[str, Vector | None] = dict.fromkeys(some)
            if whole:
                made |= await self._encoded(whole)
            await asyncio.to_thread(self.file.add, made)
            await asyncio.sleep(rest_after(time.monotonic() - began, self._share))

    async def _encoded(self, texts: Sequence[str]) -> dict[str, Vector | None]:
        """Return the texts' vectors, None for one that the encoder fails on though it is well."""
        try:
            return dict(zip(texts, await self._encode(texts), strict=True))
        except EncoderFailed:
            await self._encode([_PROBE])  # raises if it is not the texts
        known: dict[str, Vector | None] = {}
        for text in texts:
            try:
                known[text] = (await self._encode([text]))[0]
            except EncoderFailed:
                await self._encode([_PROBE])
                known[text] = None
        return known
