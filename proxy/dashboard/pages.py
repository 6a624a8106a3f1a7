"""What every page has in common: its frame, who may see it, and what is shown when it fails.

A page is a function from a request to an answer. It asks the services that the admin API asks, and
hands plain values to a template. `Pages.guarded` wraps it, so that none has to think of either.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from proxy.admin.access import Access, visitor_of
from proxy.auth import Role, Unauthorized
from proxy.dashboard import formats
from proxy.errors import ApiError, as_api_error

log = logging.getLogger("nearhit.dashboard")

Page = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[Request, Exception], Response | Awaitable[Response]]

# No script, style or picture from elsewhere, nor from within a page: what an answer or a question
# says can never run, whatever is in it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
TEMPLATES = Path(__file__).parent / "templates"

# What the reader can do about an error of this code; anything else: the log.
ADVICE = {
    "store_unavailable": "Check that the document store runs and is reachable: /ready says which "
    "part fails. The proxy goes on answering meanwhile, from the upstreams.",
    "encoder_unavailable": "Check the encoder: /ready says whether it works. Nothing was changed.",
    "not_found": "It may have expired, been evicted or been removed meanwhile.",
    "forbidden": "Sign in with a key of role admin to do this.",
    "policies_changed": "Somebody else has changed the policies meanwhile: look at theirs first.",
}


class Section(NamedTuple):
    """An entry of the navigation."""

    path: str
    title: str


SECTIONS = (
    Section("/admin", "Overview"),
    Section("/admin/categories", "Categories"),
    Section("/admin/entries", "Entries"),
    Section("/admin/playground", "Playground"),
    Section("/admin/near-hits", "Near-hits"),
    Section("/admin/federated", "Federated"),
    Section("/admin/audit", "Audit"),
    Section("/admin/settings", "Settings"),
)


class Pages:
    """Renders pages and parts of pages."""

    def __init__(self, access: Access, clock: Callable[[], datetime]) -> None:
        self._access = access
        self._clock = clock
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(formats.FILTERS)

    def show(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> Response:
        """Return a page, or a part of one, as a template makes it of `values`."""
        path = request.url.path
        here = max((s.path for s in SECTIONS if path.startswith(s.path)), key=len, default="")
        visitor = getattr(request.state, "visitor", None)
        text = self._templates.get_template(template).render(
            sections=SECTIONS,
            here=here,
            visitor=visitor,
            may_edit=visitor is not None and visitor.role is Role.ADMIN,
            now=self._clock(),
            **values,
        )
        return HTMLResponse(text, status, HEADERS)

    def guarded(self, page: Page) -> Page:
        """Return the page for those who may see it; others are sent to sign in."""

        async def answer(request: Request) -> Response:
            try:
                await self._access.allow(request)
            except Unauthorized:
                return _to_login(request)
            return await page(request)

        return self.told(answer)

    def told(self, page: Page) -> Page:
        """Return the page, or one that says why it cannot be shown."""

        async def answer(request: Request) -> Response:
            try:
                return await page(request)
            except HTTPException:
                raise
            except Exception as error:
                return self.failed(request, error)

        return answer

    def or_page(self, otherwise: Refuse) -> Refuse:
        """Return how a path is refused that no page has: a browser that went there gets a page."""

        async def none(request: Request) -> Response:
            raise ApiError(404, f"There is no page {request.url.path}.")

        async def answer(request: Request, error: Exception) -> Response:
            if getattr(error, "status_code", 0) == 404 and _browsed(request):
                return await self.guarded(none)(request)
            refused = otherwise(request, error)
            return refused if isinstance(refused, Response) else await refused

        return answer

    def failed(self, request: Request, error: Exception) -> Response:
        """Return what is shown in the place of a page, or of a part of one, that failed."""
        told = as_api_error(error)
        if told.status >= 500:
            # As an exception, so that the log leaves out what a foreign one may quote.
            log.warning("%s %s failed", request.method, request.url.path, exc_info=error)
        return self.show(
            request,
            "error_part.html" if is_part(request) else "error.html",
            status=told.status,
            message=str(told),
            advice=ADVICE.get(told.code or "", "" if told.status < 500 else "The log says why."),
        )


def is_part(request: Request) -> bool:
    """Whether a page asks for a part of itself, rather than a browser for a page."""
    return "hx-request" in request.headers


def _browsed(request: Request) -> bool:
    """Whether a browser goes to where pages are, rather than a script to the admin API."""
    path = request.url.path
    ours = path.startswith("/admin/") and not path.startswith("/admin/api/")
    return ours and "text/html" in request.headers.get("accept", "")


def who(request: Request) -> str:
    """Return what the audit trail calls the reader of a guarded page."""
    return visitor_of(request).who


def must_edit(request: Request) -> None:
    """Raise ApiError unless the reader of a guarded page may change something."""
    if visitor_of(request).role is not Role.ADMIN:
        raise ApiError(403, "this takes an admin key", type="permission_error", code="forbidden")


def _to_login(request: Request) -> Response:
    if is_part(request):
        return Response(status_code=401, headers={**HEADERS, "hx-redirect": "/admin/login"})
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = "/admin/login"
    if request.method == "GET" and wanted != "/admin":
        target += f"?to={quote(wanted, safe='')}"
    return RedirectResponse(target, 303, HEADERS)
