"""Running the proxy in this process: the socket, signals, and the words a person sees."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop

from embed.errors import EmbedError
from proxy.app import App, open_app
from proxy.demo_fleet import DemoFleet, DemoFleetFailed
from proxy.protocol import Limits, protocol_class
from proxy.settings import Server as ServerSettings
from proxy.settings import Settings, Upstream
from store.errors import StoreError
from store.policy_history import Seed

_CURL = """\
nearhit is ready on http://{address}; try:
  curl http://{address}/v1/chat/completions -H 'content-type: application/json' -i -d \\
    '{{"model": "{model}", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'"""


class CannotStart(Exception):
    """The server cannot start; says why in one line."""


class Server(uvicorn.Server):
    """uvicorn's server, but a signal that was obeyed is not raised again: exit status 0."""

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on the first signal, at once on a second Ctrl-C."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where to find us."""
        await super().startup(sockets)
        say(self._greeting)


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error}") from None


@asynccontextmanager
async def _with_upstreams(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Settings, str]]:
    """Yield settings that name an upstream, and a model to try it with."""
    if settings.upstreams:
        literal = [m for u in settings.upstreams for m in u.models if not set("*?[") & set(m)]
        yield settings, (literal or ["gpt-4o-mini"])[0]
    elif environ.get("OPENAI_BASE_URL") or environ.get("OPENAI_API_KEY"):
        base_url = environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        key = "OPENAI_API_KEY" if environ.get("OPENAI_API_KEY") else None
        upstream = Upstream(name="openai", base_url=base_url, api_key_env=key)
        yield settings.model_copy(update={"upstreams": [upstream]}), "gpt-4o-mini"
    else:
        say("no upstream configured: starting a demo model on this machine")
        async with DemoFleet(progress=say) as fleet:
            upstream = Upstream(name="demo", base_url=fleet.base_url, models=["*"])
            yield settings.model_copy(update={"upstreams": [upstream]}), fleet.model


async def serve(
    settings: Settings, seed: Seed, policies_file: Path | None, environ: Mapping[str, str]
) -> None:
    """Serve until SIGTERM or Ctrl-C; raise CannotStart."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with _listen(settings.server.host, settings.server.port) as listener:
        async with AsyncExitStack() as stack:
            try:
                upstreams = _with_upstreams(settings, environ)
                settings, model = await stack.enter_async_context(upstreams)
                app = await stack.enter_async_context(
                    open_app(settings, seed, environ, say, policies_file=policies_file)
                )
            except (StoreError, EmbedError, DemoFleetFailed, OSError) as error:
                raise CannotStart(str(error)) from None
            host, port = listener.getsockname()[:2]
            _reload_on_hangup(app)
            greeting = _CURL.format(address=f"{host}:{port}", model=model)
            await Server(_config(app, settings.server), greeting).serve(sockets=[listener])


def _reload_on_hangup(app: App) -> None:
    """Look at the policies file on SIGHUP, which ends a process that does not expect it."""
    running: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(app.reload(), name="nearhit-reload")
        running.add(task)
        task.add_done_callback(running.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def _config(app: App, server: ServerSettings) -> uvicorn.Config:
    limits = Limits(header_timeout=server.header_timeout, body_timeout=server.body_timeout)
    return uvicorn.Config(
        app,
        http=protocol_class(limits),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing here asks where a client is beyond the last hop
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(server.shutdown_timeout),
    )


def run(
    settings: Settings, seed: Seed, policies_file: Path | None, environ: Mapping[str, str]
) -> None:
    """Serve on uvloop until told to stop; raise CannotStart."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, seed, policies_file, environ))
