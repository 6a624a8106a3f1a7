"""Which checkpoint serves, which one may be gone back to, and which one is being prepared.

A state by name in the records, as JSON. A checkpoint is named by its id, the configured encoder by
"", none by null. `pending` is written before the policies of a switch are, so that a process that
dies between the two finds out which checkpoint those in force belong to.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from store.documents.records import Records
from store.policy_history import PolicyHistory

log = logging.getLogger("nearhit.checkpoints")

STATE = "checkpoint"
CONFIGURED = ""  # the name of the encoder that the settings name


@dataclass(frozen=True, slots=True)
class Pending:
    """A switch of which not all may be written."""

    to: str
    dimension: int
    policies: str  # digest of the policies that belong to it


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """Which checkpoints are in use, by name."""

    active: str = CONFIGURED
    former: str | None = None  # whose vectors are kept
    staging: str | None = None  # whose vectors are being made, or are made and wait
    attempt: str = ""  # names this staging: replicas report under it
    dimension: int = 0  # of the active one's vectors; 0: the configured encoder says it
    configured: str = ""  # the id that the configured encoder had when it was switched away from
    pending: Pending | None = None

    @property
    def never_switched(self) -> bool:
        """Whether nothing but the configured encoder has ever served."""
        return self.active == CONFIGURED and self.former is None

    @property
    def names(self) -> set[str]:
        """Every checkpoint in use."""
        return {name for name in (self.active, self.former, self.staging) if name is not None}

    def id_of(self, name: str) -> str:
        """Return the id of a checkpoint in use."""
        return self.configured if name == CONFIGURED else name

    def switched(self, to: str, dimension: int) -> CheckpointState:
        """Return the state after another checkpoint was put in force."""
        return CheckpointState(
            active=to, former=self.active, dimension=dimension, configured=self.configured
        )

    def settled(self, policies: str) -> CheckpointState:
        """Return the state of a process that died in a switch, by the policies of its end."""
        if self.pending is None:
            return self
        if self.pending.policies == policies:  # they are in force, so it is, too
            return self.switched(self.pending.to, self.pending.dimension)
        return replace(self, pending=None)


async def read_state(records: Records) -> CheckpointState:
    """Return what is recorded, a switch that was cut off ended one way or the other.

    Raises StoreUnavailable.
    """
    said = (await records.states()).get(STATE)
    if said is None:
        return CheckpointState()
    try:
        state = parsed(json.loads(said))
    except (ValueError, KeyError, TypeError) as error:
        log.error("which checkpoint serves cannot be read: the configured one does: %s", error)
        return CheckpointState()
    return state.settled(await PolicyHistory(records).digest())


async def open_state(records: Records) -> CheckpointState:
    """Return what is recorded, and record how a switch that was cut off ended.

    Raises StoreUnavailable.
    """
    said = (await records.states()).get(STATE)
    state = await read_state(records)
    if said is not None and said != _told(state):
        await save_state(records, state)
    return state


async def save_state(records: Records, state: CheckpointState) -> None:
    """Write it down; raise StoreUnavailable."""
    await records.save_state(STATE, _told(state))


def _told(state: CheckpointState) -> str:
    return json.dumps(asdict(state))


def _pending(data: dict[str, Any]) -> Pending:
    return Pending(str(data["to"]), int(data["dimension"]), str(data["policies"]))


def parsed(data: dict[str, Any]) -> CheckpointState:
    """Return the state of its JSON form; ValueError, KeyError or TypeError if it is none."""
    pending = data["pending"]
    state = CheckpointState(
        active=data["active"],
        former=data["former"],
        staging=data["staging"],
        attempt=str(data["attempt"]),
        dimension=int(data["dimension"]),
        configured=str(data["configured"]),
        pending=None if pending is None else _pending(pending),
    )
    if not all(isinstance(name, str) for name in state.names):
        raise ValueError(f"{data} names no checkpoints")
    return state
