"""Checkpoints: which there are, which serves, promoting one and going back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from embed.errors import CheckpointInvalid, EmbedError
from proxy.admin.access import Access
from proxy.checkpoints.library import Library, Listed, Note
from proxy.checkpoints.promoting import AlreadyActive, Busy, NothingBefore, Promoter
from proxy.checkpoints.promotion import promotion_as_data
from proxy.errors import ApiError
from proxy.switching import SwitchRefused
from store.errors import PolicyInvalid


class Promote(BaseModel):
    """Which checkpoint to promote."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str = Field(min_length=1, max_length=4096)  # an id, or a directory's absolute path
    dry_run: bool = False
    force: bool = False


class CheckpointsAdmin:
    """What an operator sees of checkpoints, and does with them."""

    def __init__(
        self,
        *,
        access: Access,
        library: Library,
        promoter: Promoter,
        in_use: Callable[[], tuple[str, str | None]],
    ) -> None:
        """`in_use` returns the ids of the one that serves and of the one to go back to."""
        self._access = access
        self._library = library
        self._promoter = promoter
        self._in_use = in_use

    async def list_checkpoints(self) -> dict[str, Any]:
        """Return every checkpoint with its standing, and the latest promotion."""
        notes = await self._library.notes()
        active, former = self._in_use()
        listed = await self._library.listed()
        rows = [_as_data(each, notes.get(each.id, Note())) for each in listed]
        known = {row["id"] for row in rows}
        configured = [
            {**_as_data(Listed(id, None, ""), Note()), "configured": True}
            for id in (active, former)
            if id is not None and id not in known
        ]
        for row in configured + rows:
            row["state"] = _state(row, active, former)
        latest = await self._promoter.latest()
        return {
            "checkpoints": configured + rows,
            "next": None,
            "promotion": None if latest is None else promotion_as_data(latest),
        }

    async def promote(self, asked: Promote, request: Request) -> dict[str, Any]:
        """Begin to promote a checkpoint; how far it is, the list says."""
        try:
            began = await self._promoter.promote(
                asked.checkpoint,
                self._access.who(request),
                force=asked.force,
                dry_run=asked.dry_run,
            )
        except (CheckpointInvalid, OSError) as error:
            raise ApiError(400, str(error), param="checkpoint", code="checkpoint_invalid") from None
        except AlreadyActive as error:
            raise ApiError(
                409, f"checkpoint {error} serves already", param="checkpoint", code="already_active"
            ) from None
        except Busy:
            raise _busy() from None
        return {"promotion": promotion_as_data(began)}

    async def roll_back(self, request: Request) -> dict[str, Any]:
        """Put the checkpoint from before in force; a promotion under way is stopped instead."""
        stopped = await self.stop(request)
        if stopped is None:
            await self.go_back(request)
        return {"active": self._in_use()[0], "stopped": stopped}

    async def stop(self, request: Request) -> str | None:
        """Stop the promotion that this process runs; return its checkpoint, None if none runs."""
        return await self._promoter.stop(self._access.who(request))

    async def go_back(self, request: Request) -> str:
        """Put the checkpoint from before in force and return its id; raise ApiError."""
        await self._go_back(self._access.who(request))
        return self._in_use()[0]

    async def _go_back(self, who: str) -> None:
        try:
            await self._promoter.rollback(who)
        except Busy:
            raise _busy() from None
        except NothingBefore:
            message = "no checkpoint served before this one"
            raise ApiError(409, message, code="nothing_before") from None
        except (SwitchRefused, EmbedError, PolicyInvalid, OSError) as error:
            message = f"nothing was changed: {error}"
            raise ApiError(409, message, code="rollback_refused") from None


def _busy() -> ApiError:
    return ApiError(409, "a promotion is under way", code="promotion_under_way")


def _as_data(listed: Listed, note: Note) -> dict[str, Any]:
    found = listed.checkpoint
    lineage = None if found is None or found.lineage is None else asdict(found.lineage)
    return {
        "id": listed.id,
        "configured": False,
        "state": "",
        "created": None if found is None else found.created.isoformat(),
        "dimension": None if found is None else found.dimension,
        "lineage": lineage,
        "verdict": note.verdict,
        "judged_at": note.judged_at or None,
        "forced": note.forced,
        "fault": listed.fault or note.refused or None,
    }


def _state(row: dict[str, Any], active: str, former: str | None) -> str:
    if row["id"] == active:
        return "active"
    if row["id"] == former:
        return "former"
    return "candidate" if row["fault"] is None else "refused"
