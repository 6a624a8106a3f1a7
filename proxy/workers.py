"""Several worker processes on one host: the parent starts them, keeps them up and ends them.

Each worker is a replica of its own with a data directory below the host's, and listens by itself
on the port that the parent holds (SO_REUSEPORT): the kernel spreads connections evenly, where
workers that share one listening socket leave most of them to whoever wakes first; and it gives
none to a worker that has died or is not ready yet. Workers are fresh interpreters, never forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from proxy.demo_fleet import DemoFleetFailed
from proxy.host_metrics import Place
from proxy.logs import configure
from proxy.settings import Settings
from proxy.start import CannotStart, greeting, reserve, say, with_upstreams
from proxy.whereabouts import findable

REFUSED = 1  # the exit status of a worker that has said why it cannot start
TRIES = 3  # of a worker that dies before it has ever served
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a worker is started again
STEADY = 60.0  # seconds of life after which a death is not the continuation of the last
CLOSING = 30.0  # seconds beyond server.shutdown_timeout in which a worker closes its store
READY = b"ready\n"  # what a worker says on stdout once it serves


class End(NamedTuple):
    """How a worker ended."""

    status: int  # its exit status; negative: the signal that killed it
    served: bool
    lived: float  # seconds


class Past(NamedTuple):
    """What a worker's ends come to."""

    served: bool = False  # whether it ever did
    short: int = 0  # lives in a row that were short, up to the last


def after(past: Past, end: End) -> tuple[Past, float | None]:
    """Return the past with one more end, and the seconds until the next start; None: give up.

    Who has served before is started again for ever: the others go on serving meanwhile.
    """
    short = 1 if end.lived >= STEADY else past.short + 1
    now = Past(past.served or end.served, short)
    if not now.served and (end.status == REFUSED or short >= TRIES):
        return now, None
    return now, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(short - 1, 10))


class Worker:
    """One worker, whichever process it is at the moment."""

    def __init__(self, number: int, orders: bytes) -> None:
        """`orders` is the line that its process reads first; see proxy/worker.py."""
        self.ready = asyncio.Event()
        self._number = number
        self._orders = orders
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self, stopping: asyncio.Event) -> None:
        """Have it serve until told to stop and ended; raise CannotStart once it is given up."""
        past = Past()
        while not stopping.is_set():
            end = await self._live(stopping)
            if stopping.is_set():
                return
            past, pause = after(past, end)
            if pause is None:
                raise CannotStart(f"worker {self._number} {_how(end)} before it served: giving up")
            say(f"nearhit: worker {self._number} {_how(end)}: starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()

    def send(self, sign: signal.Signals) -> None:
        """Send a signal to its process, if there is one."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(sign)

    async def _live(self, stopping: asyncio.Event) -> End:
        began = asyncio.get_running_loop().time()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy.worker"),
            stdin=asyncio.subprocess.PIPE,  # which it reads to its end: it goes when we do
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C reaches it through us alone
        )
        self._process = process
        assert process.stdin is not None and process.stdout is not None
        if stopping.is_set():
            self.send(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):
            process.stdin.write(self._orders)
            await process.stdin.drain()
        served = await process.stdout.readline() == READY
        if served:
            self.ready.set()
        status = await process.wait()
        self.ready.clear()
        self._process = None
        process.stdin.close()
        return End(status, served, asyncio.get_running_loop().time() - began)


def _how(end: End) -> str:
    if end.status < 0:
        return f"was killed by {signal.Signals(-end.status).name}"
    return f"ended with status {end.status}"


class Host:
    """All workers of this host."""

    def __init__(self, workers: list[Worker], seconds: float) -> None:
        """`seconds` is what a worker has to end when told to; then it is killed."""
        self._workers = workers
        self._seconds = seconds
        self._stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until told to stop and all have ended; raise CannotStart.

        The first worker begins alone, for what is done once: the schema, the policies' version,
        a checkpoint. `on_ready` is called when it serves.
        """
        first, *others = self._workers
        keeping = [asyncio.create_task(first.keep(self._stopping))]
        ready = asyncio.create_task(first.ready.wait())
        await asyncio.wait({keeping[0], ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not keeping[0].done():
            on_ready()
            keeping += [asyncio.create_task(worker.keep(self._stopping)) for worker in others]
        await asyncio.wait(keeping, return_when=asyncio.FIRST_EXCEPTION)
        if not self._stopping.is_set():  # one is given up
            self.stop(signal.SIGTERM)
        await asyncio.wait(keeping)
        for task in keeping:
            task.result()

    def stop(self, sign: signal.Signals) -> None:
        """Tell all to end; what has not ended in time is killed."""
        if not self._stopping.is_set():
            self._stopping.set()
            asyncio.get_running_loop().call_later(self._seconds, self._kill)
        self._send(sign)

    def hang_up(self) -> None:
        """Have all look at the policies file, which those do that are starting anyway."""
        for worker in self._workers:
            if worker.ready.is_set():
                worker.send(signal.SIGHUP)

    def _send(self, sign: signal.Signals) -> None:
        for worker in self._workers:
            worker.send(sign)

    def _kill(self) -> None:
        say(f"nearhit: workers have not ended in {self._seconds:g} s and are killed")
        self._send(signal.SIGKILL)


async def serve(settings: Settings, policies_file: Path | None, environ: Mapping[str, str]) -> None:
    """Serve with several workers until SIGTERM or Ctrl-C; raise CannotStart."""
    server = settings.server
    with (
        reserve(server.host, server.port) as held,
        TemporaryDirectory(prefix="nearhit-") as sockets,
        ExitStack() as stack,
    ):
        port = held.getsockname()[1]
        try:
            async with with_upstreams(settings, environ) as (settings, model, _):
                settings = settings.model_copy(
                    update={"server": server.model_copy(update={"port": port})}
                )
                places = [
                    Place(number, server.workers, Path(sockets), settings.data_dir)
                    for number in range(server.workers)
                ]
                workers = [
                    Worker(place.number, orders(settings, place, policies_file)) for place in places
                ]
                host = Host(workers, server.shutdown_timeout + CLOSING)
                loop = asyncio.get_running_loop()
                for sign in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(sign, host.stop, sign)
                loop.add_signal_handler(signal.SIGHUP, host.hang_up)
                told = greeting(
                    held,
                    model,
                    pages=settings.dashboard.enabled,
                    keys=bool(settings.auth.keys),
                )

                def greet() -> None:
                    # Only now: until a worker has its own, the directory may be another host's.
                    stack.enter_context(findable(settings.data_dir, held))
                    say(told)

                await host.run(greet)
        except (DemoFleetFailed, OSError) as error:
            raise CannotStart(str(error)) from None


def orders(settings: Settings, place: Place, policies_file: Path | None) -> bytes:
    """Return the line that tells a worker who it is and what to serve with."""
    data_dir = settings.data_dir / f"worker-{place.number}"
    own = settings.model_copy(update={"data_dir": data_dir})
    told = {
        "settings": own.model_dump_json(),
        "place": [place.number, place.workers, str(place.sockets), str(place.data_dir)],
        "policies_file": None if policies_file is None else str(policies_file),
    }
    return json.dumps(told).encode() + b"\n"


def run(settings: Settings, policies_file: Path | None, environ: Mapping[str, str]) -> None:
    """Serve until told to stop; raise CannotStart."""
    configure(settings.logging)
    asyncio.run(serve(settings, policies_file, environ))
