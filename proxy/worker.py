"""One of several workers of a host: `python -m proxy.worker`, started by proxy/workers.py.

Its orders are a line on stdin; on stdout it says when it serves. When stdin ends the parent is
gone, however it went, and the worker stops as if told to.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, Self

from embed.onnx_encoder import default_threads
from proxy.app import open_app
from proxy.host_metrics import Place
from proxy.server import COULD_NOT, run_on_uvloop, serve_app
from proxy.settings import Settings, settings_from
from proxy.start import CannotStart, listen, say
from proxy.workers import READY, REFUSED
from store.policy_history import read_seed


class Orders(NamedTuple):
    """Who a worker is, and what it serves with."""

    settings: Settings
    place: Place
    policies_file: Path | None

    @classmethod
    def read(cls, line: str) -> Self:
        """Read what `proxy.workers.orders` wrote."""
        told = json.loads(line)
        number, workers, sockets, data_dir = told["place"]
        file = told["policies_file"]
        return cls(
            settings_from(told["settings"]),
            Place(number, workers, Path(sockets), Path(data_dir)),
            None if file is None else Path(file),
        )


def share_of_cores(settings: Settings, workers: int, cores: int) -> Settings:
    """Return settings in which the workers' encoders do not take each other's cores."""
    if settings.encoder.threads:
        return settings
    threads = max(1, min(default_threads(), cores // workers))
    encoder = settings.encoder.model_copy(update={"threads": threads})
    return settings.model_copy(update={"encoder": encoder})


async def serve(orders: Orders) -> None:
    """Serve until SIGTERM; raise CannotStart."""
    settings, place, file = orders
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    settings = share_of_cores(settings, place.workers, cores or 1)
    async with AsyncExitStack() as stack:
        try:
            app = await stack.enter_async_context(
                open_app(
                    settings, read_seed(file), os.environ, say, policies_file=file, place=place
                )
            )
        except COULD_NOT as error:
            raise CannotStart(str(error)) from None
        # Only now: from here on the kernel gives this worker its share of the connections.
        listener = listen(settings.server.host, settings.server.port, beside_others=True)
        stack.enter_context(listener)
        await serve_app(app, listener, settings.server, _tell_ready)


def _tell_ready() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


def _stop_with_parent() -> None:
    """Wait until the parent is gone, then stop as it would have told us to."""
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a lock held here would spoil our exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Serve; return the exit status."""
    orders = Orders.read(sys.stdin.buffer.readline().decode())
    threading.Thread(target=_stop_with_parent, name="nearhit-parent", daemon=True).start()
    try:
        run_on_uvloop(serve(orders), orders.settings.logging)
    except CannotStart as error:
        say(f"nearhit: worker {orders.place.number}: {error}")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
