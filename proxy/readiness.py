"""Which parts of this process work: asked anew for /ready, now and then for pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

Ping = Callable[[], Awaitable[None]]
_EVERY = 10.0  # seconds that a page is shown the same
_PATIENCE = 1.0  # seconds that the first look may hold a page up


class Seen(NamedTuple):
    """Parts by whether they work; the failing ones with the name of their error."""

    ok: list[str]
    failing: dict[str, str]


async def readiness(pings: Mapping[str, Ping]) -> Seen:
    """Ask every part, one after the other."""
    ok: list[str] = []
    failing: dict[str, str] = {}
    for name, ping in pings.items():
        try:
            await ping()
            ok.append(name)
        except Exception as error:
            failing[name] = type(error).__name__
    return Seen(ok, failing)


class Readiness:
    """The last look at the parts, taken beside whoever wants to know."""

    def __init__(self, pings: Mapping[str, Ping], monotonic: Callable[[], float]) -> None:
        self._pings = pings
        self._monotonic = monotonic
        self._seen: Seen | None = None
        self._at = float("-inf")
        self._look: asyncio.Task[Seen] | None = None

    async def recent(self) -> Seen | None:
        """Return what was seen last, at most some ten seconds ago; None: nothing was yet."""
        if self._look is None and self._monotonic() - self._at >= _EVERY:
            self._look = asyncio.create_task(readiness(self._pings), name="nearhit-readiness")
            self._look.add_done_callback(self._done)
        if self._seen is None and self._look is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._look), _PATIENCE)
        return self._seen

    async def aclose(self) -> None:
        """Give up a look that is under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])

    def _done(self, look: asyncio.Task[Seen]) -> None:
        self._look, self._at = None, self._monotonic()
        if not look.cancelled() and look.exception() is None:
            self._seen = look.result()
