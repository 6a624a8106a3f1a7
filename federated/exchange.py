"""Messages out, replies back: patient with sites that are slow, not with those that left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from federated.records import CONFIG
from federated.task import Say

POLL = 0.5  # seconds; Flower's own waits three
Clock = Callable[[], float]


class TooFewClients(Exception):
    """Not enough sites are there to go on; one line says how many."""


def exchange(grid: Grid, messages: Iterable[Message], timeout: float, say: Say) -> list[Message]:
    """Send messages and return the replies that came within `timeout` seconds, in order of node.

    A reply may be an error. Who did not answer is simply not there.
    """
    sent = list(messages)
    waiting = {identity for identity in grid.push_messages(sent) if identity}
    total, replies = len(waiting), list[Message]()
    deadline = time.monotonic() + timeout
    while waiting:
        came = list(grid.pull_messages(list(waiting)))
        replies += came
        waiting -= {reply.metadata.reply_to_message_id for reply in came}
        if came:
            say(f"  {total - len(waiting)} of {total} answered")
        if not waiting or time.monotonic() >= deadline:
            break
        if not came:
            time.sleep(POLL)
    if waiting:
        say(f"  {len(waiting)} did not answer in {timeout:.0f} s and are left out")
    return sorted(replies, key=lambda reply: reply.metadata.src_node_id)


def nodes_there(grid: Grid, least: int, patience: float, say: Say) -> list[int]:
    """Return the sites that are connected, in order, once there are `least`.

    Raise TooFewClients after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    told = -1
    while len(nodes := sorted(grid.get_node_ids())) < least:
        if len(nodes) != told:
            told = len(nodes)
            say(f"  waiting for clients: {told} of {least} are there")
        if time.monotonic() >= deadline:
            raise TooFewClients(f"{len(nodes)} clients are there, {least} at least are needed")
        time.sleep(POLL)
    return nodes


def sampled(nodes: Sequence[int], count: int, seed: int) -> list[int]:
    """Return `count` of the nodes (0: all), drawn with this seed, in order."""
    if not 0 < count < len(nodes):
        return list(nodes)
    return sorted(random.Random(seed).sample(list(nodes), count))


def message_to(
    node: int,
    kind: str,
    config: ConfigRecord,
    number: int,
    ttl: float,
    records: RecordDict | None = None,
) -> Message:
    """Return a message of round `number` that nobody answers any more after `ttl` seconds."""
    content = RecordDict({**(records or {}), CONFIG: config})
    return Message(content, node, kind, ttl=ttl, group_id=str(number))
