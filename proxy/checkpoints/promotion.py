"""How far a promotion is: a value, told to every replica through the records."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from store.documents.records import Records

STATE = "promotion"  # the name under which the latest one is told
SILENT = 10.0  # seconds after which a process that promoted, and told every second, is dead


class Step(StrEnum):
    """What a promotion does now."""

    JUDGE = "judge"  # encodes held-out pairs with both encoders
    STAGE = "stage"  # re-encodes what is stored
    SWITCH = "switch"  # refits thresholds and calibration, and swaps


class Outcome(StrEnum):
    """What came of a promotion."""

    RUNNING = "running"
    PASSED = "passed"  # a dry run: it would be promoted
    PROMOTED = "promoted"
    REFUSED = "refused"  # by the gate, or because it does not encode
    STOPPED = "stopped"  # by an operator
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One promotion, as far as it has come."""

    checkpoint: str
    who: str
    began: str  # UTC, ISO 8601
    dry_run: bool
    force: bool
    step: Step = Step.JUDGE
    done: int = 0  # of the step: texts, or entries
    total: int = 0
    outcome: Outcome = Outcome.RUNNING
    reasons: tuple[str, ...] = ()  # of a refusal, also one that was forced; or the failure

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.outcome is Outcome.RUNNING


def promotion_as_data(promotion: Promotion) -> dict[str, Any]:
    """Return it as plain values for JSON."""
    return {**asdict(promotion), "reasons": list(promotion.reasons)}


@dataclass(frozen=True, slots=True)
class Told:
    """A promotion as its process has written it down."""

    promotion: Promotion
    owner: str  # names the process
    beat: float  # another one whenever it is told; 0: its process goes


class Bulletin:
    """Where promotions are told, for all replicas and for the next start."""

    def __init__(self, records: Records, *, alone: bool) -> None:
        """`alone`: no other process reads these records, so whoever else wrote them is dead."""
        self._records = records
        self._alone = alone
        self._owner = secrets.token_hex(8)
        self._heard: Told | None = None
        self._since = 0.0  # by this process' own clock: those of two machines may differ

    async def tell(self, promotion: Promotion) -> None:
        """Write it down; raise StoreUnavailable."""
        await self._write(promotion, time.time())

    async def leave(self, promotion: Promotion) -> None:
        """Write down that this process goes, so that another may go on; raise StoreUnavailable."""
        if await self.own():
            await self._write(promotion, 0.0)

    async def latest(self) -> Promotion | None:
        """Return the latest promotion, whoever began it; raise StoreUnavailable."""
        told = await self._told()
        return None if told is None else told.promotion

    async def elsewhere(self) -> bool:
        """Whether another process promotes now; raise StoreUnavailable."""
        told = await self._told()
        if told is None or told.owner == self._owner or self._alone:
            return False
        return told.promotion.running and not self._silent(told)

    async def orphan(self) -> Promotion | None:
        """Return a promotion whose process has died; raise StoreUnavailable."""
        told = await self._told()
        if told is None or told.owner == self._owner or not told.promotion.running:
            return None
        return told.promotion if self._alone or self._silent(told) else None

    async def own(self) -> bool:
        """Whether this process told last; raise StoreUnavailable."""
        told = await self._told()
        return told is not None and told.owner == self._owner

    async def _write(self, promotion: Promotion, beat: float) -> None:
        state = {"promotion": promotion_as_data(promotion), "owner": self._owner, "beat": beat}
        await self._records.save_state(STATE, json.dumps(state))

    async def _told(self) -> Told | None:
        told = told_of((await self._records.states()).get(STATE, ""))
        if told != self._heard:
            self._heard, self._since = told, time.monotonic()
        return told

    def _silent(self, told: Told) -> bool:
        """Whether who told this lives no more; it takes SILENT seconds from the first look."""
        return told.beat == 0 or time.monotonic() - self._since >= SILENT


def told_of(state: str) -> Told | None:
    """Return what a stored state says; None if it cannot be read."""
    try:
        said = json.loads(state)
        told = dict(said["promotion"])
        told["step"], told["outcome"] = Step(told["step"]), Outcome(told["outcome"])
        told["reasons"] = tuple(str(each) for each in told["reasons"])
        return Told(Promotion(**told), str(said["owner"]), float(said["beat"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
