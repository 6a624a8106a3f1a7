"""Who may use the admin API, and under which name the audit trail knows them."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from proxy.auth import Keyring, Role
from proxy.errors import ApiError
from proxy.settings import is_loopback


class Access:
    """Checks key, Host and Origin of admin requests."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def allow(self, request: Request) -> None:
        """Raise ApiError unless this request may use the admin API."""
        headers = dict(request.scope["headers"])
        host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname or ""
        origin = headers.get(b"origin")
        if origin and urlsplit(origin.decode("latin-1")).hostname != host:
            raise forbidden("a page of another origin may not use the admin API")
        if self._keyring.anonymous:
            peer = request.client.host if request.client else ""
            # The Host too: a name that a stranger's DNS points at 127.0.0.1 is not loopback.
            if not (is_loopback(peer) and is_loopback(host)):
                raise forbidden("without configured keys the admin API is open on loopback only")
            return
        role = self._keyring.caller(headers).role
        reads = request.method in ("GET", "HEAD")
        if role is not Role.ADMIN and not (role is Role.VIEWER and reads):
            raise forbidden("this takes an admin key")

    def who(self, request: Request) -> str:
        """Return what the audit trail calls the sender of an allowed request."""
        if self._keyring.anonymous:
            return "anonymous on loopback"
        return f"key {self._keyring.caller(dict(request.scope['headers'])).key_id}"


def forbidden(message: str) -> ApiError:
    """Return the 403 of the admin API."""
    return ApiError(403, message, type="permission_error", code="forbidden")
