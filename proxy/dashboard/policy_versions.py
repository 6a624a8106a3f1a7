"""The versions of the policies: who changed what when, and the way back to one."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from proxy.admin.policies import PoliciesAdmin
from proxy.dashboard.audit import Change
from proxy.dashboard.forms import fields
from proxy.dashboard.pages import HEADERS, Pages, must_edit
from proxy.dashboard.policy_form import differences
from proxy.errors import ApiError
from proxy.policy_editor import PolicyEditor
from store.policy_file import book_as_data
from store.policy_history import digest_of

_PAGE = 20
Categories = dict[str, dict[str, Any]]  # policies as data, by name


class Differing(NamedTuple):
    """One category that two versions have otherwise."""

    name: str
    what: str  # added, removed or changed
    changes: list[Change]


class VersionPages:
    """Shows versions, and goes back to one."""

    def __init__(self, pages: Pages, policies: PoliciesAdmin, editor: PolicyEditor) -> None:
        self._pages = pages
        self._policies = policies
        self._editor = editor

    async def show(self, request: Request) -> Response:
        """Return a part of the versions, the newest first."""
        cursor = request.query_params.get("cursor", "")
        listed = await self._policies.list_versions(limit=_PAGE, cursor=cursor)
        versions = listed["versions"]
        older = [by_name(version["categories"]) for version in versions[1:]]
        if versions and listed["next"]:
            before = await self._policies.list_versions(limit=1, cursor=listed["next"])
            older += [by_name(version["categories"]) for version in before["versions"]]
        rows = [
            {
                **version,
                "differing": differing(older[n], by_name(version["categories"]))
                if n < len(older)
                else None,
            }
            for n, version in enumerate(versions)
        ]
        newest = "" if cursor or not versions else versions[0]["version"]
        return self._pages.show(
            request, "versions.html", rows=rows, newest=newest, next=listed["next"]
        )

    async def show_one(self, request: Request) -> Response:
        """Return what going back to a version would change."""
        number: int = request.path_params["number"]
        book = await self._editor.version(number)
        if book is None:
            raise _no_version(number)
        now = self._editor.book
        return self._pages.show(
            request,
            "version.html",
            number=number,
            differing=differing(_data(book_as_data(now)), _data(book_as_data(book))),
            seen=digest_of(now),
        )

    async def roll_back(self, request: Request) -> Response:
        """Make a version the newest; raise ApiError, or VersionTaken when others were first."""
        must_edit(request)
        number: int = request.path_params["number"]
        seen = (await fields(request)).get("seen", "")
        await self._policies.roll_back_if(number, request, lambda book: digest_of(book) == seen)
        if "hx-request" in request.headers:
            return Response(headers={**HEADERS, "hx-redirect": "/admin/categories/~versions"})
        return RedirectResponse("/admin/categories/~versions", 303, HEADERS)


def by_name(categories: list[dict[str, Any]]) -> Categories:
    """Return a version's policies by their names."""
    return {policy["name"]: policy for policy in categories}


def differing(before: Categories, after: Categories) -> list[Differing]:
    """Return the categories that differ, with what differs in them."""
    told = []
    for name in dict.fromkeys([*before, *after]):
        if name not in before:
            told.append(Differing(name, "added", []))
        elif name not in after:
            told.append(Differing(name, "removed", []))
        elif before[name] != after[name]:
            told.append(Differing(name, "changed", differences(before[name], after[name])))
    return told


def _data(document: dict[str, Any]) -> Categories:
    return by_name(document["categories"])


def _no_version(number: int) -> ApiError:
    return ApiError(404, f"there is no policy version {number}", code="not_found")
