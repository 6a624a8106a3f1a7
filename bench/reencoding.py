"""Re-encoding a full cache for another checkpoint while it serves: latency, and nothing mixed up.

    python -m bench.reencoding [--entries 50000] [--pairs 7] [--seconds 10]

A real proxy process with the real encoder, filled with entries of our own making. Exact and
semantic hits are asked at a steady rate (an open loop: a request is due whether or not the one
before was answered) in pairs of windows, one quiet and one while entries are re-encoded, in turns.
Then the re-encoding goes on to its end, the checkpoint is swapped and gone back from, all under the
same load. The other checkpoint is the bundled one behind a rotation (bench/turned.py): whatever
mixes up vectors of the two finds nothing or shows another similarity, and is counted. Nothing is
also found by a search that is approximate: what missed is asked again once all is quiet, under
either checkpoint, and whatever is never found then is not counted as mixed up, but as unfindable.
Results go to bench/results/reencoding.json, with how loaded the machine was by others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
import orjson

from bench.fake_upstream import CHAT
from bench.processes import Server, python_server, running
from bench.reencoding_fill import Filled, fill, write_config
from bench.reencoding_server import ORDER, STATE
from bench.report import RESULTS, describe_machine
from bench.stand import READY_LIMIT, StandFailed, chat_body, say
from bench.turned import turned
from embed.checkpoint import Checkpoint, bundled_checkpoint_dir
from embed.onnx_encoder import OnnxEncoder

EXACT_BOUND, SEMANTIC_BOUND = 2.0, 2.5  # times the p99 of a quiet window
SAME = 0.002  # of a similarity: it is told with four digits
REST = 1.0  # seconds between two windows
FINISH_LIMIT = 900.0  # seconds for what is left of the re-encoding
SWAP_LIMIT = 60.0


@dataclass
class Window:
    """What was asked in one window: milliseconds, and what came back otherwise than it should."""

    exact: list[float] = field(default_factory=list)
    semantic: list[float] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)  # rewordings for which nothing was found
    mixed: int = 0  # answers of another similarity than the two questions have
    asked: int = 0

    def p99(self) -> dict[str, float]:
        """Return the 99th percentiles in milliseconds."""
        named = {"exact": self.exact, "semantic": self.semantic}
        return {name: float(np.percentile(ms, 99)) for name, ms in named.items()}


class Load:
    """Asks at a steady rate, and checks every semantic answer by its similarity."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: Server,
        filled: Filled,
        rates: Mapping[str, float],
    ) -> None:
        """`rates` are requests a second, of `exact` and `semantic` hits."""
        self._rates = rates
        self._session = session
        self._url = server.origin + CHAT
        self._filled = filled
        self._rewordings = iter([*filled.rewordings] * 4)
        self._random = random.Random(3)

    async def window(self, seconds: float, until: asyncio.Event | None = None) -> Window:
        """Ask for so long, or until something has happened; return once all is answered."""
        seen, tasks = Window(), set[asyncio.Task[None]]()
        began = time.perf_counter()
        due = {"exact": began, "semantic": began}
        while True:
            kind = min(due, key=lambda name: due[name])
            at = due[kind]
            if at - began > seconds or (until is not None and until.is_set()):
                break
            due[kind] += self._random.expovariate(self._rates[kind])
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            ask = self._exact(seen, at) if kind == "exact" else self._semantic(seen, at)
            task = asyncio.create_task(ask)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        return seen

    async def unfindable(self, questions: Iterable[str]) -> set[str]:
        """Return those for which nothing is found now either, one asked after the other."""
        never = set[str]()
        for question in dict.fromkeys(questions):
            status, _, _ = await self._ask(question)
            if not status.endswith("detail=semantic"):
                never.add(question)
        return never

    async def _exact(self, seen: Window, due: float) -> None:
        question = self._random.choice(self._filled.hot)
        status, _, _ = await self._ask(question)
        seen.asked += 1
        seen.exact.append(1000 * (time.perf_counter() - due))
        if not status.endswith("detail=exact"):
            seen.odd[f"exact: {status}"] += 1

    async def _semantic(self, seen: Window, due: float) -> None:
        question = next(self._rewordings)
        status, id, similarity = await self._ask(question)
        seen.asked += 1
        seen.semantic.append(1000 * (time.perf_counter() - due))
        if status.endswith(("detail=overload", "detail=fault")):
            seen.odd[f"semantic: {status}"] += 1  # slow, but no mixture
        elif not status.endswith("detail=semantic"):
            seen.odd[f"semantic: {status}"] += 1
            seen.missed.append(question)
        elif abs(similarity - await self._filled.cosine(question, id)) > SAME:
            seen.mixed += 1

    async def _ask(self, question: str) -> tuple[str, str, float]:
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        body = chat_body(question).encode()
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            await answer.read()
            told = answer.headers
            similarity = float(told.get("x-nearhit-similarity", "nan"))
            return told.get("cache-status", "none"), told.get("x-nearhit-entry", ""), similarity


class Orders:
    """Gives the server orders, and reads how far it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    def state(self) -> dict[str, Any]:
        """Return what the server said last."""
        state: dict[str, Any] = orjson.loads((self._folder / STATE).read_bytes())
        if state["failed"]:
            raise StandFailed(f"{state['order']}: {state['failed']}")
        return state

    async def give(self, order: str) -> None:
        """Give an order, and wait until it was taken."""
        self._number += 1
        text = f"{order} {self._number}"
        unfinished = self._folder / "order.tmp"
        unfinished.write_text(text)
        unfinished.replace(self._folder / ORDER)
        while self.state()["order"] != text:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.02)

    async def begun(self) -> None:
        """Wait until there is something to re-encode."""
        async with asyncio.timeout(READY_LIMIT):
            while not self.state()["of"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def done(self, limit: float) -> bool:
        """Wait until the order is carried out; return whether it was in time."""
        deadline = time.monotonic() + limit
        while self.state()["busy"]:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True


async def measured(load: Load, orders: Orders, plan: argparse.Namespace) -> dict[str, Any]:
    """Ask in pairs of windows, then through the rest, the swap and the way back."""
    pairs, windows = list[dict[str, Any]](), list[Window]()
    await orders.give("stage")
    await orders.begun()  # the encoder is open: that is paid once, before
    await orders.give("pause")
    await load.window(plan.seconds / 2)  # everything is warm from here on
    for number in range(plan.pairs):
        found: dict[str, Window] = {}
        at: dict[str, Any] = {}
        for kind in ("quiet", "busy") if number % 2 == 0 else ("busy", "quiet"):
            if kind == "busy":
                await orders.give("stage")
                await asyncio.sleep(REST)
            found[kind] = await load.window(plan.seconds)
            if kind == "busy":
                at = orders.state()
                await orders.give("pause")
            await asyncio.sleep(REST)
        quiet, busy = found["quiet"].p99(), found["busy"].p99()
        pairs.append({"quiet": quiet, "busy": busy, "load": os.getloadavg()[0]})
        windows += found.values()
        say(f"pair {number + 1}: {quiet} -> {busy}, {at['done']} of {at['of']} re-encoded")
    after, whole, missed, never = await switched(load, orders, plan.finish, windows)
    ratios = {
        kind: median(pair["busy"][kind] / pair["quiet"][kind] for pair in pairs)
        for kind in ("exact", "semantic")
    }
    return {
        "ratios": ratios,
        "bounds": {"exact": EXACT_BOUND, "semantic": SEMANTIC_BOUND},
        "pairs": pairs,
        "requests": sum(window.asked for window in (*windows, *after.values())),
        "mixed": sum(w.mixed for w in (*windows, *after.values()))
        + sum(question not in never for question in missed),
        "unfindable": len(never),
        "odd": dict(sum((w.odd for w in (*windows, *after.values())), Counter[str]())),
        "switch": {name: window.p99() for name, window in after.items()},
        **whole,
    }


async def switched(
    load: Load, orders: Orders, finish: float, before: Sequence[Window]
) -> tuple[dict[str, Window], dict[str, Any], list[str], set[str]]:
    """Go on to the end, swap and go back, under load.

    Returns the windows, how far it came, every rewording for which nothing was found in these or
    in the windows `before`, and those for which nothing is found when all is quiet either.
    """
    windows, never = dict[str, Window](), set[str]()
    missed = [question for window in before for question in window.missed]
    whole: dict[str, Any] = {"switched": False}
    for order, limit in (("stage", finish), ("swap", SWAP_LIMIT), ("rollback", SWAP_LIMIT)):
        ended = asyncio.Event()
        await orders.give(order)
        asking = asyncio.create_task(load.window(limit + 10, ended))
        in_time = await orders.done(limit)
        await asyncio.sleep(2 * REST)
        ended.set()
        windows[order] = await asking
        state = orders.state()
        if order == "stage":
            whole |= {
                "re-encoded": state["done"],
                "of": state["of"],
                "staging seconds": state["staging seconds"],
            }
        missed += windows[order].missed
        say(
            f"{order}: {state['active']} serves, {windows[order].mixed} of another similarity,"
            f" nothing found for {len(windows[order].missed)} of {windows[order].asked}"
        )
        await orders.give("pause")
        never |= await load.unfindable(missed)
        if not in_time:
            break
    else:
        whole["switched"] = True
    return windows, whole, missed, never


async def run(plan: argparse.Namespace) -> dict[str, Any]:
    """Build the stand, measure, take it down."""
    bundled = Checkpoint.load(bundled_checkpoint_dir())
    encoder = OnnxEncoder(bundled)
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-", dir=plan.folder) as name:
        folder = Path(name)
        candidate = turned(bundled, folder / "data" / "checkpoints")
        upstream = python_server("bench.fake_upstream")
        async with running("upstream", upstream) as fake:
            config = write_config(folder, fake)
            say("filling the store")
            filled = await fill(folder / "data", plan.entries, plan.subjects, encoder)
            command = python_server(
                "bench.reencoding_server",
                *("--config", str(config), "--candidate", str(candidate.directory)),
                *("--orders", str(folder)),
            )
            async with (
                running("nearhit", command, "/ready", READY_LIMIT) as server,
                aiohttp.ClientSession() as session,
            ):
                say(f"serving after {server.ready_seconds:.1f} s")
                rates = {"exact": plan.exact_rate, "semantic": plan.semantic_rate}
                load = Load(session, server, filled, rates)
                found = await measured(load, Orders(folder), plan)
    await encoder.aclose()
    return found


def failures(found: dict[str, Any]) -> Sequence[str]:
    """Return what is not as it should be."""
    said = [
        f"{kind} p99 is {ratio:.2f} times that of a quiet window"
        for kind, ratio in found["ratios"].items()
        if ratio > found["bounds"][kind]
    ]
    if found["mixed"]:
        said.append(f"{found['mixed']} requests saw a mixture")
    if not found["switched"]:
        said.append(f"{found['re-encoded']} of {found['of']} were re-encoded in time")
    return said


def main() -> int:
    """Measure and write down; return 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description="re-encoding a full cache while it serves")
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--subjects", type=int, default=1_500, help="that rewordings are asked of")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one window")
    parser.add_argument("--exact-rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--semantic-rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--finish", type=float, default=FINISH_LIMIT, help="seconds for the rest")
    parser.add_argument("--folder", type=Path, default=None, help="where the store is put")
    parser.add_argument("--results", type=Path, default=RESULTS / "reencoding.json")
    plan = parser.parse_args()
    machine, began = describe_machine(), time.monotonic()
    found = asyncio.run(run(plan))
    missed = failures(found)
    record = {
        "machine": asdict(machine),
        "entries": plan.entries,
        "requests a second": {"exact": plan.exact_rate, "semantic": plan.semantic_rate},
        "load of the machine at the end": os.getloadavg()[0],
        "seconds": time.monotonic() - began,
        "missed": list(missed),
        **found,
    }
    plan.results.parent.mkdir(parents=True, exist_ok=True)
    plan.results.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    ratios = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in found["ratios"].items())
    print(f"p99 while re-encoding beside quiet, median of {plan.pairs} pairs: {ratios}")
    print(f"{found['mixed']} of {found['requests']} requests saw a mixture")
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
