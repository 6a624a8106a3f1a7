"""Starting Nearhit on a filled data directory: time from exec to ready, and resident memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import aiohttp
import psutil

from bench.stand import check_filled, running_nearhit, say
from bench.verdicts import Reading, Row, at_most

READY = Row("start-ready", "start with 10,000 entries: ready after", "s", at_most(3.0))
MEMORY = Row("start-memory", "start with 10,000 entries: resident memory", "MB", at_most(400.0))


async def measure_start(config: Path, questions: Sequence[str]) -> tuple[Reading, Reading]:
    """Start once, look whether what was stored hits, stop; return time and memory."""
    async with running_nearhit(config) as nearhit, aiohttp.ClientSession() as session:
        process = psutil.Process(nearhit.pid)
        resident = process.memory_info().rss
        await check_filled(session, nearhit, questions)
        resident = max(resident, process.memory_info().rss)
    say(f"start: ready after {nearhit.ready_seconds:.2f} s, {resident / 1e6:.0f} MB")
    ready = Reading(value=nearhit.ready_seconds, parts={"entries": len(questions)})
    memory = Reading(value=resident / 1e6, parts={"entries": len(questions)})
    return ready, memory
