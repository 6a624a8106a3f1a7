"""What every encoder offers. The serving side knows encoders by this protocol only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]  # shape (d,), unit length
Vectors = npt.NDArray[np.float32]  # shape (n, d), unit rows
T = TypeVar("T")


class Encoder(Protocol):
    """Turns texts into unit vectors. Implementations: ONNX Runtime, torch, remote."""

    checkpoint: str  # the id that every vector made here carries
    dimension: int
    max_tokens: int  # the model's window, special tokens included

    def fits(self, text: str) -> bool:
        """Whether the whole text fits the window. Cheap enough for the event loop."""
        ...

    def first_window(self, text: str) -> str | None:
        """Return what can be seen of the beginning of `text`, as a text that fits; None if nothing.

        It tells what a long text is about. Two texts may share it, so no answer may rest on it.
        """
        ...

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row of shape (d,) a text; raise EncoderFailed when the model fails."""
        ...

    async def aclose(self) -> None:
        """Free threads, sessions and sockets."""
        ...


@runtime_checkable
class ThreadedEncoder(Encoder, Protocol):
    """An encoder whose thread can go on with the vector, where waking another takes a while."""

    async def encode_and(self, text: str, work: Callable[[Vector], T]) -> tuple[Vectors, T]:
        """Return one text's vector, shape (1, d), and what `work` makes of it in the same thread.

        Raises EncoderFailed when either fails.
        """
        ...
