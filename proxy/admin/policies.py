"""Categories: show, put, delete; versions and going back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from embed.errors import EmbedError
from proxy.admin.access import Access
from proxy.admin.entries import check_limit
from proxy.errors import ApiError
from proxy.policy_editor import NoSuchCategory, NoSuchVersion, PolicyEditor, Seen
from proxy.rules import InForce
from proxy.standing import Standing
from proxy.what_ifs import WhatIfs
from store.decision.what_if import LEAST, Pair, WhatIf
from store.documents.records import PolicyVersion, Records
from store.errors import PolicyInvalid
from store.policy_file import policy_as_data

Cosine = Annotated[float, Query(ge=LEAST, le=1)]
MOST_PAIRS = 50  # of those that a what-if shows


class Rollback(BaseModel):
    """Which version to go back to."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)


class PoliciesAdmin:
    """What an operator reads and changes of the policies."""

    def __init__(
        self,
        *,
        access: Access,
        editor: PolicyEditor,
        in_force: InForce,
        records: Records,
        standing: Callable[[str], Standing],
        what_ifs: WhatIfs,
    ) -> None:
        """`standing` says what a category comes to now."""
        self._access = access
        self._editor = editor
        self._in_force = in_force
        self._records = records
        self._standing = standing
        self._what_ifs = what_ifs

    async def list_categories(self) -> dict[str, Any]:
        """Return every category's policy, with what is in effect."""
        names = self._in_force.rules.book.names
        return {"categories": [self._as_data(name) for name in names], "next": None}

    async def show_category(self, name: str) -> dict[str, Any]:
        """Return one category's policy, with what is in effect."""
        if name not in self._in_force.rules.book:
            raise no_category(name)
        return self._as_data(name)

    async def put_category(
        self, name: str, request: Request, policy: Annotated[dict[str, Any], Body()]
    ) -> dict[str, Any]:
        """Replace or add a category; absent keys take defaults. In force on return."""
        try:
            await self._editor.put(name, policy, self._access.who(request))
        except PolicyInvalid as refused:
            raise _invalid(refused) from None
        except EmbedError as error:
            raise not_encoded(error) from None
        return self._as_data(name)

    async def delete_category(self, name: str, request: Request) -> dict[str, Any]:
        """Remove a category; its entries are not served from now on."""
        try:
            await self._editor.delete(name, self._access.who(request))
        except NoSuchCategory:
            raise no_category(name) from None
        except PolicyInvalid as refused:
            raise _invalid(refused) from None
        except EmbedError as error:
            raise not_encoded(error) from None
        return {"deleted": name}

    async def what_if(
        self, name: str, hit_threshold: Cosine, near_threshold: Cosine | None = None
    ) -> dict[str, Any]:
        """Return what other thresholds would have made of the last lookups of this process."""
        if name not in self._in_force.rules.book:
            raise no_category(name)
        return what_if_as_data(await self._what_ifs.of(name, hit_threshold, near_threshold))

    async def list_versions(self, limit: int = 50, cursor: str = "") -> dict[str, Any]:
        """Return a page of policy versions, newest first."""
        check_limit(limit)
        try:
            page = await self._records.versions(limit=limit, cursor=cursor or None)
        except ValueError as error:
            raise ApiError(400, str(error), param="cursor") from None
        return {"versions": [_version_as_data(v) for v in page.items], "next": page.next}

    async def roll_back(self, rollback: Rollback, request: Request) -> dict[str, Any]:
        """Make an earlier version the newest one."""
        return await self.roll_back_if(rollback.version, request, lambda book: True)

    async def roll_back_if(self, version: int, request: Request, seen: Seen) -> dict[str, Any]:
        """Do so while the policies are as `seen` says; VersionTaken when they are not."""
        try:
            number = await self._editor.rollback(version, self._access.who(request), seen=seen)
        except NoSuchVersion:
            message = f"there is no policy version {version}"
            raise ApiError(404, message, param="version", code="not_found") from None
        except PolicyInvalid as refused:
            raise _invalid(refused) from None
        except EmbedError as error:
            raise not_encoded(error) from None
        return {"version": number}

    def _as_data(self, name: str) -> dict[str, Any]:
        policy = policy_as_data(self._in_force.rules.book[name])
        return {**policy, "effective": self._standing(name).as_data()}


def what_if_as_data(told: WhatIf) -> dict[str, Any]:
    """Return what the admin API says of other thresholds; the riskiest pairs of either kind."""
    return {
        "threshold": told.hit_threshold,
        "near_threshold": told.near_threshold,
        "lookups": told.lookups,
        "hits_now": told.hits_now,
        "hits_then": told.hits_then,
        "near_now": told.near_now,
        "near_then": told.near_then,
        "unknown": told.unknown,
        "gained_count": len(told.gained),
        "gained": [_pair_as_data(pair) for pair in told.gained[:MOST_PAIRS]],
        "lost_count": len(told.lost),
        "lost": [_pair_as_data(pair) for pair in told.lost[:MOST_PAIRS]],
    }


def _pair_as_data(pair: Pair) -> dict[str, Any]:
    lookup, near = pair
    return {
        "at": lookup.at.isoformat(),
        "tenant": lookup.tenant,
        "query": lookup.query,
        "entry_query": near.query,
        "entry_id": near.id,
        "similarity": round(near.similarity, 6),
        "risk": None if near.risk is None else round(near.risk, 6),
    }


def _version_as_data(version: PolicyVersion) -> dict[str, Any]:
    return {
        "version": version.number,
        "at": version.at.isoformat(),
        "who": version.who,
        "source": version.source,
        "categories": json.loads(version.document)["categories"],
    }


def _invalid(refused: PolicyInvalid) -> ApiError:
    first = refused.faults[0].removeprefix("body: ").removeprefix("categories[0].")
    param = first.split(":", 1)[0]
    message = "; ".join(
        fault.removeprefix("body: ").removeprefix("categories[0].") for fault in refused.faults
    )
    return ApiError(400, message, param=param, code="policy_invalid")


def no_category(name: str) -> ApiError:
    """Return the 404 of a category that is not there."""
    return ApiError(404, f"there is no category {name!r}", param="name", code="not_found")


def not_encoded(error: EmbedError) -> ApiError:
    """Return the 503 of an edit whose examples have no vectors."""
    return ApiError(
        503,
        f"the examples cannot be encoded now, and nothing was changed: {error}",
        type="server_error",
        code="encoder_unavailable",
    )
