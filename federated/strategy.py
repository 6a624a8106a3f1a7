"""FedAvg over sites of which some are slow, some leave, some only evaluate, and some are broken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from federated.aggregation import Update, average, check
from federated.exchange import message_to, nodes_there, sampled
from federated.options import RunOptions
from federated.records import (
    ARRAYS,
    EVALUATE,
    EXAMPLES,
    JUDGED,
    ROUND,
    THRESHOLD,
    TRAIN,
    ReplyInvalid,
    arrays_of,
    evaluated_of,
    examples_of,
    state_of,
)
from federated.task import Evaluated, Say
from federated.thresholds import aggregate_thresholds


@dataclass(frozen=True, slots=True)
class Report:
    """What a round's replies say, of the state that went out and of who trained on it."""

    metrics: Mapping[str, float] = field(default_factory=dict)  # means, weighted by pairs judged
    thresholds: Mapping[str, float] = field(default_factory=dict)
    judged: int = 0  # held-out pairs, of all clients
    clients: int = 0  # trained
    examples: int = 0  # trained on, by all
    refused: Mapping[int, str] = field(default_factory=dict)  # node -> why


class SimilarityStrategy(Strategy):
    """The mean of the sites' states, weighted by how many pairs each trained on.

    A round's message goes to every site: those drawn for it train, the others evaluate, and all
    judge the state that the message brings. So a state's figures come with the next round.
    """

    def __init__(self, options: RunOptions, say: Say) -> None:
        self._options, self._say = options, say
        self._reference = ArrayRecord()
        self.report = Report()  # of the last aggregate_train or aggregate_evaluate

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return a message for each site; raise TooFewClients."""
        options = self._options
        nodes = nodes_there(grid, options.min_clients, options.wait_for_clients, self._say)
        seed = options.seed * 100_003 + server_round
        trains = set(sampled(nodes, options.clients_per_round, seed))
        self._reference, self.report = arrays, Report()
        config[ROUND] = server_round
        return [
            self._message(node, TRAIN if node in trains else EVALUATE, config, arrays)
            for node in nodes
        ]

    def screened(self, replies: Iterable[Message]) -> list[Message]:
        """Return the replies without errors and without updates that cannot be used.

        An update that is far too long is shortened. What is refused is in `report.refused`.
        """
        refused, usable = dict(self.report.refused), dict[int, Message]()
        for reply in replies:
            if reply.has_error():
                refused[reply.metadata.src_node_id] = f"failed: {reply.error.reason}"
            else:
                usable[reply.metadata.src_node_id] = reply
        reference = state_of(self._reference)
        updates = dict[int, Update]()
        for node, reply in usable.items():
            if ARRAYS in reply.content:
                try:
                    state = state_of(reply.content.array_records[ARRAYS])
                    updates[node] = Update(state, examples_of(reply.content))
                except ReplyInvalid as error:
                    refused[node] = str(error)
        # With central privacy no update may depend on another's: all are clipped to one norm later.
        limit = math.inf if self._options.central_dp else self._options.max_update_norm
        nodes = list(updates)
        checked = check(list(updates.values()), reference, limit)
        refused |= {nodes[place]: why for place, why in checked.rejected.items()}
        for node in refused.keys() & usable.keys():
            del usable[node]
        for place, update in checked.updates.items():
            ordered = {name: update.state[name] for name in reference}
            usable[nodes[place]].content[ARRAYS] = arrays_of(ordered)
        for place, factor in checked.clipped.items():
            self._say(f"  client {nodes[place]} moved too far: cut to {factor:.3g} of it")
        for node in refused.keys() - self.report.refused.keys():
            self._say(f"  client {node} is left out: {refused[node]}")
        self.report = Report(refused=refused)
        return list(usable.values())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the mean of the usable states, None if there is none, and the round's figures."""
        usable = self.screened(replies)
        updates = [
            Update(
                state_of(reply.content.array_records[ARRAYS]),
                1 if self._options.central_dp else examples_of(reply.content),
            )
            for reply in usable
            if ARRAYS in reply.content
        ]
        examples = sum(examples_of(reply.content) for reply in usable)
        metrics = self._told(usable, len(updates), examples)
        return (arrays_of(average(updates)) if updates else None), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return a message for each site that is there."""
        config[ROUND] = server_round
        return [
            self._message(node, EVALUATE, config, arrays) for node in sorted(grid.get_node_ids())
        ]

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return the figures of the state that was evaluated."""
        self.report = Report()
        return self._told([reply for reply in replies if not reply.has_error()], 0, 0)

    def summary(self) -> None:
        """Say what the run is about to do."""
        options = self._options
        self._say(
            f"{options.num_server_rounds} rounds, {options.server_optimizer}, "
            f"{options.clients_per_round or 'all'} clients a round, {options.min_clients} at least"
        )

    def _message(self, node: int, kind: str, config: ConfigRecord, arrays: ArrayRecord) -> Message:
        number = config[ROUND]
        assert isinstance(number, int)
        records = RecordDict({ARRAYS: arrays})
        return message_to(node, kind, config, number, self._options.round_timeout, records)

    def _told(self, usable: list[Message], clients: int, examples: int) -> MetricRecord:
        judged = [evaluated_of(reply.content) for reply in usable]
        report = Report(
            mean_metrics(judged),
            aggregate_thresholds([told.thresholds for told in judged]),
            sum(told.pairs for told in judged),
            clients,
            examples,
            self.report.refused,
        )
        self.report = report
        figures: dict[str, int | float] = dict(report.metrics)
        figures |= {THRESHOLD + name: value for name, value in report.thresholds.items()}
        return MetricRecord({JUDGED: report.judged, EXAMPLES: report.examples, **figures})


def mean_metrics(judged: Iterable[Evaluated]) -> dict[str, float]:
    """Return the mean of each figure over clients, weighted by the pairs that each judged."""
    told = [one for one in judged if one.pairs]
    names = {name for one in told for name in one.metrics}
    means = {}
    for name in sorted(names):
        having = [one for one in told if name in one.metrics]
        weights = np.array([one.pairs for one in having], float)
        values = np.array([one.metrics[name] for one in having])
        means[name] = float((values * weights).sum() / weights.sum())
    return means
