"""Signing in with an admin key, and out again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from proxy.admin.access import Access, forbidden
from proxy.admin.sessions import COOKIE, Sessions
from proxy.auth import Keyring, Role, Unauthorized
from proxy.dashboard.forms import fields
from proxy.dashboard.pages import HEADERS, Pages
from proxy.rate_limit import RateLimit
from store.documents.records import AuditRow, Records

TRIES_A_MINUTE = 10  # from one address


class Login:
    """The page that asks for a key."""

    def __init__(
        self,
        *,
        pages: Pages,
        access: Access,
        keyring: Keyring,
        sessions: Sessions | None,
        records: Records,
        clock: Callable[[], datetime],
    ) -> None:
        self._pages = pages
        self._access = access
        self._keyring = keyring
        self._sessions = sessions
        self._records = records
        self._clock = clock
        self._tries = RateLimit(TRIES_A_MINUTE)

    async def show(self, request: Request) -> Response:
        """Ask for a key."""
        if self._access.anonymous:
            return RedirectResponse("/admin", 303, HEADERS)
        return self._ask(request, to=request.query_params.get("to", ""))

    async def sign_in(self, request: Request) -> Response:
        """Give a session to whoever brings an admin's or a viewer's key."""
        if self._sessions is None:
            return RedirectResponse("/admin", 303, HEADERS)
        if not self._access.same_origin(request):
            raise forbidden("a page of another origin may not sign in here")
        peer = request.client.host if request.client else ""
        wait = self._tries.wait(peer, time.monotonic())
        if wait:
            seconds = math.ceil(wait)
            told = f"Too many tries from your address: wait {seconds} seconds."
            return self._ask(request, fault=told, status=429, retry_after=seconds)
        form = await fields(request)
        to = form.get("to", "")
        try:
            key = form.get("key", "").strip().encode()
            caller = self._keyring.caller({b"authorization": b"Bearer " + key})
        except Unauthorized:
            told = "This key is not known here. Check that you copied all of it."
            return self._ask(request, to, fault=told, status=401)
        if caller.role is Role.CLIENT:
            told = (
                "This is a client key: it calls models. Sign in with a key of role admin or viewer."
            )
            return self._ask(request, to, fault=told, status=403)
        cookie = await self._sessions.cookie(caller)
        await self._records.add_audit(
            AuditRow(at=self._clock(), who=f"key {caller.key_id}", action="login")
        )
        answer = RedirectResponse(_ours(to), 303, HEADERS)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(self._sessions.lifetime),
            path="/admin",
            secure=_over_tls(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Forget the session in this browser."""
        if not self._access.same_origin(request):
            raise forbidden("a page of another origin may not sign you out")
        answer = RedirectResponse("/admin/login", 303, HEADERS)
        answer.delete_cookie(COOKIE, path="/admin", httponly=True, samesite="strict")
        return answer

    def _ask(
        self,
        request: Request,
        to: str = "",
        *,
        fault: str = "",
        status: int = 200,
        retry_after: int | None = None,
    ) -> Response:
        answer = self._pages.show(request, "login.html", status=status, to=to, fault=fault)
        if retry_after is not None:
            answer.headers["retry-after"] = str(retry_after)
        return answer


def _ours(to: str) -> str:
    """Return where a reader wanted to go, if that is a page of the dashboard."""
    ours = to == "/admin" or to.startswith(("/admin/", "/admin?"))
    return to if ours and "\\" not in to and to.isprintable() else "/admin"


def _over_tls(request: Request) -> bool:
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
