"""Which checkpoint serves, which one may be gone back to, and which one is being prepared.

States by name in the records, as JSON, shared by all replicas. A checkpoint is named by its id, the
configured encoder by "", none by null. Which one serves is written in one step with the policies
that belong to it, and never without; which one is being prepared is a state of its own.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from store.documents.records import Records

log = logging.getLogger("nearhit.checkpoints")

STATE = "checkpoint"
STAGING = "checkpoint-staging"
_NOTHING = '{"staging": null, "attempt": ""}'
CONFIGURED = ""  # the name of the encoder that the settings name


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """Which checkpoints are in use, by name."""

    active: str = CONFIGURED
    former: str | None = None  # whose vectors are kept
    staging: str | None = None  # whose vectors are being made, or are made and wait
    attempt: str = ""  # names this staging: replicas report under it
    dimension: int = 0  # of the active one's vectors; 0: the configured encoder says it
    configured: str = ""  # the id that the configured encoder had when it was switched away from

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

    @property
    def to_store(self) -> tuple[str, str]:
        """The name and the text under which it is stored, but for what is being prepared."""
        said = {
            "active": self.active,
            "former": self.former,
            "dimension": self.dimension,
            "configured": self.configured,
        }
        return STATE, json.dumps(said)


async def read_state(records: Records) -> CheckpointState:
    """Return what is recorded; raise StoreUnavailable."""
    states = await records.states()
    try:
        serving = json.loads(states.get(STATE) or CheckpointState().to_store[1])
        return parsed(serving, json.loads(states.get(STAGING) or _NOTHING))
    except (ValueError, KeyError, TypeError) as error:
        log.error("which checkpoint serves cannot be read: the configured one does: %s", error)
        return CheckpointState()


async def save_staging(records: Records, state: CheckpointState) -> None:
    """Write down which checkpoint it prepares; raise StoreUnavailable."""
    said = json.dumps({"staging": state.staging, "attempt": state.attempt})
    await records.save_state(STAGING, "" if state.staging is None else said)


def parsed(serving: dict[str, Any], preparing: dict[str, Any]) -> CheckpointState:
    """Return the state of its JSON forms; ValueError, KeyError or TypeError if they are none."""
    staging = preparing["staging"]
    state = CheckpointState(
        active=serving["active"],
        former=serving["former"],
        staging=staging if staging != serving["active"] else None,  # it has been put in force
        attempt=str(preparing["attempt"]),
        dimension=int(serving["dimension"]),
        configured=str(serving["configured"]),
    )
    if not all(isinstance(name, str) for name in state.names):
        raise ValueError(f"{serving} and {preparing} name no checkpoints")
    return state
