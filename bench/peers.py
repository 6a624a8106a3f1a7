"""Other caching proxies and Nearhit, side by side: the same upstream, requests and generator.

Each peer is installed from PyPI into an environment of its own under bench/.peers.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import yaml

from bench.fake_upstream import CHAT
from bench.processes import Command, Server, ServerFailed, nearhit_server, running
from bench.questions import WORDS, Subject, rewordings, stored_question, subjects
from bench.stand import Base, StandFailed, quiet_calls, say
from bench.verdicts import Outcome, Reading, Row, call_faults, run_faults, settle
from bench.wrk import Load, Measured, WrkFailed, run_wrk
from embed.checkpoint import bundled_checkpoint_dir

ENVIRONMENTS = Path(__file__).with_name(".peers")
INSTALL_LIMIT = 900.0  # seconds
READY_LIMIT = 120.0
WARM_UP_REQUESTS = 5  # the first ones may take seconds
FEW_REQUESTS = 20  # a slow peer still counts
KNOWN = 500  # questions stored for the semantic row
SEMANTIC_RATE = 750  # rewordings a second that are kept ready


CANNOT_RUN = (
    ServerFailed,
    StandFailed,
    WrkFailed,
    OSError,
    aiohttp.ClientError,
    subprocess.TimeoutExpired,
    TimeoutError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A proxy to measure."""

    name: str
    package: str | None  # what pip installs; None: this environment has it
    ready_path: str
    command: Callable[[Path, Base], Command]  # from its Python and the stand
    environment: Callable[[Base], Mapping[str, str]] = field(default=lambda _: {})
    semantic: bool = True  # whether it hits by meaning as it is started here


def peer_body(question: str) -> str:
    """Return a request that every peer may cache: one turn, temperature 0."""
    messages = [{"role": "user", "content": question}]
    return orjson.dumps({"model": "bench", "temperature": 0, "messages": messages}).decode()


def _cachellm(python: Path, base: Base) -> Command:
    script = str(Path(__file__).with_name("cachellm_server.py"))
    folder = str(bundled_checkpoint_dir())
    return lambda port: (str(python), "-P", script, folder, "serve", "--port", str(port))


def _litellm(python: Path, base: Base) -> Command:
    target = {"model": "openai/bench", "api_base": base.upstream.origin + "/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": target}],
        "litellm_settings": {"cache": True, "cache_params": {"type": "local"}},
    }
    path = base.config.with_name("litellm.yaml")
    path.write_text(yaml.safe_dump(config))
    program = str(python.with_name("litellm"))
    options = ("--config", str(path), "--host", "127.0.0.1", "--num_workers", "1")
    return lambda port: (program, *options, "--port", str(port))


def _nearhit(_: Path, base: Base) -> Command:
    config = yaml.safe_load(base.config.read_text())
    path = base.config.with_name("nearhit-peer.yaml")
    path.write_text(yaml.safe_dump({**config, "data_dir": str(path.with_suffix(".data"))}))
    return nearhit_server(path)


PEERS = (
    Peer(name="nearhit", package=None, ready_path="/ready", command=_nearhit),
    Peer(
        name="cachellm-proxy 0.3.0",
        package="cachellm-proxy==0.3.0",
        ready_path="/v1/models",
        command=_cachellm,
        environment=lambda base: {
            "CACHELLM_BACKEND": "memory",
            "CACHELLM_OPENAI_BASE_URL": base.upstream.origin + "/v1",
            "CACHELLM_OPENAI_API_KEY": "none",
            "CACHELLM_LOG_LEVEL": "WARNING",
        },
    ),
    Peer(
        name="LiteLLM 1.106.2",
        package="litellm[proxy]==1.106.2",
        ready_path="/health/liveliness",
        command=_litellm,
        environment=lambda _: {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            # It wants a key to start; its own rate is the same with one (loopback only here).
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
        semantic=False,
    ),
)


def install(package: str) -> Path:
    """Return the Python of an environment with the package, made if it is not there."""
    folder = ENVIRONMENTS / package.replace("[", "-").replace("]", "")
    python, installed = folder / "bin" / "python", folder / ".installed"
    if not installed.exists():
        say(f"peers: installing {package} into {folder}, some minutes")
        pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", package)
        for command in ((sys.executable, "-m", "venv", str(folder)), pip):
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT)
            if done.returncode:
                raise ServerFailed(f"installing {package} failed: {done.stderr.strip()[-400:]}")
        installed.touch()
    return python


async def measure_peers(base: Base, seconds: int) -> list[Outcome]:
    """Return the rows of every peer, for information; one that does not run has an invalid row."""
    outcomes: list[Outcome] = []
    for peer in PEERS:
        try:
            outcomes += await _measure_peer(peer, base, seconds)
        except CANNOT_RUN as error:
            reading = Reading(value=math.nan, parts={}, faults=(str(error),))
            outcomes.append(settle(Row(peer.name, f"{peer.name}: runs", "/s"), [reading]))
    return outcomes


async def _measure_peer(peer: Peer, base: Base, seconds: int) -> list[Outcome]:
    python = await asyncio.to_thread(install, peer.package) if peer.package else Path()
    environment = {**os.environ, **peer.environment(base)}
    command = peer.command(python, base)
    outcomes: list[Outcome] = []
    async with (
        running(peer.name, command, peer.ready_path, READY_LIMIT, environment) as server,
        aiohttp.ClientSession() as session,
    ):
        bench = _PeerBench(peer.name, server, base.upstream, session, seconds)
        await bench.warm_up()
        for connections in (1, 16):
            outcomes += [await bench.miss(connections), await bench.exact(connections)]
        if peer.semantic:
            outcomes += await bench.semantic()
    return outcomes


@dataclass(frozen=True, slots=True)
class _PeerBench:
    """Measures one running peer."""

    name: str
    server: Server
    upstream: Server
    session: aiohttp.ClientSession
    seconds: int

    async def warm_up(self) -> None:
        for number in range(WARM_UP_REQUESTS):
            await self._ask(peer_body(f"Is this warm-up question {number}?"))

    async def miss(self, connections: int) -> Outcome:
        before, after = peer_body("@").split("@")
        run, calls = await self._run(connections, [before, after, *WORDS], "random")
        faults = call_faults("miss", calls, run.requests, run.requests + connections)
        return self._outcome(f"miss, c={connections}", run, calls, faults)

    async def exact(self, connections: int) -> Outcome:
        body = peer_body("What does everybody ask?")
        await self._ask(body)
        run, calls = await self._run(connections, [body], "fixed")
        faults = call_faults("exact", calls, 0, 0)
        return self._outcome(f"exact hit, c={connections}", run, calls, faults)

    async def semantic(self) -> list[Outcome]:
        known: Sequence[Subject] = subjects()[:KNOWN]
        for subject in known:
            await self._ask(peer_body(stored_question(subject)))
        bodies = [peer_body(text) for text in rewordings(known)]
        outcomes = []
        for connections in (1, 16):
            count = min(len(bodies) // 2, self.seconds * SEMANTIC_RATE)
            lines, bodies = bodies[:count], bodies[count:]
            run, calls = await self._run(connections, lines, "once")
            faults = [f"{len(lines)} questions were too few"] if run.ran_out else []
            outcomes.append(self._outcome(f"new wording, c={connections}", run, calls, faults))
        return outcomes

    async def _ask(self, body: str) -> None:
        headers = {"content-type": "application/json"}
        url = self.server.origin + CHAT
        async with self.session.post(url, data=body.encode(), headers=headers) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise ServerFailed(f"{self.name} answered {answer.status}: {text[:300]!r}")

    async def _run(self, connections: int, lines: list[str], mode: str) -> tuple[Measured, int]:
        before = await quiet_calls(self.session, self.upstream)
        load = Load(
            url=self.server.origin + CHAT,
            connections=connections,
            seconds=self.seconds,
            lines=lines,
            mode=mode,
            seed=random.getrandbits(31),
        )
        measured = await asyncio.to_thread(run_wrk, load)
        return measured, await quiet_calls(self.session, self.upstream) - before

    def _outcome(self, case: str, run: Measured, calls: int, faults: list[str]) -> Outcome:
        hits = 100 * max(0.0, 1 - calls / run.requests) if run.requests else math.nan
        reading = Reading(
            value=run.rate,
            parts={"p50 ms": run.p50, "p99 ms": run.p99, "hit %": hits},
            faults=(*run_faults(case, run, FEW_REQUESTS), *faults),
        )
        say(f"peers: {self.name}: {case}: {run.rate:.0f} req/s, {hits:.0f} % hits")
        row = Row(f"{self.name}: {case}", f"{self.name}: {case}", "/s")
        return settle(row, [reading])
