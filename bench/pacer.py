"""Arrivals at a mean rate, from a process of their own: each is the moment it was sent.

`python bench/pacer.py FD RATE COUNT SEED` writes COUNT times the monotonic clock in nanoseconds, 8
bytes each, to an inherited socket. What the receiver's event loop was doing meanwhile is then part
of the time that an arrival took, as it is for a client. Gaps are exponential, the same for a seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Callable

STAMP = struct.Struct("<q")
READ_AT_ONCE = 512 * STAMP.size


async def arrivals(rate: float, count: int, seed: int, on_arrival: Callable[[int], None]) -> int:
    """Call `on_arrival` with the time in ns of each of `count` arrivals; return how many came."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    rest, came = bytearray(), 0

    def read() -> None:
        nonlocal came
        with contextlib.suppress(BlockingIOError):
            while part := ours.recv(READ_AT_ONCE):
                rest.extend(part)
                while len(rest) >= STAMP.size:
                    (stamp,) = STAMP.unpack_from(rest)
                    del rest[: STAMP.size]
                    came += 1
                    on_arrival(stamp)
            loop.remove_reader(ours)
            ended.set_result(None)

    with ours:
        with theirs:
            command = (sys.executable, __file__, theirs.fileno(), rate, count, seed)
            process = await asyncio.create_subprocess_exec(
                *map(str, command), pass_fds=(theirs.fileno(),)
            )
        loop.add_reader(ours, read)
        try:
            await ended
        finally:
            loop.remove_reader(ours)
            if process.returncode is None and not ended.done():
                process.kill()
            await process.wait()
    return came


def pace(receiver: socket.socket, rate: float, count: int, seed: int) -> None:
    """Send the stamps, each when it is due."""
    order = random.Random(seed)
    due = time.monotonic()
    for _ in range(count):
        due += order.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))
        receiver.sendall(STAMP.pack(time.monotonic_ns()))


if __name__ == "__main__":
    given = sys.argv[1:]
    with socket.socket(fileno=int(given[0])) as stream:
        pace(stream, float(given[1]), int(given[2]), int(given[3]))
