"""Runs wrk with load.lua and reads what it found."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

SCRIPT = Path(__file__).with_name("load.lua")
MARK = "RESULT "
PATIENCE = 20.0  # seconds that wrk may take beyond its duration


class WrkFailed(Exception):
    """wrk is missing, died, or said nothing that we can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send, where, and for how long."""

    url: str
    connections: int
    seconds: int
    lines: Sequence[str]  # the lines of load.lua's FILE
    mode: str = "fixed"  # load.lua's MODE: fixed, once or random
    counted: bool = False  # count Cache-Status values too
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a generator: rate in requests/s, times in ms."""

    rate: float
    p50: float
    p99: float
    requests: int
    errors: Mapping[str, int]  # by kind, only those that happened
    statuses: Mapping[str, int]  # Cache-Status without its ttl -> how often; empty if not counted
    asked: int = 0  # how many lines of a "once" list were taken
    ran_out: bool = False  # the list was too short: the rate means nothing


def run_wrk(load: Load) -> Measured:
    """Apply the load with one thread and return what it measured; raise WrkFailed."""
    mode = f"counted-{load.mode}" if load.counted else load.mode
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as bodies:
        bodies.write("\n".join(load.lines) + "\n")
        bodies.flush()
        command = [
            *("wrk", "--latency", "--timeout", "10s", "-t1", f"-c{load.connections}"),
            *(f"-d{load.seconds}s", "-s", str(SCRIPT), load.url),
            *("--", mode, bodies.name, str(load.seed)),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=load.seconds + PATIENCE
            )
        except FileNotFoundError:
            raise WrkFailed("wrk is not installed; run bench/install_tools.sh") from None
        except subprocess.TimeoutExpired:
            raise WrkFailed(f"wrk did not end {PATIENCE:g} s after its time") from None
    if done.returncode:
        raise WrkFailed(f"wrk ended with status {done.returncode}: {done.stderr.strip()[-400:]}")
    return read_result(done.stdout)


def read_result(output: str) -> Measured:
    """Read the RESULT line of load.lua; raise WrkFailed when there is none."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise WrkFailed(f"wrk's output has no {MARK.strip()} line: {output.strip()[-400:]!r}")
    try:
        result = orjson.loads(lines[-1].removeprefix(MARK))
        return Measured(
            rate=result["requests"] / result["microseconds"] * 1e6,
            p50=result["p50"] / 1000,
            p99=result["p99"] / 1000,
            requests=result["requests"],
            errors={kind: count for kind, count in result["errors"].items() if count},
            statuses=result["statuses"],
            asked=result["asked"],
            ran_out=result["ran_out"],
        )
    except (orjson.JSONDecodeError, KeyError, ZeroDivisionError) as error:
        raise WrkFailed(f"wrk's result cannot be read ({error!r}): {lines[-1]}") from None
