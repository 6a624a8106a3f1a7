"""The results as text: a table for people, a file for the record."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson
import psutil

from bench.verdicts import Outcome, Target

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("nearhit", "aiohttp", "hnswlib", "numpy", "onnxruntime", "orjson", "uvicorn", "uvloop")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and what was measured."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    versions: dict[str, str]
    commit: str
    date: str


def describe_machine() -> Machine:
    """Look this machine and this checkout up."""
    return Machine(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=platform.platform(),
        python=platform.python_version(),
        versions={name: installed_version(name) for name in PACKAGES},
        commit=current_commit(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def processor_name() -> str:
    """Return the processor's name as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed_version(package: str) -> str:
    """Return a package's version, or "absent"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def current_commit() -> str:
    """Return the checkout's commit, marked when files differ from it; "unknown" without git."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:
        said = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return said.stdout.strip() if said.returncode == 0 else "unknown"


def write_results(path: Path, machine: Machine, quick: bool, outcomes: Sequence[Outcome]) -> None:
    """Write machine, rows and every round's readings as JSON."""
    rows = [
        {
            "case": outcome.row.name,
            "what": outcome.row.what,
            "unit": outcome.row.unit,
            "target": target_text(outcome.row.target, outcome.row.unit),
            "value": outcome.value,
            "verdict": outcome.verdict,
            "faults": outcome.faults,
            "medians": dict(outcome.parts),
            "rounds": [
                {"value": reading.value, "parts": dict(reading.parts), "faults": reading.faults}
                for reading in outcome.readings
            ],
        }
        for outcome in outcomes
    ]
    record = {"machine": asdict(machine), "quick": quick, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    unfinished.replace(path)


def number_text(value: float, unit: str) -> str:
    """Return a value with as many digits as are worth reading."""
    if value != value:
        return "nothing measured"
    digits = 2 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {unit}" if unit != "x" else f"{value:.{digits}f}"


def target_text(target: Target | None, unit: str) -> str:
    """Return a bound in words."""
    if target is None:
        return "for information"
    return f"{'>=' if target.sense == 'at least' else '<='} {number_text(target.limit, unit)}"


def parts_text(outcome: Outcome) -> str:
    """Return what a row's value was computed from."""
    return ", ".join(
        f"{name} {number_text(value, '').strip()}" for name, value in outcome.parts.items()
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table for a terminal."""
    width = max((len(outcome.row.what) for outcome in outcomes), default=0)
    lines = []
    for outcome in outcomes:
        unit = outcome.row.unit
        lines.append(
            f"{outcome.verdict:8}{outcome.row.what:{width}}  {number_text(outcome.value, unit):>12}"
            f"  {target_text(outcome.row.target, unit)}"
        )
        lines.append(f"{'':10}{parts_text(outcome)}")
        lines += [f"{'':10}! {fault}" for fault in outcome.faults]
    return "\n".join(lines)


def markdown(machine: Machine, outcomes: Sequence[Outcome]) -> str:
    """Return the table for docs/benchmarks.md."""
    lines = [
        f"{machine.date}, {machine.cores} cores of {machine.processor}, {machine.memory_gib} GiB,"
        f" Python {machine.python}, commit {machine.commit}.",
        "",
        "| case | measured | must reach | verdict | medians |",
        "| --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        unit = outcome.row.unit
        cells = (
            outcome.row.what,
            number_text(outcome.value, unit),
            target_text(outcome.row.target, unit),
            "; ".join((outcome.verdict, *outcome.faults)),
            parts_text(outcome),
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)
