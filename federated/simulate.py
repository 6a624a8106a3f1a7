"""Train over simulated sites on this machine: `python -m federated.simulate --pairs FILE...`.

The pairs are dealt out to sites, Flower's simulation runs the app, and everything that was started
is ended again. Without `--pairs` a few built-in ones show that it works, nothing more.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from embed.held_out import components
from federated.options import OptionInvalid, RunOptions
from federated.pairs import LabelledPair, deduplicated, read_pairs
from federated.processes import Flower, FlowerFailed, Ports, Value
from federated.run_state import RunDirectory, RunRecord

VERBS = ("change", "delete")  # of the built-in pairs


def dealt(pairs: Sequence[LabelledPair], sites: int, seed: int) -> list[list[LabelledPair]]:
    """Deal pairs out to sites, shuffled; pairs that share a text stay together.

    The largest groups go first, each to the site that has least.
    """
    kept = deduplicated(pairs)
    groups = defaultdict[int, list[LabelledPair]](list)
    for number, pair in zip(components([(p.query, p.stored) for p in kept]), kept, strict=True):
        groups[number].append(pair)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    hands: list[list[LabelledPair]] = [[] for _ in range(sites)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(hands, key=len).extend(group)
    return hands


def example_pairs() -> list[LabelledPair]:
    """Return pairs made from a few templates: enough to see a run, not to learn from."""
    things = ["invoice", "password", "ticket", "address", "order", "contract", "photo", "calendar"]
    places = ["the app", "the website", "my phone", "the desktop client", "the terminal"]
    pairs = []
    for thing in things:
        for place in places:
            asked = f"How do I change my {thing} in {place}?"
            pairs.append(LabelledPair(asked, f"change {thing} using {place}", 1, "how-to"))
            pairs.append(
                LabelledPair(asked, f"How do I delete my {thing} in {place}?", 0, "how-to")
            )
    return pairs


def write_pairs(file: Path, pairs: Sequence[LabelledPair]) -> None:
    """Write pairs as `read_pairs` reads them."""
    rows = [
        {"q1": p.stored, "q2": p.query, "label": p.label, "category": p.category} for p in pairs
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def simulate(
    pairs: Sequence[LabelledPair], sites: int, output: Path, config: dict[str, Value]
) -> RunRecord:
    """Run the app over `sites` sites; return what came of it. Raise FlowerFailed, OptionInvalid."""
    options = RunOptions.read(config)
    least = options.min_clients
    if options.secure_aggregation:
        least = max(least, options.secure_least)
    if sites < least:  # it would wait for the others, who never come
        raise OptionInvalid(f"sites is {sites}, allowed: {least} or more with these options")
    config = {"wait-for-clients": 120.0, **config, "output": str(output.absolute())}
    with tempfile.TemporaryDirectory(prefix="nearhit-federated-") as folder:
        where = Path(folder) / "sites"
        where.mkdir()
        for number, hand in enumerate(dealt(pairs, sites, options.seed)):
            write_pairs(where / f"site-{number}.jsonl", hand)
        with Flower(Path(folder) / "flower") as flower:
            flower.superlink(Ports(*_free_ports(3)), simulation=True)
            federation = {"num-supernodes": sites, "client-resources-num-cpus": 1}
            flower.run({**config, "sites": str(where)}, say, federation=federation)
    record = RunDirectory.last(output)
    assert record is not None, "a run that ended well has left a record"
    return record


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m federated.simulate", description=__doc__)
    parser.add_argument("--pairs", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("nearhit-federated"))
    parser.add_argument(
        "set", nargs="*", metavar="KEY=VALUE", help="as in federated/pyproject.toml"
    )
    asked = parser.parse_intermixed_args(arguments)
    try:
        pairs = [p for file in asked.pairs for p in read_pairs(file)] or example_pairs()
        config = dict(map(_setting, asked.set))
        record = simulate(pairs, asked.sites, asked.output, config)
    except (FlowerFailed, OptionInvalid, OSError, ValueError) as error:
        say(f"error: {error}")
        return 1
    print(json.dumps({"checkpoint": record.checkpoint, **record.best_metrics}))  # noqa: T201
    return 0


def say(line: str) -> None:
    """Show progress on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _setting(word: str) -> tuple[str, Value]:
    key, _, value = word.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
