"""An encoder that has encoded what it will be asked for, in large batches, before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from embed.encoder import Encoder, Vector, Vectors

TOGETHER = 64  # texts in one pass


class EncodedAhead:
    """Answers from what was encoded ahead; what was not is encoded then. Owns `encoder`."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Vector] = {}
        self.checkpoint = encoder.checkpoint
        self.dimension = encoder.dimension
        self.max_tokens = encoder.max_tokens

    async def prepare(self, texts: Iterable[str], on_progress: Callable[[str], None]) -> None:
        """Encode these texts, of one beyond the window what can be seen of it."""
        seen = (text if self.fits(text) else self.first_window(text) for text in texts)
        wanted = {text for text in seen if text is not None} - self._known.keys()
        ordered = sorted(wanted, key=lambda text: (len(text), text))  # little padding in a pass
        for start in range(0, len(ordered), TOGETHER):
            part = ordered[start : start + TOGETHER]
            vectors = await self._encoder.encode(part)
            self._known.update(zip(part, np.array(vectors, np.float32), strict=True))
            on_progress(f"encoded {start + len(part)} of {len(ordered)} texts")

    def fits(self, text: str) -> bool:
        return self._encoder.fits(text)

    def first_window(self, text: str) -> str | None:
        return self._encoder.first_window(text)

    async def encode(self, texts: Sequence[str]) -> Vectors:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        new: dict[str, Vector] = {}
        if fresh:
            new = dict(zip(fresh, await self._encoder.encode(fresh), strict=True))
        return np.stack([self._known[text] if text in self._known else new[text] for text in texts])

    async def aclose(self) -> None:
        await self._encoder.aclose()
