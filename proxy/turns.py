"""A dialogue's earlier user turns: their vectors, and whether an entry's mean the same.

`store/decision/context.py` decides; here the texts are encoded, by the batcher that all go through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from embed.encoder import Vector
from embed.errors import EmbedError
from proxy.encoding import Encoding
from store.decision.context import open_places, same_past

# Texts that wait for the encoder at once: a long dialogue must not fill its queue. Most are in the
# batcher's memo, for each was a question itself.
AT_ONCE = 8


class TurnEncoder:
    """Encodes earlier turns by one checkpoint, for the lookup and for what it may find later."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    async def same(
        self,
        asked: Sequence[str],
        stored: Sequence[str],
        stored_vectors: Sequence[Vector | None],
        threshold: float,
        max_wait: float,
    ) -> bool:
        """Whether the turns before a question mean the same as those before an entry's.

        `stored_vectors` are those of the entry's turns by this checkpoint, () if there are none.
        Only turns that differ are encoded, and none if a guard forbids one of them. Not known
        within `max_wait` seconds is no.
        """
        places = open_places(asked, stored, stored_vectors)
        if places is None:
            return False
        try:
            async with asyncio.timeout(max_wait):
                vectors = await self.encode([asked[n] for n in places])
        except TimeoutError:
            return False
        return same_past(vectors, [stored_vectors[n] for n in places], threshold)

    async def encode(self, texts: Sequence[str]) -> tuple[Vector | None, ...]:
        """Return a unit vector of shape (d,) a text.

        None for a text that the encoder cannot take whole, or did not: nothing is lost by that but
        a hit, so it is no error.
        """
        vectors: list[Vector | None] = []
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            vectors += await asyncio.gather(*map(self._encoded, part))
        return tuple(vectors)

    async def _encoded(self, text: str) -> Vector | None:
        if not self._encoding.encoder.fits(text):
            return None
        try:
            return await self._encoding.batcher.encode(text)
        except EmbedError:
            return None
