"""Editing a category: typed, reviewed, applied; adding and removing one.

Nothing is applied that was not reviewed, nor onto policies that somebody else has changed since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from embed.errors import EmbedError
from proxy.admin.policies import no_category, not_encoded
from proxy.dashboard.forms import fields
from proxy.dashboard.pages import HEADERS, Pages, must_edit, who
from proxy.dashboard.policy_form import (
    GROUPS,
    OTHER,
    Faults,
    Values,
    differences,
    faults_by_key,
    parsed,
    values_of,
)
from proxy.dashboard.what_if_view import view_of
from proxy.errors import ApiError
from proxy.policy_editor import NoSuchCategory, PolicyEditor, seen_of
from proxy.standing import Standing
from proxy.what_ifs import WhatIfs
from store.decision.what_if import LEAST
from store.errors import PolicyInvalid, VersionTaken
from store.policy import Mode, Policy
from store.policy_file import policy_as_data

NEW = "~new"  # in place of a name, which no category can have


class PolicyEdits:
    """Takes edits of categories."""

    def __init__(
        self,
        pages: Pages,
        editor: PolicyEditor,
        what_ifs: WhatIfs,
        standing: Callable[[str], Standing],
    ) -> None:
        """`standing` says what a category comes to now."""
        self._pages = pages
        self._editor = editor
        self._standing = standing
        self._what_ifs = what_ifs

    async def show_new(self, request: Request) -> Response:
        """Return the page that asks for another category."""
        must_edit(request)
        values = values_of(Policy(name="new"))
        return self._pages.show(request, "category_new.html", **self._form(NEW, values, {}, ""))

    async def form(self, request: Request) -> Response:
        """Return the form with what was typed, to go on."""
        must_edit(request)
        values = await fields(request)
        seen = values.pop("seen", "")
        place = request.path_params["name"]
        return self._pages.show(request, "policy_form.html", **self._form(place, values, {}, seen))

    async def review(self, request: Request) -> Response:
        """Return what would change, or the form with its faults; nothing is applied."""
        must_edit(request)
        values = await fields(request)
        seen = values.pop("seen", "")
        return await self._review(request, values, seen)

    async def apply(self, request: Request) -> Response:
        """Put what was reviewed in force, unless others have changed the category since."""
        must_edit(request)
        values = await fields(request)
        seen = values.pop("seen", "")
        place = request.path_params["name"]
        name = _name_of(place, values)
        policy, raw, faults = parsed(name, values)
        if policy is None:
            return self._refused(request, values, seen, faults)
        try:
            await self._editor.put(
                name, raw, who(request), seen=lambda book: seen_of(book, name) == seen
            )
        except PolicyInvalid as refused:
            return self._refused(request, values, seen, faults_by_key(refused))
        except EmbedError as error:
            raise not_encoded(error) from None
        except VersionTaken:
            now = seen_of(self._editor.book, name)
            if place == NEW and now:
                return self._refused(request, values, seen, {"name": ["there is one already"]})
            return await self._review(request, values, now, taken=True)
        if place == NEW:
            return _go_to(f"/admin/categories/{quote(name)}")
        values = values_of(self._editor.book[name])
        form = self._form(place, values, {}, seen_of(self._editor.book, name))
        return self._pages.show(
            request, "policy_form.html", **form, done=f"{name} is changed, and in force."
        )

    async def ask_delete(self, request: Request) -> Response:
        """Return what would go with a category."""
        must_edit(request)
        name = request.path_params["name"]
        if name not in self._editor.book:
            raise no_category(name)
        return self._pages.show(
            request,
            "category_delete.html",
            name=name,
            seen=seen_of(self._editor.book, name),
            standing=self._standing(name),
        )

    async def delete(self, request: Request) -> Response:
        """Remove a category; raise ApiError or VersionTaken when that cannot be."""
        must_edit(request)
        name, seen = request.path_params["name"], (await fields(request)).get("seen", "")
        try:
            await self._editor.delete(
                name, who(request), seen=lambda book: seen_of(book, name) == seen
            )
        except NoSuchCategory:
            raise no_category(name) from None
        except PolicyInvalid as refused:
            raise ApiError(400, "; ".join(refused.faults), code="policy_invalid") from None
        except EmbedError as error:
            raise not_encoded(error) from None
        return _go_to("/admin/categories")

    async def _review(
        self, request: Request, values: Values, seen: str, *, taken: bool = False
    ) -> Response:
        place = request.path_params["name"]
        name = _name_of(place, values)
        policy, _, faults = parsed(name, values)
        book = self._editor.book
        if place == NEW and name in book:
            faults.setdefault("name", []).append("there is one already")
            policy = None
        if policy is None:
            return self._refused(request, values, seen, faults)
        before = policy_as_data(book[name]) if name in book else None
        view = None
        if before is not None and policy.hit_threshold != book[name].hit_threshold:
            view = await self._view(policy)
        return self._pages.show(
            request,
            "policy_review.html",
            status=409 if taken else 200,
            name=name,
            place=place,
            values=values,
            seen=seen,
            taken=taken,
            changes=differences(before, policy_as_data(policy)),
            view=view,
            threshold=policy.hit_threshold,
            least=LEAST,
            by_meaning=policy.mode is Mode.SEMANTIC,
        )

    async def _view(self, policy: Policy) -> Any:
        if policy.hit_threshold < LEAST:
            return None
        told = await self._what_ifs.of(policy.name, policy.hit_threshold, policy.near_threshold)
        return view_of(told)

    def _refused(self, request: Request, values: Values, seen: str, faults: Faults) -> Response:
        place = request.path_params["name"]
        form = self._form(place, values, faults, seen)
        return self._pages.show(request, "policy_form.html", status=400, **form)

    def _form(self, place: str, values: Values, faults: Faults, seen: str) -> dict[str, Any]:
        """Return what the form's template needs; `place` is the category's name, or NEW."""
        return {
            "name": place,
            "groups": GROUPS,
            "values": values,
            "faults": faults,
            "other_faults": faults.get(OTHER, []),
            "seen": seen,
        }


def _name_of(place: str, values: Values) -> str:
    return values.get("name", "").strip() if place == NEW else place


def _go_to(path: str) -> Response:
    """Return what makes the browser go to another page."""
    return Response(status_code=200, headers={**HEADERS, "hx-redirect": path})
