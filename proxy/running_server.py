"""Asking the server that runs, over its admin API, as a command does."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Any

import aiohttp

from proxy.key_variables import is_sendable, key_in
from proxy.settings import Settings
from proxy.whereabouts import address, proof

# Replaying many examples takes as long as it takes; who does not want to wait has Ctrl-C.
_PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=10)
_BRIEF = aiohttp.ClientTimeout(total=30)


class Unreachable(Exception):
    """The running server does not do what was asked; one line says why."""


async def ask_server(
    settings: Settings, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what POST /admin/api/{path} answers, GET without a body; raise Unreachable.

    The server that has `data_dir` is asked, wherever it listens, and no other. The key is
    NEARHIT_ADMIN_KEY's, where keys are configured.
    """
    try:
        origin = address(settings.data_dir)
    except OSError as error:
        raise Unreachable(f"where the server answers cannot be read: {error}") from None
    if origin is None:
        raise Unreachable(
            f"no server has left its address in {settings.data_dir}: none runs there, or it starts"
        )
    url = f"{origin}/admin/api/{path}"
    key = key_in(os.environ, "NEARHIT_ADMIN_KEY")
    if key is not None and not is_sendable(key):
        raise Unreachable("NEARHIT_ADMIN_KEY: (hidden) is not allowed; allowed: printable ASCII")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    method = "GET" if body is None else "POST"
    try:
        async with aiohttp.ClientSession(timeout=_PATIENT) as session:
            await _recognise(session, origin, settings.data_dir)
            async with session.request(method, url, json=body, headers=headers) as answer:
                told: dict[str, Any] = await answer.json()
    except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout is an OSError
        said = str(error) or type(error).__name__
        raise Unreachable(f"{url} does not answer, where a server should: {said}") from None
    if answer.status >= 400:
        hint = "; set NEARHIT_ADMIN_KEY" if answer.status in (401, 403) else ""
        raise Unreachable(f"{url}: {told['error']['message']}{hint}")
    return told


async def _recognise(session: aiohttp.ClientSession, origin: str, data_dir: Path) -> None:
    """Raise Unreachable unless the server of this directory answers there; no key is sent."""
    nonce = secrets.token_hex(16)
    async with session.get(
        f"{origin}/nearhit/identity", params={"nonce": nonce}, timeout=_BRIEF
    ) as answer:
        told = await answer.text(errors="replace")
    expected = proof(data_dir, nonce)
    if expected is None or not hmac.compare_digest(told.encode(), expected.encode()):
        raise Unreachable(
            f"{origin} is not the server of {data_dir}, which does not run any more, or starts"
        )
