"""A running Nearhit before the oracle and the small models, its store filled by asking it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
PRICE = 0.1  # of a small model's answer, of the large one's


def large_for(small: str) -> str:
    """Return the large model's name for which a small one may stand in."""
    return f"large-before-{small}"


@dataclass(frozen=True, slots=True)
class Ground:
    """What runs: the proxy's base URL, the oracle, and where the policies lie."""

    proxy: str
    oracle: Server
    nearhit: Server


def config(
    folder: Path,
    oracle: str,
    small: Mapping[str, str],
    category: Mapping[str, Any],
    pairing: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> Path:
    """Write the configuration of a Nearhit whose small models stand in for the oracle.

    Model names of one group share their stored answers, so that the store is filled once.
    """
    larges = [large_for(name) for name in small]
    policies = {"categories": [{"name": "default", **BASE_CATEGORY, **category}]}
    (folder / "policies.yaml").write_text(yaml.safe_dump(policies))
    settings: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "upstreams": [
            {"name": "oracle", "base_url": f"{oracle}/v1", "models": [*larges, "judge"]},
            *(
                {"name": f"small-{number}", "base_url": url, "models": [name]}
                for number, (name, url) in enumerate(small.items())
            ),
        ],
        "model_groups": {"large": larges},
        "offload": [
            {"model": large_for(name), "small": name, "price": PRICE, "window": 2048, **pairing}
            for name in small
        ],
        "policies": str(folder / "policies.yaml"),
        "lookup_gate": False,  # nobody would see near-hits where lookups did not pay
        **extra,
    }
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
async def open_ground(
    folder: Path,
    items: Sequence[Item],
    small: Mapping[str, str],
    *,
    pace: Sequence[str] = (),
    category: Mapping[str, Any] | None = None,
    pairing: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> AsyncIterator[Ground]:
    """Run the oracle, which knows all items, and a Nearhit with an empty store before it."""
    answers = answers_file(folder, items)
    async with AsyncExitStack() as stack:
        command = python_server("bench.nearhits.oracle", "--answers", str(answers), *pace)
        oracle = await stack.enter_async_context(running("oracle", command))
        path = config(folder, oracle.origin, small, category or {}, pairing or {}, extra or {})
        nearhit = await stack.enter_async_context(running_nearhit(path))
        yield Ground(nearhit.origin + "/v1", oracle, nearhit)


async def fill(ground: Ground, stored: Sequence[Item], small: str) -> None:
    """Have every item's answer stored, by asking the large model for it through the proxy."""
    say(f"filling: {len(stored)} questions, through the proxy")
    await ask_each(
        ground.proxy,
        large_for(small),
        [turns(item.question) for item in stored],
        "filling",
        {"cache-control": "no-cache"},
        FILL_WORKERS,
    )
