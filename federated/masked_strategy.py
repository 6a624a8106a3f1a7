"""The same strategy over a masked sum: the server sees no site's update, only their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from federated.exchange import exchange, message_to, nodes_there, sampled
from federated.masking import ATTEMPT, KEYS, MEMBERS, RUN, unweighted
from federated.options import RunOptions
from federated.privacy import CLIPPING_NORM
from federated.records import (
    EVALUATE,
    KEY,
    PURPOSE,
    QUERY_KEY,
    QUERY_REMASK,
    QUERY_REVEAL,
    ROUND,
    SEED,
    TRAIN,
    UNIFORM,
    arrays_of,
    bytes_of,
    masked_of,
    state_of,
)
from federated.secure_sum import Attempt, Words, opened, to_floats
from federated.strategy import Report, SimilarityStrategy
from federated.task import Say

KEY_BYTES = SEED_BYTES = 32
SLACK = 1.01  # over the clipping norm: rounding, and nothing else


class MaskedSum:
    """The server's side of one masked sum: who takes part, their keys, and attempts at it."""

    def __init__(self, grid: Grid, number: int, options: RunOptions, say: Say) -> None:
        self._grid, self._number, self._options, self._say = grid, number, options, say
        self._publics = dict[int, bytes]()
        self._attempt = Attempt(0, number, 0, ())

    @property
    def members(self) -> list[int]:
        """Who takes part in the attempt under way."""
        return sorted(int(member) for member in self._attempt.members)

    def agree(self, nodes: Sequence[int], purpose: str = TRAIN) -> bool:
        """Collect keys of those who have something to add; return whether they are enough.

        `purpose` is the kind of message that will ask for it.
        """
        asked = ConfigRecord({ROUND: self._number, PURPOSE: purpose})
        for reply in self._asked(nodes, QUERY_KEY, asked):
            key = bytes_of(reply.content, KEY, KEY_BYTES)
            if key is not None:
                self._publics[reply.metadata.src_node_id] = key
        return self._begin(list(self._publics))

    def config(self) -> ConfigRecord:
        """Return what a message must say for its reply to be masked for this attempt."""
        said = ConfigRecord()
        said[ROUND] = self._number
        said[RUN] = str(self._attempt.run)
        said[ATTEMPT] = self._attempt.number
        said[MEMBERS] = list(self._attempt.members)
        said[KEYS] = [self._publics[int(member)] for member in self._attempt.members]
        return said

    def open(self, replies: Iterable[Message], size: int) -> Words | None:
        """Return the sum, shape (size,), of what the members uploaded; None if it stays closed.

        When somebody is missing, those who are left upload again, as often as that happens, down
        to the fewest that the run allows.
        """
        uploads = _uploads(replies, size)
        while missing := set(self.members) - uploads.keys():
            self._say(f"  {len(missing)} dropped out of the sum: the others upload again")
            if not self._begin([node for node in self.members if node in uploads]):
                return None
            again = self.config()
            uploads = _uploads(self._asked(self.members, QUERY_REMASK, again), size)
        asked = self._asked(self.members, QUERY_REVEAL, self.config())
        seeds = {r.metadata.src_node_id: bytes_of(r.content, SEED, SEED_BYTES) for r in asked}
        known = {str(node): seed for node, seed in seeds.items() if seed is not None}
        if len(known) < len(self.members):
            self._say("  somebody left before the sum was opened: it stays closed")
            return None
        return opened({str(node): words for node, words in uploads.items()}, known, self._attempt)

    def _begin(self, nodes: Sequence[int]) -> bool:
        if len(nodes) < self._options.secure_least:
            self._say(
                f"  {len(nodes)} could add to the sum, {self._options.secure_least} at least "
                "are needed: it stays closed"
            )
            return False
        members = tuple(sorted(str(node) for node in nodes))
        run, number = self._grid.run.run_id, self._attempt.number + 1
        self._attempt = Attempt(run, self._number, number, members)
        return True

    def _asked(self, nodes: Sequence[int], kind: str, config: ConfigRecord) -> list[Message]:
        ttl = self._options.round_timeout
        sent = [message_to(node, kind, config, self._number, ttl) for node in nodes]
        return [r for r in exchange(self._grid, sent, ttl, self._say) if not r.has_error()]


class MaskedStrategy(SimilarityStrategy):
    """FedAvg whose sum is opened only as a whole.

    Nobody's update can be looked at, so each site clips its own; and a mean longer than clipped
    updates can have is refused, as somebody's was not.
    """

    def __init__(self, options: RunOptions, say: Say) -> None:
        super().__init__(options, say)
        self._sum: MaskedSum | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Agree on keys with the sites that were drawn, and return a message for each site."""
        options = self._options
        nodes = nodes_there(grid, options.min_clients, options.wait_for_clients, self._say)
        drawn = sampled(nodes, options.clients_per_round, options.seed * 100_003 + server_round)
        self._reference, self.report = arrays, Report()
        config[ROUND] = server_round
        config[CLIPPING_NORM] = options.clipping_norm
        config[UNIFORM] = options.central_dp
        self._sum = MaskedSum(grid, server_round, options, self._say)
        if not self._sum.agree(drawn):
            self._sum = None
            return [self._message(node, EVALUATE, config, arrays) for node in nodes]
        masked = ConfigRecord({**config, **self._sum.config()})
        members = set(self._sum.members)
        return [
            self._message(node, TRAIN, masked, arrays)
            if node in members
            else self._message(node, EVALUATE, config, arrays)
            for node in nodes
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Open the sum, and return the mean state; None where it stays closed or is impossible."""
        usable = self._without_errors(replies)
        state, weight = self._opened(usable)
        if self._options.central_dp:  # every weight is 1: how many pairs there were stays unknown
            return state, self._told(usable, round(weight), 0)
        clients = len(self._sum.members) if self._sum is not None and state is not None else 0
        return state, self._told(usable, clients, round(weight))

    def _opened(self, replies: list[Message]) -> tuple[ArrayRecord | None, float]:
        if self._sum is None:
            return None, 0.0
        before = state_of(self._reference)
        size = 1 + sum(values.size for values in before.values())
        words = self._sum.open(replies, size)
        if words is None:
            return None, 0.0
        update, weight = unweighted(to_floats(words), before)
        length = float(np.sqrt(sum(float((part**2).sum()) for part in update.values())))
        if not weight > 0 or not length <= self._options.clipping_norm * SLACK:
            self._say(f"  the mean update has norm {length:.3g}: the sum is not used")
            return None, 0.0
        after = {n: (before[n] + update[n]).astype(np.float32) for n in before}
        return arrays_of(after), weight

    def _without_errors(self, replies: Iterable[Message]) -> list[Message]:
        came = list(replies)
        failed = {
            r.metadata.src_node_id: f"failed: {r.error.reason}" for r in came if r.has_error()
        }
        for node, why in failed.items():
            self._say(f"  client {node} is left out: {why}")
        self.report = Report(refused=failed)
        return [reply for reply in came if not reply.has_error()]


def _uploads(replies: Iterable[Message], size: int) -> dict[int, Words]:
    """Return the masked upload of each node that sent one of this size."""
    uploads = {}
    for reply in replies:
        words = masked_of(reply.content)
        if words is not None and len(words) == size:
            uploads[reply.metadata.src_node_id] = words
    return uploads
