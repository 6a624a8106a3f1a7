"""One arm of the overload run: a fresh Nearhit, a fresh upstream, one stream, three phases."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from bench.fake_upstream import CHAT
from bench.overload_account import (
    Arm,
    Base,
    Phase,
    Sample,
    Served,
    back_after,
    effective,
    faults_of,
    gauges,
    tally,
)
from bench.overload_stream import Stream
from bench.processes import Server, python_server, running
from bench.service import Capacity
from bench.stand import MODEL, StandFailed, chat_body, running_nearhit, say, without_ttl

CATEGORY = "default"
ARMS = ("off", "threshold", "both")
CAPACITY = Capacity(places=4, seconds=0.15)
BASE = Base(threshold=0.92, ttl=60.0)
FLOOR, CEILING = 0.87, 600.0  # a threshold, and seconds
TARGET_MS = 400.0
PATIENCE = aiohttp.ClientTimeout(total=300)
NO_TIME = 0.001  # calls a second below which nothing can be slowed down


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    rate: float = 15.0  # requests a second
    calm: float = 90.0  # seconds, each of them
    overload: float = 150.0
    after: float = 120.0  # long enough for the queue to drain, and for the way back
    excess: float = 1.05  # calls that arrive for each that the slowed upstream can serve
    seed: int = 1
    arms: tuple[str, ...] = ARMS

    def phases(self) -> tuple[Phase, Phase, Phase]:
        """Return the three phases, one after the other."""
        slow, fast = self.calm, self.calm + self.overload
        return (
            Phase("calm", 0.0, slow),
            Phase("overload", slow, fast),
            Phase("after", fast, fast + self.after),
        )

    @property
    def seconds(self) -> float:
        """The length of a run."""
        return self.calm + self.overload + self.after


def load_section(arm: str) -> dict[str, object] | None:
    """Return the policy's `load` in an arm."""
    if arm == "off":
        return None
    ceiling = CEILING if arm == "both" else BASE.ttl
    return {
        "latency_target_ms": TARGET_MS,
        "threshold_floor": FLOOR,
        "ttl_ceiling": f"{ceiling:g}s",
    }


def write_config(folder: Path, upstream: str, arm: str) -> Path:
    """Write configuration and policies of one arm into an empty folder; return the first."""
    policy: dict[str, Any] = {
        "name": CATEGORY,
        "hit_threshold": BASE.threshold,
        "ttl": f"{BASE.ttl:g}s",
        "load": load_section(arm),
    }
    (folder / "policies.yaml").write_text(yaml.safe_dump({"categories": [policy]}))
    config = {
        "data_dir": str(folder / "data"),
        "upstreams": [{"name": "fake", "base_url": f"{upstream}/v1", "models": ["*"]}],
        "policies": str(folder / "policies.yaml"),
    }
    path = folder / "nearhit.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class Run:
    """One arm under way."""

    def __init__(
        self,
        plan: Plan,
        stream: Stream,
        nearhit: Server,
        upstream: Server,
        session: aiohttp.ClientSession,
    ) -> None:
        self._plan = plan
        self._stream = stream
        self._nearhit = nearhit
        self._upstream = upstream
        self._session = session
        self._started = 0.0
        self.samples: list[Sample] = []
        self.calls: list[int] = [0]  # that reached the upstream, by the end of each phase
        self.slowdown = 1.0

    async def go(self, adapts: bool, slowdown: float | None) -> list[Served]:
        """Send the whole stream; `slowdown` None: find it. Raise StandFailed if it must adapt.

        That is told from the metrics: a Nearhit that knows of no load factor has nothing to show.
        """
        if adapts and await self._in_force() is None:
            raise StandFailed("/metrics has no load factor: this Nearhit adapts to no load")
        self._started = time.perf_counter()
        async with asyncio.TaskGroup() as beside:
            watching = beside.create_task(self._watch())
            beside.create_task(self._steer(slowdown))
            served = await self._send_all()
            watching.cancel()
        return served

    def _now(self) -> float:
        return time.perf_counter() - self._started

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._now()))

    async def _send_all(self) -> list[Served]:
        async with asyncio.TaskGroup() as asking:
            tasks = []
            for ask in self._stream.asks:
                await self._until(ask.at)
                tasks.append(asking.create_task(self._send(ask.text, self._now() - ask.at)))
        return [task.result() for task in tasks]

    async def _send(self, text: str, lag: float) -> Served:
        body = chat_body(text, model=MODEL).encode()
        headers = {"content-type": "application/json"}
        sent = time.perf_counter()
        try:
            async with self._session.post(
                self._nearhit.origin + CHAT, data=body, headers=headers
            ) as answer:
                whole = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return Served(lag, time.perf_counter() - sent, "none", fault=type(error).__name__)
        seconds = time.perf_counter() - sent
        status = without_ttl(answer.headers.get("cache-status", "none"))
        if answer.status != 200:
            return Served(lag, seconds, status, fault=f"status {answer.status}")
        content = orjson.loads(whole)["choices"][0]["message"]["content"]
        age = answer.headers.get("age")
        return Served(lag, seconds, status, content, None if age is None else float(age))

    async def _watch(self) -> None:
        """Note what is in force, once a second."""
        while True:
            found = await self._in_force()
            if found is not None:
                self.samples.append(Sample(self._now(), *found))
            await asyncio.sleep(1.0)

    async def _in_force(self) -> tuple[float, float, float] | None:
        async with self._session.get(self._nearhit.origin + "/metrics") as answer:
            return gauges(await answer.text(), CATEGORY)

    async def _steer(self, slowdown: float | None) -> None:
        """Slow the upstream down and up again, and count its calls at each turn."""
        calm, overload, after = self._plan.phases()
        await self._until(calm.end / 2)
        half = await self._called()
        await self._until(calm.end)
        self.calls.append(await self._called())
        if slowdown is None:
            rate = max(NO_TIME, (self.calls[-1] - half) / (calm.end / 2))
            slowdown = CAPACITY.slowdown_to(rate / self._plan.excess)
            say(f"{rate:.1f} calls/s reach the upstream: slowed down {slowdown:.2f} times")
        await self._slow_down(slowdown)
        await self._until(overload.end)
        self.calls.append(await self._called())
        await self._slow_down(1.0)
        await self._until(after.end)
        self.calls.append(await self._called())
        self.slowdown = slowdown

    async def _called(self) -> int:
        async with self._session.get(self._upstream.origin + "/calls") as answer:
            count: int = (await answer.json())["paths"].get(CHAT, 0)
            return count

    async def _slow_down(self, by: float) -> None:
        url = self._upstream.origin + "/service"
        async with self._session.post(url, data=orjson.dumps({"slowdown": by})) as answer:
            answer.raise_for_status()


async def run_arm(
    plan: Plan, stream: Stream, arm: str, slowdown: float | None
) -> tuple[Arm, float]:
    """Run one arm on an empty Nearhit; return what it came to, and the slowdown."""
    say(f"{stream.name}, {arm}: {len(stream.asks)} requests in {plan.seconds:.0f} s")
    adapts = arm != "off"
    pace = ("--places", str(CAPACITY.places), "--service-ms", f"{1000 * CAPACITY.seconds:g}")
    connector = aiohttp.TCPConnector(limit=0)
    command = python_server("bench.fake_upstream", "--echo", *pace)
    with tempfile.TemporaryDirectory() as folder:
        async with running("fake upstream", command) as upstream:
            config = write_config(Path(folder), upstream.origin, arm)
            async with (
                running_nearhit(config) as nearhit,
                aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session,
            ):
                run = Run(plan, stream, nearhit, upstream, session)
                served = await run.go(adapts, slowdown)
                faults = faults_of(served)
                if adapts:
                    run.samples.append(await said_by_admin(session, nearhit, plan.seconds))
    phases = plan.phases()
    calls = [b - a for a, b in zip(run.calls, run.calls[1:], strict=False)]
    tallies = [
        tally(stream, served, run.samples, phase, count, BASE)
        for phase, count in zip(phases, calls, strict=True)
    ]
    back = back_after(run.samples, BASE, phases[1].end)
    if adapts and back is None:
        faults.append("the base policy was not in force again at the end")
    return Arm(stream.name, arm, tallies, run.samples, back, faults), run.slowdown


async def said_by_admin(session: aiohttp.ClientSession, nearhit: Server, at: float) -> Sample:
    """Return what the admin API says is in force."""
    async with session.get(nearhit.origin + "/admin/api/categories") as answer:
        answer.raise_for_status()
        return effective(await answer.json(), CATEGORY, at)
