"""Near-hits that were answered lately: what verdicts and repeated questions refer to.

In memory, for a day, and bounded. A small model's answer is stored nowhere: it is never replayed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from icl.arms import Arm
from icl.confidence import Confidence
from store.entry import EntryId

KEPT = 24 * 3600.0  # seconds
AGAIN = 60.0  # seconds within which the same question is a complaint about its answer
_MOST = 20_000
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class NearHit:
    """One answer of a small model."""

    at: float  # unix seconds
    tenant: str
    request_id: str
    asked: EntryId  # the exact key's id
    asker: str = ""  # a digest of who asked
    category: str
    small: str
    arm: Arm
    context: tuple[float, ...]
    examples: tuple[EntryId, ...]
    features: tuple[tuple[float, ...], ...]
    level: float  # the least utility that its examples had to have; -1 if none were shown
    tokens: int
    bare: bool = True  # whether the question was all that was asked: no instructions before it
    confidence: Confidence | None = None  # of the small model; None: nobody looked
    sent: bool = True  # whether the client got the answer


class Recent(Generic[K, V]):
    """The values noted last, by key."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def note(self, key: K, value: V) -> None:
        """Remember a value; the oldest makes room."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def look(self, key: K) -> V | None:
        """Return a value that stays."""
        return self._values.get(key)

    def take(self, key: K) -> V | None:
        """Return a value and forget it: it is judged once."""
        return self._values.pop(key, None)


class Served:
    """Recent near-hits by the request's id, and by what was asked."""

    def __init__(self, most: int = _MOST) -> None:
        self._by_request: Recent[tuple[str, str], NearHit] = Recent(most)
        self._by_question: Recent[tuple[EntryId, str], NearHit] = Recent(most)

    def note(self, served: NearHit) -> None:
        """Remember a near-hit that went out."""
        self._by_request.note((served.tenant, served.request_id), served)
        self._by_question.note((served.asked, served.asker), served)

    def named(self, tenant: str, request_id: str, now: float) -> NearHit | None:
        """Return the tenant's near-hit of this request id, once; None if there is none."""
        found = self._by_request.take((tenant, request_id))
        return found if found is not None and now - found.at <= KEPT else None

    def asked_again(self, asked: EntryId, now: float, asker: str = "") -> NearHit | None:
        """Return the near-hit whose question the same asker repeats too soon, once; else None.

        That somebody else asks the same says nothing of the answer.
        """
        return _soon(self._by_question.take((asked, asker)), now)

    def would_ask_again(self, asked: EntryId, now: float, asker: str = "") -> bool:
        """Whether asking this now would be asking again too soon."""
        return _soon(self._by_question.look((asked, asker)), now) is not None


def _soon(found: NearHit | None, now: float) -> NearHit | None:
    return found if found is not None and now - found.at <= AGAIN else None
