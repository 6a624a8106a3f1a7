"""A running Nearhit before the oracle and the small models, its store filled by asking it."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.nearhits.models import ask_each, turns
from bench.nearhits.tasks import Item
from bench.processes import Server, python_server, running
from bench.stand import running_nearhit, say

FILL_WORKERS = 16
ASK_ONLY: Mapping[str, str] = {"cache-control": "no-store"}  # looked up, not stored
LARGE_MODEL = "large"  # as the oracle is asked for
PRICE = 0.1  # of a small model's answer, of the large one's


@dataclass(frozen=True, slots=True)
class Ground:
    """What runs: the proxy's base URL, the oracle, and where the policies lie."""

    proxy: str
    oracle: Server
    nearhit: Server


def config(
    folder: Path,
    oracle: str,
    small: tuple[str, str] | None,
    category: Mapping[str, Any],
    pairing: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> Path:
    """Write the configuration of a Nearhit in whose place of the oracle a small model may stand.

    One Nearhit a small model: asked for the second one's answer, it would take the question for
    one that its client was not content with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    policies = {"categories": [{"name": "default", **BASE_CATEGORY, **category}]}
    (folder / "policies.yaml").write_text(yaml.safe_dump(policies))
    settings: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "upstreams": [
            {"name": "oracle", "base_url": f"{oracle}/v1", "models": [LARGE_MODEL, "judge"]}
        ],
        "policies": str(folder / "policies.yaml"),
        "lookup_gate": False,  # nobody would see near-hits where lookups did not pay
        **extra,
    }
    if small is not None:
        name, url = small
        settings["upstreams"].append({"name": "small", "base_url": url, "models": [name]})
        pair = {"model": LARGE_MODEL, "small": name, "price": PRICE, "window": 2048, **pairing}
        settings["offload"] = [pair]
    path = folder / "nearhit.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


BASE_CATEGORY: Mapping[str, Any] = {
    "mode": "semantic",
    "hit_threshold": 1.0,  # nothing but the same question is replayed: this is about near-hits
    "near_threshold": 0.0,
    "error_budget": None,
    "ttl": "24h",
    "quota": {"entries": 50_000, "bytes": "1GiB"},
    "max_turns": 20,
    "offload": "unjudged",
    "example_scope": "tenant",
    "answer_format": "exact",
    "exploration": 0.0,
}


def answers_file(folder: Path, items: Sequence[Item]) -> Path:
    """Write what the oracle knows; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "answers.json"
    path.write_text(json.dumps({item.question: item.answer for item in items}))
    return path


@asynccontextmanager
async def running_oracle(folder: Path, items: Sequence[Item], *pace: str) -> AsyncIterator[Server]:
    """Run the oracle, which knows these items."""
    answers = str(answers_file(folder, items))
    command = python_server("bench.nearhits.oracle", "--answers", answers, *pace)
    async with running("oracle", command) as oracle:
        yield oracle


@asynccontextmanager
async def open_ground(
    folder: Path,
    oracle: Server,
    small: tuple[str, str] | None,
    *,
    filled: Path | None = None,
    category: Mapping[str, Any] | None = None,
    pairing: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> AsyncIterator[Ground]:
    """Run a Nearhit before the oracle and a small model (name, base URL).

    Its store is a copy of the folder's of a Nearhit that was stopped, else empty.
    """
    if filled is not None:
        shutil.copytree(filled / "data", folder / "data")
    path = config(folder, oracle.origin, small, category or {}, pairing or {}, extra or {})
    async with running_nearhit(path) as nearhit:
        yield Ground(nearhit.origin + "/v1", oracle, nearhit)


async def fill(ground: Ground, stored: Sequence[Item]) -> None:
    """Have every item's answer stored, by asking the large model for it through the proxy."""
    say(f"filling: {len(stored)} questions, through the proxy")
    await ask_each(
        ground.proxy,
        LARGE_MODEL,
        [turns(item.question) for item in stored],
        "filling",
        {"cache-control": "no-cache"},
        FILL_WORKERS,
    )
