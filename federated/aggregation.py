"""What the server makes of the clients' updates: which count, their mean, and its next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
State = Mapping[str, FloatArray]  # parameter name -> values


@dataclass(frozen=True, slots=True)
class Update:
    """The parameters that one client trained, and on how many pairs."""

    state: State
    examples: int


@dataclass(frozen=True, slots=True)
class Checked:
    """Which of a round's updates count, in the order of the clients."""

    updates: dict[int, Update]  # by the client's place
    clipped: dict[int, float]  # those made shorter: by what factor
    rejected: dict[int, str]  # the others: why


def fault_of(update: Update, reference: State) -> str | None:
    """Return why an update of `reference` cannot count, or None: names, shapes, NaN, no pairs."""
    if update.examples < 1:
        return f"trained on {update.examples} pairs"
    if update.state.keys() != reference.keys():
        odd = sorted(update.state.keys() ^ reference.keys())
        return f"parameters missing or unknown: {', '.join(odd[:3])}"
    for name, values in update.state.items():
        if values.shape != reference[name].shape:
            return f"{name} has shape {values.shape}, expected {reference[name].shape}"
        if not np.issubdtype(values.dtype, np.floating):
            return f"{name} holds {values.dtype}, expected floats"
        if not np.isfinite(values).all():
            return f"{name} holds values that are not finite"
    return None


def check(updates: Sequence[Update], reference: State, max_norm: float = 3.0) -> Checked:
    """Sort a round's updates: broken ones out, exploding ones made shorter.

    How far a client moved from `reference` may be at most `max_norm` times the median of all sound
    clients (the lower one of two, or the exploding one of two clients would set its own bound); a
    longer way is cut to that length, its direction kept. One client alone is its own median.
    """
    rejected: dict[int, str] = {}
    norms: dict[int, float] = {}
    for place, update in enumerate(updates):
        fault = fault_of(update, reference)
        if fault is None:
            norms[place] = norm(difference(update.state, reference))
        else:
            rejected[place] = fault
    bound = max_norm * sorted(norms.values())[(len(norms) - 1) // 2] if norms else 0.0
    sound: dict[int, Update] = {}
    clipped: dict[int, float] = {}
    for place, length in norms.items():
        sound[place] = updates[place]
        if length > bound > 0:
            clipped[place] = bound / length
            state = moved(reference, difference(updates[place].state, reference), bound / length)
            sound[place] = Update(state, updates[place].examples)
    return Checked(sound, clipped, rejected)


def average(updates: Sequence[Update]) -> dict[str, FloatArray]:
    """Return the mean state, weighted by examples (FedAvg, McMahan et al. 2017).

    Raise ValueError without updates.
    """
    whole = sum(update.examples for update in updates)
    if not whole:
        raise ValueError("no update to average")
    return {
        name: np.asarray(
            sum(u.state[name].astype(np.float64) * (u.examples / whole) for u in updates),
            np.float32,
        )
        for name in updates[0].state
    }


class ServerOptimizer(Protocol):
    """Goes from the common state towards the clients' mean. Implementations: FedAvg, FedAdam."""

    def step(self, state: State, mean: State) -> dict[str, FloatArray]:
        """Return the next common state."""
        ...

    def memory(self) -> dict[str, FloatArray]:
        """Return what it carries from round to round, by name; to be kept with the state."""
        ...

    def recall(self, memory: State) -> None:
        """Go on from what `memory` gave."""
        ...


class FedAvg:
    """A step of `rate` times the way to the mean, with momentum (FedAvgM, Hsu et al. 2019)."""

    def __init__(self, rate: float = 1.0, momentum: float = 0.0) -> None:
        self._rate = rate
        self._momentum = momentum
        self._velocity: dict[str, FloatArray] = {}

    def step(self, state: State, mean: State) -> dict[str, FloatArray]:
        """Return the next common state; at rate 1 without momentum the mean itself."""
        way = difference(mean, state)
        if self._momentum:
            way = moved(way, self._velocity, self._momentum) if self._velocity else way
            self._velocity = way
        return moved(state, way, self._rate)

    def memory(self) -> dict[str, FloatArray]:
        """Return the velocity, empty without momentum or before the first step."""
        return dict(self._velocity)

    def recall(self, memory: State) -> None:
        """Go on with this velocity."""
        self._velocity = dict(memory)


class FedAdam:
    """Adam on the way to the mean (Reddi et al. 2021, algorithm 2; `tau` its adaptivity)."""

    def __init__(
        self, rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
    ) -> None:
        self._rate, self._beta1, self._beta2, self._tau = rate, beta1, beta2, tau
        self._mean: dict[str, FloatArray] = {}
        self._square: dict[str, FloatArray] = {}

    def step(self, state: State, mean: State) -> dict[str, FloatArray]:
        """Return the next common state."""
        way = difference(mean, state)
        fresh: dict[str, FloatArray] = {}
        for name, pull in way.items():
            past = self._mean.get(name, np.zeros_like(pull))
            spread = self._square.get(name, np.full_like(pull, self._tau**2))
            past = _f32(self._beta1 * past + (1 - self._beta1) * pull)
            spread = _f32(self._beta2 * spread + (1 - self._beta2) * np.square(pull))
            self._mean[name], self._square[name] = past, spread
            fresh[name] = _f32(state[name] + self._rate * past / (np.sqrt(spread) + self._tau))
        return fresh

    def memory(self) -> dict[str, FloatArray]:
        """Return both moments, as "mean." and "square." before the parameters' names."""
        means = {f"mean.{name}": values for name, values in self._mean.items()}
        return means | {f"square.{name}": values for name, values in self._square.items()}

    def recall(self, memory: State) -> None:
        """Go on with these moments."""
        for prefix, moments in (("mean.", self._mean), ("square.", self._square)):
            moments.clear()
            moments |= {
                name.removeprefix(prefix): values
                for name, values in memory.items()
                if name.startswith(prefix)
            }


def difference(state: State, reference: State) -> dict[str, FloatArray]:
    """Return the way from `reference` to `state`."""
    return {name: values - reference[name] for name, values in state.items()}


def moved(state: State, way: State, share: float) -> dict[str, FloatArray]:
    """Return `state` gone `share` of `way`."""
    step = np.float32(share)
    return {name: np.asarray(values + step * way[name]) for name, values in state.items()}


def _f32(values: npt.NDArray[np.floating]) -> FloatArray:
    return np.asarray(values, np.float32)


def norm(way: State) -> float:
    """Return the Euclidean length over all parameters."""
    return float(np.sqrt(sum(np.square(v, dtype=np.float64).sum() for v in way.values())))
