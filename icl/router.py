"""Which model answers: a contextual bandit under a quality floor."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from icl.arms import Choice, Observation, Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How the router learns and weighs."""


class Router:
    """Chooses an arm for each request and learns from judged answers."""

    def __init__(self, *, settings: Tuning = Tuning(), draw: random.Random) -> None:
        raise NotImplementedError

    def choose(self, situation: Situation) -> Choice:
        raise NotImplementedError

    def learn(self, observation: Observation) -> None:
        raise NotImplementedError

    def standings(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def as_data(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_data(
        cls, data: Any, *, settings: Tuning = Tuning(), draw: random.Random
    ) -> Router:
        raise NotImplementedError
