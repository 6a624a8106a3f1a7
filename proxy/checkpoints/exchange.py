"""What promoting asks of the switch: values and the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from embed.encoder import Encoder
from proxy.calibrated import LiveScore
from proxy.policy_editor import Edited
from store.policy import PolicyBook

Edit = Callable[[PolicyBook], Edited]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchange:
    """What is put in force at once, in place of what serves."""

    encoder: Encoder
    score: LiveScore
    edit: Edit  # of the policies: thresholds for this encoder
    who: str
    note: str  # of the policy version


class Switching(Protocol):
    """What puts another encoder in force; see proxy/switching.py."""

    @property
    def active(self) -> str:
        """The id of the checkpoint that serves."""
        ...

    @property
    def former(self) -> str:
        """The id of the one that one can go back to; "" if none."""
        ...

    @property
    def staging(self) -> str:
        """The id of the one for which entries are re-encoded; "" if none."""
        ...

    async def stage(self, encoder: Encoder, on_progress: Callable[[int, int], None]) -> None:
        """Re-encode what is stored, beside what serves; raise EmbedError or StoreUnavailable."""
        ...

    async def swap(self, exchange: Exchange) -> None:
        """Put it in force, all at once; raise, and leave everything as it was."""
        ...

    async def rollback(self, edit: Edit, who: str, note: str) -> None:
        """Put the former one in force again, at once."""
        ...

    async def abandon(self) -> None:
        """Let go of what was re-encoded for the one that is staged."""
        ...
