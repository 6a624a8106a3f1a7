"""Running the proxy in this process: HTTP on a socket, and signals."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop

from embed.errors import EmbedError
from proxy.app import App, open_app
from proxy.demo_fleet import DemoFleetFailed
from proxy.logs import configure
from proxy.observing_settings import LoggingSettings
from proxy.protocol import Limits, protocol_class
from proxy.settings import Server as ServerSettings
from proxy.settings import Settings
from proxy.start import CannotStart, greeting, listen, say, with_upstreams
from proxy.tracing_root import TracingUnavailable
from proxy.whereabouts import findable
from store.errors import StoreError
from store.policy_history import Seed, unjudged

DEFAULT_LOGGING = LoggingSettings()
COULD_NOT = (StoreError, EmbedError, DemoFleetFailed, TracingUnavailable, OSError)


class Server(uvicorn.Server):
    """uvicorn's server, but a signal that was obeyed is not raised again: exit status 0."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on the first signal, at once on a second Ctrl-C."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say that we have."""
        await super().startup(sockets)
        self._on_ready()


async def serve(
    settings: Settings, seed: Seed, policies_file: Path | None, environ: Mapping[str, str]
) -> None:
    """Serve until SIGTERM or Ctrl-C; raise CannotStart."""
    with listen(settings.server.host, settings.server.port) as listener:
        async with AsyncExitStack() as stack:
            try:
                upstreams = with_upstreams(settings, environ)
                settings, model, demo = await stack.enter_async_context(upstreams)
                if demo and policies_file is None:
                    seed = unjudged(seed)  # there is nobody to judge
                app = await stack.enter_async_context(
                    open_app(settings, seed, environ, say, policies_file=policies_file)
                )
            except COULD_NOT as error:
                raise CannotStart(str(error)) from None
            stack.enter_context(findable(settings.data_dir, listener))
            told = greeting(
                listener,
                model,
                pages=settings.dashboard.enabled,
                keys=bool(settings.auth.keys),
            )
            await serve_app(app, listener, settings.server, lambda: say(told))


async def serve_app(
    app: App, listener: socket.socket, server: ServerSettings, on_ready: Callable[[], None]
) -> None:
    """Answer what comes to the socket until a signal ends it."""
    _reload_on_hangup(app)
    await Server(_config(app, server), on_ready).serve(sockets=[listener])


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
        http=protocol_class(limits, at_once=app.at_once),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,  # its lines go where ours go
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
    run_on_uvloop(serve(settings, seed, policies_file, environ), settings.logging)


def run_on_uvloop(
    serving: Coroutine[None, None, None], logging: LoggingSettings = DEFAULT_LOGGING
) -> None:
    """Run to the end what serves, with a log on stderr; raise what it raises."""
    configure(logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)
