"""The page that purges: first what would go is counted, then it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.entries import EntriesAdmin
from proxy.admin.purge import MEANS_THE_SAME, Purge
from proxy.dashboard.entry_values import counted, short
from proxy.dashboard.forms import fields
from proxy.dashboard.pages import Pages, must_edit
from proxy.errors import ApiError

# What may be chosen, and how it is said of the entries that go.
SELECTORS = {
    "category": "of category",
    "tag": "with the tag",
    "model": "of model",
    "tenant": "of tenant",
    "prefix": "whose question begins with",
    "similar_to": "whose question means",
    "all": "all that is stored",
}
WORD = "purge"  # what is typed before everything goes
_EXAMPLES = 5


class Order(NamedTuple):
    """A purge that was asked for, and what of it cannot be."""

    purge: Purge | None
    typed: dict[str, str]
    faults: dict[str, str]  # by field


class PurgePage:
    """Counts and removes many entries at once."""

    def __init__(self, pages: Pages, entries: EntriesAdmin) -> None:
        self._pages = pages
        self._entries = entries

    async def show(self, request: Request) -> Response:
        """Return the form, with what the address names filled in."""
        return self._form(request, "purge.html", ordered(request.query_params).typed, {})

    async def count(self, request: Request) -> Response:
        """Return how many would go, with some of them, and the button that removes them."""
        must_edit(request)
        order = ordered(await fields(request))
        if order.purge is None:
            return self._form(request, "purge_form.html", order.typed, order.faults)
        return await self._counted(request, order.purge, order.typed)

    async def purge(self, request: Request) -> Response:
        """Remove what was counted before."""
        must_edit(request)
        form = await fields(request)
        order = ordered(form)
        if order.purge is None:
            return self._form(request, "purge_form.html", order.typed, order.faults)
        if order.purge.all and form.get("word", "").strip().lower() != WORD:
            fault = f"Type {WORD} to confirm that everything goes."
            return await self._counted(request, order.purge, order.typed, fault)
        try:
            done = await self._entries.purge(order.purge, request)
        except ApiError as error:
            return self._unread(request, order.typed, error)
        return self._form(
            request,
            "purge_form.html",
            {**order.typed, "value": ""},
            {},
            done=told(done, form.get("counted", "")),
        )

    async def _counted(
        self, request: Request, purge: Purge, typed: dict[str, str], fault: str = ""
    ) -> Response:
        try:
            matched, some = await self._entries.preview(purge, _EXAMPLES)
        except ApiError as error:
            return self._unread(request, typed, error)
        return self._form(
            request,
            "purge_form.html",
            typed,
            {},
            matched=matched,
            what=said(typed),
            examples=[(held.id, short(held.query), held.tenant) for held in some],
            word=WORD if purge.all else "",
            word_fault=fault,
        )

    def _unread(self, request: Request, typed: dict[str, str], error: ApiError) -> Response:
        """Return the form with why its text has no vector now; any other error is raised."""
        if error.param != "similar_to":
            raise error
        return self._form(request, "purge_form.html", typed, {"value": str(error)})

    def _form(
        self,
        request: Request,
        template: str,
        typed: dict[str, str],
        faults: dict[str, str],
        **more: Any,
    ) -> Response:
        return self._pages.show(
            request,
            template,
            typed=typed,
            faults={**dict.fromkeys(typed, ""), **faults},
            selectors=SELECTORS,
            usual=MEANS_THE_SAME,
            **{"matched": None, "done": "", **more},
        )


def ordered(form: Mapping[str, str]) -> Order:
    """Return the purge that a form names, or what is wrong with it. Pure."""
    typed = {
        "selector": form.get("selector", "category"),
        "value": form.get("value", ""),
        "threshold": form.get("threshold", "").strip(),
    }
    selector, value, threshold = typed.values()
    if selector not in SELECTORS:
        return Order(None, {**typed, "selector": "category"}, {"selector": "Choose one of these."})
    wanted: dict[str, Any] = {selector: True if selector == "all" else value}
    if selector == "all" and value:
        return Order(None, typed, {"value": "Leave this empty to purge everything."})
    if selector != "all" and not value.strip():
        return Order(None, typed, {"value": "Say which."})
    if threshold and selector != "similar_to":
        return Order(None, typed, {"threshold": "Leave this empty: only a meaning has a cosine."})
    if threshold:
        wanted["threshold"] = threshold
    try:
        return Order(Purge.model_validate(wanted), typed, {})
    except ValidationError as error:
        first = error.errors()[0]
        if "threshold" in first["loc"]:
            return Order(None, typed, {"threshold": "A number from -1 to 1."})
        return Order(None, typed, {"value": first["msg"]})


def said(typed: Mapping[str, str]) -> str:
    """Return which entries a purge names, in words."""
    words = SELECTORS[typed["selector"]]
    if typed["selector"] == "all":
        return words
    value = typed["value"]
    text = f"{words} “{value if len(value) <= 200 else value[:199] + '…'}”"
    if typed["selector"] == "similar_to" and typed["threshold"]:
        text += f", cosine {typed['threshold']} or more"
    return text


def told(done: Mapping[str, int], before: str) -> str:
    """Say what a purge came to, and whether it was another number than was counted before."""
    text = f"Purged {counted(done['purged'])}."
    if before.isdecimal() and int(before) != done["matched"]:
        text += f" There were {counted(int(before))} when you counted: others came or went."
    for key, name in (("pairs", "labelled pairs"), ("quarantined", "quarantines")):
        if done.get(key):
            text += f" With them went {counted(done[key], name, name[:-1])} of this tenant."
    return text
