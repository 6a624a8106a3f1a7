"""Who may use the admin API and the dashboard, and under which name the audit trail knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from proxy.admin.sessions import COOKIE, Sessions
from proxy.auth import Caller, Keyring, Role, Unauthorized
from proxy.errors import ApiError
from proxy.settings import is_loopback

_READS = ("GET", "HEAD")
# Sent with POST because a question is too long for an address; they change nothing, so that whoever
# may only look may ask them too.
QUESTIONS = frozenset({"/admin/api/explain", "/admin/playground"})
KEYLESS = "without configured keys the admin API is open on loopback only"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORWARDED_FOR = re.compile(r'(?i)\bfor\s*=\s*"?([^",;]*)')


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request that is allowed."""

    who: str  # as in the audit trail
    role: Role
    signed_in: bool = False  # by the dashboard's cookie, and can sign out


class Access:
    """Checks key or session, Host and Origin of admin requests."""

    def __init__(self, keyring: Keyring, sessions: Sessions | None = None) -> None:
        """`sessions` None: no dashboard is there to sign in to."""
        self._keyring = keyring
        self._sessions = sessions

    @property
    def anonymous(self) -> bool:
        """Whether no key is configured: then whoever is on this machine is an admin."""
        return self._keyring.anonymous

    async def allow(self, request: Request) -> None:
        """Raise ApiError or Unauthorized unless this request may use the admin API."""
        visitor = await self._visitor(request)
        reads = request.method in _READS or (
            request.method == "POST" and request.scope["path"] in QUESTIONS
        )
        if visitor.role is not Role.ADMIN and not (visitor.role is Role.VIEWER and reads):
            raise forbidden("this takes an admin key")
        request.state.visitor = visitor

    def who(self, request: Request) -> str:
        """Return what the audit trail calls the sender of an allowed request."""
        return visitor_of(request).who

    def same_origin(self, request: Request) -> bool:
        """Whether the page that sent a request, if it was one, is of this host and port."""
        origin = request.headers.get("origin")
        if origin is None:
            return True
        scheme = origin.partition(":")[0].lower()  # `null`, which hides where it is from, has none
        return scheme in _DEFAULT_PORTS and _place(origin) == _host(request, scheme)

    async def _visitor(self, request: Request) -> Visitor:
        if not self.same_origin(request):
            raise forbidden("a page of another origin may not use the admin API")
        if self._keyring.anonymous:
            peer = request.client.host if request.client else ""
            host, _ = _host(request, "http")
            # The Host too: a name that a stranger's DNS points at 127.0.0.1 is not loopback.
            if not (is_loopback(peer) and is_loopback(host)):
                raise forbidden(KEYLESS)
            if _sent_for_another(request):
                raise forbidden(
                    f"{KEYLESS}, and a proxy sends this for a client elsewhere: configure auth.keys"
                )
            return Visitor("anonymous on loopback", Role.ADMIN)
        signed_in = await self._signed_in(request)
        caller = signed_in or self._keyring.caller(dict(request.scope["headers"]))
        return Visitor(f"key {caller.key_id}", caller.role, signed_in is not None)

    async def _signed_in(self, request: Request) -> Caller | None:
        """Return whose session the request comes in; None if it brings a key, or no session."""
        cookie = request.cookies.get(COOKIE)
        if cookie is None or self._sessions is None or _brings_key(request):
            return None
        caller = await self._sessions.caller(cookie)
        if caller is None:
            raise Unauthorized("this session has ended: sign in again")
        # A browser says where each request but a plain read comes from. SameSite alone would let
        # another port of this host in, which is the same site.
        if request.method not in _READS and "origin" not in request.headers:
            raise forbidden("a session may change something from its own pages only")
        return caller


def visitor_of(request: Request) -> Visitor:
    """Return who sent an allowed request."""
    visitor = request.state.visitor
    assert isinstance(visitor, Visitor)
    return visitor


def forbidden(message: str) -> ApiError:
    """Return the 403 of the admin API."""
    return ApiError(403, message, type="permission_error", code="forbidden")


def _brings_key(request: Request) -> bool:
    return "authorization" in request.headers or "x-api-key" in request.headers


def _sent_for_another(request: Request) -> bool:
    """Whether a proxy in between says that the client is not on this machine, or does not say.

    One on this machine is a peer on loopback, whoever asked it.
    """
    hops: list[str] = []
    for name in ("x-forwarded-for", "x-real-ip"):
        for value in request.headers.getlist(name):
            hops += value.split(",")
    for value in request.headers.getlist("forwarded"):
        hops += _FORWARDED_FOR.findall(value) or [""]
    hosts = [hop.strip() for hop in hops]
    return not all(is_loopback(host) or is_loopback(_place(f"//{host}")[0]) for host in hosts)


def _place(url: str) -> tuple[str, int | None]:
    """Return host and port of a URL; of one that cannot be read, nobody's."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", None


def _host(request: Request, scheme: str) -> tuple[str, int | None]:
    """Return host and port that the request was sent to, as its Host header has them."""
    return _place(f"{scheme}://{request.headers.get('host', '')}")
