"""A Nearhit that stages, swaps and goes back when a file says so: what bench.reencoding measures.

    python -m bench.reencoding_server --config FILE --candidate DIRECTORY --orders FOLDER --port N

It is `nearhit serve` but for that: no gate stands before the candidate, and a staging can be cut
off and gone on with.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

import orjson

from embed.encoder import Encoder
from proxy.app import App, open_app
from proxy.calibrated import LiveScore
from proxy.checkpoints import promoting
from proxy.checkpoints.exchange import Exchange
from proxy.checkpoints_root import open_promoted
from proxy.policy_editor import Edited
from proxy.server import run_on_uvloop, serve_app
from proxy.settings import Settings, load_settings
from proxy.start import listen, say
from store.policy import PolicyBook
from store.policy_history import read_seed

LOOK_EVERY = 0.05  # seconds between two looks at the order
ORDER, STATE = "order", "state.json"
A_DAY = 86_400.0


def kept(book: PolicyBook) -> Edited:
    """Keep the policies as they are."""
    return book, ("checkpoint.bench", None, None, None)


class Obedient:
    """Does what the order file says, and writes down how far it is."""

    def __init__(self, app: App, settings: Settings, candidate: Path, folder: Path) -> None:
        self._switch = app.switch
        self._settings = settings
        self._candidate = candidate
        self._folder = folder
        self._order = ""
        self._encoder: Encoder | None = None
        self._work: asyncio.Task[None] | None = None
        self._staged = False
        self._began = 0.0
        self._spent = 0.0  # seconds of staging

    async def run(self) -> None:
        """Look for orders, for ever."""
        while True:
            order = ""
            with suppress(FileNotFoundError):
                order = (self._folder / ORDER).read_text()
            if order and order != self._order:
                self._order = order
                await self._obey(order.split()[0])
            self._tell()
            await asyncio.sleep(LOOK_EVERY)

    async def _obey(self, order: str) -> None:
        match order:
            case "stage":
                self._start(self._stage())
            case "pause":
                if self._work is not None:
                    self._work.cancel()
                    await asyncio.wait([self._work])
            case "swap":
                self._start(self._swap())
            case "rollback":
                self._start(self._switch.rollback(kept, "bench"))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._work = asyncio.create_task(work, name="bench-order")

    async def _stage(self) -> None:
        self._began = time.monotonic()
        if self._encoder is None:
            self._encoder = await open_promoted(self._settings.encoder, self._candidate)
        try:
            await self._switch.stage(self._encoder, lambda done, of: None)
            self._staged = True
        finally:
            self._spent += time.monotonic() - self._began

    async def _swap(self) -> None:
        assert self._encoder is not None
        await self._switch.swap(
            Exchange(encoder=self._encoder, score=LiveScore(None), edit=kept, who="bench", note="")
        )

    def _tell(self) -> None:
        work, progress = self._work, self._switch.progress
        failed = work is not None and work.done() and not work.cancelled() and work.exception()
        state = {
            "order": self._order,
            "busy": work is not None and not work.done(),
            "failed": str(failed or ""),
            "staged": self._staged,
            "active": self._switch.active,
            "former": self._switch.former,
            "done": progress.done,
            "of": progress.of,
            "staging seconds": self._spent,
        }
        unfinished = self._folder / f"{STATE}.tmp"
        unfinished.write_bytes(orjson.dumps(state))
        unfinished.replace(self._folder / STATE)


async def serve(config: Path, candidate: Path, folder: Path, port: int) -> None:
    """Serve until SIGTERM."""
    promoting.TAKE_OVER_EVERY = A_DAY  # what is staged for no promotion would be let go of
    settings = load_settings(config, environ={})
    seed = read_seed(settings.policies)
    with listen("127.0.0.1", port) as listener:
        async with open_app(settings, seed, os.environ, say) as app:
            obeying = asyncio.create_task(Obedient(app, settings, candidate, folder).run())
            await serve_app(app, listener, settings.server, lambda: say("ready"))
            obeying.cancel()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description="a Nearhit that switches checkpoints on demand")
    for name in ("config", "candidate", "orders"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    run_on_uvloop(serve(given.config, given.candidate, given.orders, given.port))


if __name__ == "__main__":
    main()
