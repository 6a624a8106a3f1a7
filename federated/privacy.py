"""Differential privacy by Flower's own parts, made to fit sites that come and go.

Local: a site clips its update and adds noise before anybody sees it. Central: the server clips each
update (or, when sums are masked, each site its own) and adds noise to their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
)

from federated.options import RunOptions
from federated.records import ARRAYS, CONFIG

if TYPE_CHECKING:
    from federated.strategy import SimilarityStrategy

CLIPPING_NORM = "clipping_norm"  # Flower's own name in a message's config


def clipping(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Clip a site's update to the norm that the message names, if it names one."""
    reply = call_next(message, context)
    named = CLIPPING_NORM in message.content.config_records[CONFIG]
    if reply.has_error() or ARRAYS not in reply.content or not named:
        return reply  # Flower's part takes a reply without arrays for a fault
    return fixedclipping_mod(message, context, lambda *_: reply)


def local_privacy(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Clip a site's update and add noise to it, if the run or the site wants local privacy."""
    reply = call_next(message, context)
    options = RunOptions.read(context.run_config, context.node_config)
    if reply.has_error() or ARRAYS not in reply.content or not options.local_dp:
        return reply
    # Two sets of pairs may give any two clipped updates, which are up to two norms apart.
    noise = LocalDpMod(
        options.clipping_norm, 2 * options.clipping_norm, options.epsilon, options.delta
    )
    return noise(message, context, lambda *_: reply)


class CentralPrivacy(DifferentialPrivacyServerSideFixedClipping):
    """Flower's central privacy, with noise for as many sites as did answer.

    Flower's own gives a round up when any site failed, and takes every site to count the same: so
    replies are screened first, and the strategy inside has uniform weights.
    """

    def __init__(self, strategy: SimilarityStrategy, options: RunOptions) -> None:
        super().__init__(strategy, options.noise_multiplier, options.clipping_norm, 1)
        self._inner = strategy

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Clip, average, add noise."""
        usable = self._inner.screened(replies)
        trained = sum(ARRAYS in reply.content for reply in usable)
        if trained == 0:
            return self._inner.aggregate_train(server_round, usable)
        self.num_sampled_clients = trained
        return super().aggregate_train(server_round, usable)


class CentralPrivacyOfSums(DifferentialPrivacyClientSideFixedClipping):
    """Flower's central privacy over a masked sum: sites clip, the server adds noise to the mean."""

    def __init__(self, strategy: SimilarityStrategy, options: RunOptions) -> None:
        super().__init__(strategy, options.noise_multiplier, options.clipping_norm, 1)
        self._inner = strategy

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Name the clipping norm to the sites."""
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Open the sum, add noise."""
        arrays, metrics = self._inner.aggregate_train(server_round, replies)
        if arrays is None:
            return None, metrics
        self.num_sampled_clients = self._inner.report.clients
        return self._add_noise_to_aggregated_arrays(arrays), metrics


def spent(noise_multiplier: float, rounds: int, delta: float) -> float:
    """Return the epsilon of `rounds` Gaussian mechanisms in which every site takes part.

    Bun and Steinke 2016 (zero-concentrated differential privacy): rho adds up over rounds. Without
    noise it is infinite.
    """
    if noise_multiplier == 0:
        return math.inf
    rho = rounds / (2 * noise_multiplier**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def told(options: RunOptions, rounds: int, asked: int) -> Mapping[str, object]:
    """Return what a checkpoint's lineage says of the privacy of its training.

    The server's noise was spent in `rounds`, that of sites whenever they were `asked` to train:
    also in a round that a crash cut off, and in one whose mean was not used any more.
    """
    said: dict[str, object] = {"secure_aggregation": options.secure_aggregation}
    if options.central_dp:
        said["central"] = {
            "noise_multiplier": options.noise_multiplier,
            "clipping_norm": options.clipping_norm,
            "delta": options.delta,
            "epsilon": _finite(spent(options.noise_multiplier, rounds, options.delta)),
        }
    if options.local_dp:
        # LocalDpMod's deviation is `noise` sensitivities.
        noise = math.sqrt(2 * math.log(1.25 / options.delta)) / options.epsilon
        said["local"] = {
            "clipping_norm": options.clipping_norm,
            "delta": options.delta,
            "epsilon": _finite(spent(noise, asked, options.delta)),
        }
    return said


def _finite(epsilon: float) -> float | None:
    return round(epsilon, 3) if math.isfinite(epsilon) else None
