"""The real proxy on a real port: in this process for speed, or as a process that can be killed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import fastapi.dependencies.models
import uvicorn
import yaml

from embed.encoder import Encoder
from proxy.app import App, open_app
from proxy.checkpoints_root import OpenNamed
from proxy.protocol import Limits, protocol_class
from proxy.settings import Settings, load_settings
from proxy.whereabouts import findable
from store.policy import PolicyBook
from store.policy_file import book_as_data, parse_policies
from store.policy_history import Seed, read_seed

ROOT = Path(__file__).parent.parent
_FIRST_PORT, _PORTS_A_WORKER = 20_000, 1_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_OPENED = itertools.count(1)
_TURNS = itertools.count(os.getpid())  # another run beside this one begins elsewhere


def digest(key: str) -> str:
    """Return what a config holds in place of a key."""
    return sha256(key.encode()).hexdigest()


@dataclass
class Proxy:
    """A running proxy."""

    port: int
    app: App | None = None  # of one that serves in this process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


def policies(*categories: dict[str, Any]) -> PolicyBook:
    """Return a book as a policies file with these categories would give it."""
    return parse_policies({"categories": list(categories)}, "test")


def seed_of(book: PolicyBook, file: Path | None = None) -> Seed:
    """Return what a policies file with this book would seed."""
    if file is not None:
        return read_seed(file)
    return Seed("file", digest(json.dumps(book_as_data(book))), book)


def settings_for(data_dir: Path, base_url: str, **config: Any) -> Settings:
    """Return settings with one upstream; `config` replaces or adds top-level keys."""
    file = data_dir / "nearhit.yaml"
    data_dir.mkdir(parents=True, exist_ok=True)
    upstreams = [{"name": "fake", "base_url": base_url, "models": ["*"]}]
    whole = {"data_dir": str(data_dir), "upstreams": upstreams, **config}
    file.write_text(yaml.safe_dump(whole))
    return load_settings(file, environ={})


@asynccontextmanager
async def proxy_running(
    settings: Settings,
    book: PolicyBook | None = None,
    *,
    policies_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    encoder: Encoder | None = None,
    promoted: OpenNamed | None = None,
) -> AsyncIterator[Proxy]:
    """Serve in this event loop, on a free port, with the production protocol class."""
    _spare_the_collector()
    async with open_app(
        settings,
        seed_of(book or policies({"name": "default"}), policies_file),
        environ or {},
        on_progress=lambda _: None,
        policies_file=policies_file,
        encoder=encoder,
        promoted=promoted,
    ) as app:
        config = uvicorn.Config(
            app,
            http=protocol_class(Limits(), at_once=app.at_once),
            ws="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        # asyncio turns Nagle's algorithm off, 40 ms a request, only where TCP is named.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
            listener.bind(("127.0.0.1", 0))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await server.listening.wait()
                with findable(settings.data_dir, listener):
                    yield Proxy(listener.getsockname()[1], app)
            finally:
                server.should_exit = True
                await serving
    _forget_endpoints()


def _spare_the_collector() -> None:
    """Let seven of eight apps that are opened here find nothing to collect.

    One collects all garbage before it serves. That is a moment in a process of its own, but a
    second and more among all that the tests have imported; closed apps wait for the eighth.
    """
    if next(_OPENED) % 8:
        gc.freeze()  # the app thaws it when it closes


def _forget_endpoints() -> None:
    """Let go of closed apps: FastAPI remembers the last 4096 endpoints that it looked at.

    They are methods of objects that hold an app's cache and encoder. A process that serves opens
    one app; this one opens hundreds, and kept close to two hundred of them.
    """
    for remembered in vars(fastapi.dependencies.models).values():
        if hasattr(remembered, "cache_clear"):
            remembered.cache_clear()


class _Server(uvicorn.Server):
    """Leaves the signals to pytest, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class ProxyProcess:
    """`nearhit serve` as a process of its own."""

    def __init__(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        start: bool = True,
        within: Sequence[str] = (),
    ) -> None:
        """`within` is a command that executes the server, in a namespace of its own, say."""
        self.port = free_port()
        self._arguments = arguments
        self._environ = environ or {}
        self._within = within
        # A file, appended to: a full pipe would hold up a process that warns a lot.
        self._words = tempfile.TemporaryFile("a+")
        if start:
            self.start()

    def start(self) -> None:
        """Start it; again once it has ended, on the same port."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("NEARHIT_", "OPENAI_"))}
        self._process = subprocess.Popen(
            [*self._within, sys.executable, "-m", "proxy.cli", "serve", "--port", str(self.port)]
            + list(self._arguments),
            cwd=ROOT,
            env={**clean, **self._environ},
            stderr=self._words,
        )

    @property
    def proxy(self) -> Proxy:
        return Proxy(self.port)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self, seconds: float = 60) -> None:
        """Wait until /ready says 200; raise with the process's last words if it ends before."""
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise RuntimeError(f"exit {self._process.returncode}: {self.last_words()}")
                try:
                    async with session.get(f"{self.proxy.url}/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        self.kill()
        raise TimeoutError(f"not ready in {seconds} s: {self.last_words()}")

    def last_words(self) -> str:
        """Return what the process has written to stderr."""
        self._words.seek(0)
        return self._words.read()

    def kill(self) -> None:
        """kill -9."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def hang_up(self) -> None:
        """Send it SIGHUP."""
        self.send(signal.SIGHUP)

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal: SIGSTOP holds it up, SIGCONT lets it go on."""
        self._process.send_signal(sign)

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit status."""
        self._process.send_signal(sign)
        return self._process.wait(30)

    def close(self) -> None:
        """Make sure that nothing is left."""
        if self._process.poll() is None:
            self.kill()
        self._words.close()


def free_port() -> int:
    """Return a port that nothing listens on now and that no other call is given soon.

    From below those that the kernel deals out: one of its own could go to a client, or to another
    worker's test, before the server that it is meant for listens.
    """
    while True:
        port = _FIRST_PORT + _PORTS_A_WORKER * _WORKER + next(_TURNS) % _PORTS_A_WORKER
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
