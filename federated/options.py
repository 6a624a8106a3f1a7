"""What a run is told on the command line, and what a site may tighten for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from federated.pairs import LEAST

Config = Mapping[str, bool | int | float | str]  # Flower's run-config and node-config


class OptionInvalid(ValueError):
    """An option cannot be used; one line says which, and what is allowed."""


class NodeConfigInvalid(OptionInvalid):
    """What a site says of itself cannot be used; that line may hold a key, and stays there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The run-config, by the names it has in pyproject.toml with `-` for `_`."""

    # the run
    num_server_rounds: int = 3
    clients_per_round: int = 0  # 0: all who are there; the others evaluate
    min_clients: int = 2  # fewer: the run waits, and then fails
    wait_for_clients: float = 600.0  # seconds
    round_timeout: float = 1800.0  # seconds; who has not answered is left out
    patience: int = 0  # rounds without a better F0.5 until it stops; 0: never
    output: str = "nearhit-federated"  # the server's directory
    start_from: str = ""  # a checkpoint directory; empty: the bundled model
    sites: str = ""  # simulation only: a directory of site-N.jsonl
    seed: int = 0
    # a client's training
    local_epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 3e-4
    warmup_steps: int = 2
    margin: float = 0.5
    anchor: float = 10.0  # weight of keeping the cosines of questions that no label speaks of
    trainable_layers: int = 2
    least_pairs: int = LEAST  # with fewer labelled pairs a client only evaluates
    proximal_mu: float = 0.0  # FedProx; 0: plain FedAvg
    # the server's step
    server_optimizer: str = "fedavg"
    server_learning_rate: float = 0.0  # 0: the optimizer's own
    max_update_norm: float = 3.0  # of the median of the round; longer updates are clipped
    pca_dimension: int = 0  # 0: vectors keep their dimension
    # privacy
    secure_aggregation: bool = False
    secure_least: int = 3  # the fewest whose sum may be opened
    central_dp: bool = False
    noise_multiplier: float = 1.0
    local_dp: bool = False
    epsilon: float = 8.0  # of one round of local_dp
    delta: float = 1e-5
    clipping_norm: float = 1.0  # of an update, where either is on or aggregation is secure

    def __post_init__(self) -> None:
        """Raise OptionInvalid where a value, or two together, make no sense."""
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:  # not a number is neither
                raise _fault(name, getattr(self, name), f"{least} or more")
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise _fault(name, getattr(self, name), "more than 0")
        for name in _FINITE:
            if not math.isfinite(getattr(self, name)):
                raise _fault(name, getattr(self, name), "a finite number")
        if not self.delta < 1:
            raise _fault("delta", self.delta, "less than 1")
        if self.pca_dimension > WIDTH:
            raise _fault("pca_dimension", self.pca_dimension, f"up to {WIDTH}")
        if self.server_optimizer not in SERVER_OPTIMIZERS:
            raise _fault("server_optimizer", self.server_optimizer, ", ".join(SERVER_OPTIMIZERS))
        if self.pca_dimension and (self.central_dp or self.local_dp):
            # Sums of covariances leave the sites without noise.
            raise _fault("pca_dimension", self.pca_dimension, "0 with differential privacy")

    @classmethod
    def read(cls, config: Config, node: Config | None = None) -> RunOptions:
        """Return the options of a run-config, tightened by what a site's node-config says.

        A site may ask for more privacy than the run does, never for less. Raise OptionInvalid, and
        NodeConfigInvalid for what the site says, also for an unknown key.
        """
        given = {}
        for field in fields(cls):
            name, default = field.name.replace("_", "-"), field.default
            if name in config:
                given[field.name] = _typed(field.name, config[name], default)
        options = cls(**given)
        drawn, least = options.clients_per_round, options.secure_least
        if options.secure_aggregation and 0 < drawn < least:
            raise _fault("clients_per_round", drawn, f"0, or secure-least ({least}) and more")
        if node is None:
            return options
        try:
            return _tightened(options, node)
        except OptionInvalid as error:
            raise NodeConfigInvalid(str(error)) from None


WIDTH = 384  # of MiniLM's vectors
SERVER_OPTIMIZERS = ("fedavg", "fedadam")
_LEAST = {
    "num_server_rounds": 1,
    "clients_per_round": 0,
    "min_clients": 1,
    "patience": 0,
    "local_epochs": 1,
    "batch_size": 2,
    "warmup_steps": 0,
    "anchor": 0.0,
    "trainable_layers": 1,
    "least_pairs": 2,
    "proximal_mu": 0.0,
    "pca_dimension": 0,
    "secure_least": 2,  # of two, each knows what the other sent
    "noise_multiplier": 0.0,
    "server_learning_rate": 0.0,
}
_ABOVE_ZERO = (
    "wait_for_clients",
    "round_timeout",
    "learning_rate",
    "margin",
    "max_update_norm",
    "epsilon",
    "delta",
    "clipping_norm",
)
_OF_A_NODE = (
    "proxy",
    "proxy-key-file",
    "proxy-key-env",
    "pairs",
    "secure-aggregation",
    "secure-least",
    "local-dp",
    "epsilon",
    "delta",
    "clipping-norm",
    "partition-id",  # Flower's own, in a simulation
    "num-partitions",
)
_FINITE = (
    "learning_rate",
    "margin",
    "anchor",
    "proximal_mu",
    "server_learning_rate",
    "noise_multiplier",
    "clipping_norm",
)


def _typed(name: str, value: Any, default: Any) -> Any:
    kind = type(default)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _fault(name, value, f"a {kind.__name__}")
    return value


def _tightened(options: RunOptions, node: Config) -> RunOptions:
    # A switch that protects is not to be off because of how it was spelt.
    if unknown := sorted(node.keys() - set(_OF_A_NODE)):
        raise OptionInvalid(f"node-config has {unknown[0]!r}, allowed: {', '.join(_OF_A_NODE)}")
    changes: dict[str, Any] = {}
    for name in ("secure_aggregation", "local_dp"):
        wanted = _typed(name, node.get(_kebab(name), False), False)
        changes[name] = getattr(options, name) or wanted
    least = _typed("secure_least", node.get("secure-least", 0), 0)
    changes["secure_least"] = max(options.secure_least, least)
    for name in ("epsilon", "delta", "clipping_norm"):
        most = getattr(options, name)
        changes[name] = min(most, _typed(name, node.get(_kebab(name), most), 0.0))
    return replace(options, **changes)


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _fault(name: str, value: object, allowed: str) -> OptionInvalid:
    return OptionInvalid(f"{_kebab(name)} is {value!r}, allowed: {allowed}")
