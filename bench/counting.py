"""What counting costs an exact hit: the whole of /v1 without sockets, with and without, in turns.

    python -m bench.counting [--rounds 41] [--hits 2000]

Prints microseconds a hit, the best of the rounds and the median of the paired differences.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import orjson

from proxy.app import App
from proxy.routes import Routes
from tests.fake_upstream import FakeUpstream
from tests.harness import proxy_running, settings_for

BODY = orjson.dumps(
    {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "When does it leave?"}]}
)


class Uncounted:
    """Takes the place of what counts."""

    def answered(self, *_: Any) -> None:
        """Do nothing."""


async def hits(routes: Routes, count: int) -> float:
    """Return seconds that one of `count` exact hits takes."""

    unread = True

    async def receive() -> MutableMapping[str, Any]:
        nonlocal unread
        if not unread:
            await asyncio.Event().wait()  # nobody hangs up
        unread = False
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer k")]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": headers,
    }
    started = time.perf_counter()
    for _ in range(count):
        unread = True
        await routes(scope, receive, send)
    return (time.perf_counter() - started) / count


async def measure(app: App, rounds: int, count: int) -> None:
    """Print what counting costs."""
    routes: Any = app._routes
    counted, uncounted = routes._usage, Uncounted()
    await hits(routes, 10)  # the first is a miss
    await asyncio.sleep(0.5)
    await hits(routes, count)
    times: dict[str, list[float]] = {"with": [], "without": []}
    gc.disable()
    for number in range(rounds):
        for name in ("with", "without") if number % 2 else ("without", "with"):
            routes._usage = counted if name == "with" else uncounted
            times[name].append(await hits(routes, count))
    gc.enable()
    for name, found in times.items():
        best, median = min(found) * 1e6, statistics.median(found) * 1e6
        print(f"{name:8} {best:6.2f} us a hit at best, median {median:.2f}")
    pairs = [a - b for a, b in zip(times["with"], times["without"], strict=True)]
    print(f"counting {statistics.median(pairs) * 1e6:6.2f} us, median of {rounds} pairs")


async def main() -> None:
    """Serve in this process and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--hits", type=int, default=2000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        async with FakeUpstream() as upstream:
            settings = settings_for(Path(directory), upstream.base_url)
            async with proxy_running(settings) as proxy:
                assert proxy.app is not None
                await measure(proxy.app, wanted.rounds, wanted.hits)


if __name__ == "__main__":
    asyncio.run(main())
