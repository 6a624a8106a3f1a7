"""One line a request in the log, where that is wanted: how it went, nothing of what it said."""

from __future__ import annotations

import logging
import time
from typing import Any

from proxy.auth import Keyring, Unauthorized
from proxy.logs import ACCESS
from proxy.routes import Receive, Scope, Send, Serve

_LONGEST_PATH = 200  # characters

log = logging.getLogger(ACCESS)


class AccessLog:
    """An application whose requests are written down."""

    def __init__(self, app: Serve, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write it down when its answer has gone out."""
        started = time.perf_counter()
        seen: dict[str, Any] = {"status": 0}  # 0: the client hung up before there was any

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                seen["headers"] = dict(message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            self._write(scope, seen, time.perf_counter() - started)

    def _write(self, scope: Scope, seen: dict[str, Any], seconds: float) -> None:
        headers = seen.get("headers", {})
        fields = {
            "method": scope["method"],
            "path": scope["path"][:_LONGEST_PATH],
            "status": seen["status"],
            "seconds": round(seconds, 6),
            "cache": headers.get(b"cache-status", b"").decode("latin-1"),
            "category": headers.get(b"x-nearhit-category", b"").decode("latin-1"),
            "tenant": self._tenant(scope),
        }
        line = " ".join(f"{name}={value!r}" for name, value in fields.items())
        id = headers.get(b"x-request-id", b"").decode("latin-1")
        log.info("%s", line, extra={"fields": fields, "request_id": id})

    def _tenant(self, scope: Scope) -> str:
        try:
            return self._keyring.caller(dict(scope["headers"])).tenant
        except Unauthorized:
            return ""


def written_down(app: Serve, keyring: Keyring, *, wanted: bool) -> Serve:
    """Return the application, with its requests written down if that is wanted."""
    return AccessLog(app, keyring) if wanted else app
