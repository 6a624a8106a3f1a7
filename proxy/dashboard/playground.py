"""The page on which a question is tried out: what the cache would do with it, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from proxy.dashboard.forms import fields
from proxy.dashboard.pages import Pages, is_part
from proxy.errors import ApiError
from proxy.explain import Explain, Explainer
from proxy.explained import explanation
from proxy.rules import InForce

_ROLES = ("user", "assistant")
FIELDS = (
    "question",
    "system",
    "earlier",
    "model",
    "tenant",
    "category",
    "temperature",
)
_LONGEST = 20_000  # characters of a field


class PlaygroundPage:
    """Shows a form, and what becomes of what is typed into it."""

    def __init__(
        self, pages: Pages, explainer: Explainer, in_force: InForce, models: Sequence[str]
    ) -> None:
        """`models` are offered first; any name may be typed."""
        self._pages = pages
        self._explainer = explainer
        self._in_force = in_force
        self._models = models

    async def show(self, request: Request) -> Response:
        """Return the form, filled with what the address says."""
        typed = {name: request.query_params.get(name, "") for name in FIELDS}
        return self._page(request, typed)

    async def explain(self, request: Request) -> Response:
        """Return the form as it was sent, with the verdict below."""
        sent = await fields(request)
        typed = {name: sent.get(name, "")[:_LONGEST] for name in FIELDS}
        faults = faults_of(typed)
        if faults:
            return self._page(request, typed, faults=faults, status=400)
        try:
            found = explanation(await self._explainer.explained(asked_of(typed)))
        except ApiError as refused:
            return self._page(request, typed, refused=refused, status=refused.status)
        except ValidationError as error:
            return self._page(
                request, typed, faults={"tenant": error.errors()[0]["msg"]}, status=400
            )
        return self._page(request, typed, found=found)

    def _page(
        self,
        request: Request,
        typed: dict[str, str],
        *,
        found: dict[str, Any] | None = None,
        faults: dict[str, str] | None = None,
        refused: ApiError | None = None,
        status: int = 200,
    ) -> Response:
        return self._pages.show(
            request,
            "playground_part.html" if is_part(request) else "playground.html",
            status=status,
            typed=typed,
            found=found,
            faults=faults or {},
            refused=refused,
            categories=self._in_force.rules.book.names,
            models=self._models,
        )


def faults_of(typed: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with which field, in words; {} if nothing is."""
    faults = {}
    if not typed["question"].strip():
        faults["question"] = "Type a question."
    if not typed["model"].strip():
        faults["model"] = "Name the model that a client would ask."
    if typed["temperature"].strip():
        try:
            if not 0 <= float(typed["temperature"]) <= 2:
                faults["temperature"] = "From 0 to 2."
        except ValueError:
            faults["temperature"] = "A number from 0 to 2."
    return faults


def asked_of(typed: dict[str, str]) -> Explain:
    """Return the request that a form without faults describes."""
    messages = []
    if typed["system"].strip():
        messages.append({"role": "system", "content": typed["system"]})
    lines = [line.strip() for line in typed["earlier"].splitlines() if line.strip()]
    for number, line in enumerate(lines):
        messages.append({"role": _ROLES[number % 2], "content": line})
    messages.append({"role": "user", "content": typed["question"]})
    body: dict[str, Any] = {"model": typed["model"].strip(), "messages": messages}
    if typed["temperature"].strip():
        body["temperature"] = float(typed["temperature"])
    headers = {"X-Nearhit-Category": typed["category"]} if typed["category"] else {}
    return Explain(body=body, tenant=typed["tenant"].strip() or "default", headers=headers)
