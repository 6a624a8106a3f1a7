"""The values between whoever answers requests and the router: situation, choice, observation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, NamedTuple

from icl.confidence import Confidence
from store.entry import EntryId

MOST_BYTES = 256_000  # of one observation on the wire; far above what five examples take
MOST_EXAMPLES = 64


class Arm(StrEnum):
    """Who answers a request."""

    REQUESTED = "requested"  # the model that the client asked for: the reference, quality 1
    EXAMPLES = "examples"  # the small model, shown stored answers
    SMALL = "small"  # the small model alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the router decides from."""

    category: str
    small: str  # the model that may stand in
    floor: float  # least mean quality of what a small arm answers, [0, 1]
    exploration: float  # least share of the eligible requests for an arm that is no favourite
    judged: bool  # False: the operator wants no quality signal for this category
    context: tuple[float, ...]  # from `icl.context.build`
    examples: int  # selected; with 0 the arm EXAMPLES is not to be had
    load: float  # >= 0; 0 is at or below the operating point
    price: float  # the small model's over the requested one's, [0, 1]
    cascade: bool = False  # what the small model says goes out only if it was sure enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which arm answers, and how sure the router was."""

    arm: Arm
    probability: float  # with which this arm was to be chosen in this situation, (0, 1]
    explored: bool  # chosen to learn, not because it is thought best
    unsure: bool
    scores: Mapping[Arm, float]  # expected, of the arms that could be had
    audit: float  # probability with which this answer should be judged
    # Of an answer of the requested model: the probability with which the small one should be tried
    # beside it, seen by nobody but the judge.
    shadow: float = 0.0


class Favour(NamedTuple):
    """What the router thinks of a situation that it does not decide."""

    favourite: Arm  # of the best score among those that are trusted
    chances: Mapping[Arm, float]  # with which each would be chosen, exploration included
    scores: Mapping[Arm, float]  # expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One judged or reported answer: what is learnt from, kept, and told to other replicas."""

    category: str
    small: str
    arm: Arm
    context: tuple[float, ...]
    quality: float  # [0, 1]; 1 is as good as the requested model's
    weight: float  # 1 / probability of the audit, or below 1 how far its source is trusted
    examples: tuple[EntryId, ...] = ()
    features: tuple[tuple[float, ...], ...] = ()  # of the examples, in their order
    at: float = 0.0  # Unix seconds at which the answer was given
    level: float = -1.0  # the least utility that its examples had to have; -1 if none were shown
    tokens: int = 0  # of its examples together
    bare: bool = True  # whether the question was all that was asked: no instructions before it
    confidence: Confidence | None = None  # of the small model; None: nobody looked
    sent: bool = True  # whether a client got this answer

    def to_bytes(self) -> bytes:
        """Return it as `from_bytes` reads it."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Observation:
        """Read one. Raises ValueError for what is none, or holds numbers that can't be."""
        if len(data) > MOST_BYTES:
            raise ValueError(f"an observation of {len(data)} bytes")
        try:
            read = json.loads(data)
            return _checked(read)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not an observation: {error!r}") from error


def _checked(read: dict[str, Any]) -> Observation:
    observation = Observation(
        category=_text(read["category"]),
        small=_text(read["small"]),
        arm=Arm(read["arm"]),
        context=_numbers(read["context"]),
        quality=float(read["quality"]),
        weight=float(read["weight"]),
        examples=tuple(EntryId(_text(id)) for id in read["examples"]),
        features=tuple(_numbers(row) for row in read["features"]),
        at=float(read["at"]),
        level=float(read.get("level", -1.0)),
        tokens=int(read.get("tokens", 0)),
        bare=read.get("bare", False) is True,
        confidence=_confidence(read.get("confidence")),
        sent=read.get("sent", True) is True,
    )
    numbers = [observation.weight, observation.at, observation.level, *observation.context]
    numbers += [value for row in observation.features for value in row]
    if not all(map(isfinite, numbers)) or observation.weight < 0.0:
        raise ValueError("an observation with numbers that can't be")
    if not 0.0 <= observation.quality <= 1.0:
        raise ValueError(f"a quality of {observation.quality}")
    if max(len(observation.examples), len(observation.features)) > MOST_EXAMPLES:
        raise ValueError(f"more than {MOST_EXAMPLES} examples")
    return observation


def _confidence(value: Any) -> Confidence | None:
    if value is None:
        return None
    least, mean = _numbers(value)
    if not (0.0 <= least <= 1.0 and 0.0 <= mean <= 1.0):
        raise ValueError(f"a confidence of {least}, {mean}")
    return Confidence(least, mean)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {type(value).__name__}")
    return value


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
