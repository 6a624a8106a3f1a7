"""Asking the server that runs, over its admin API, as a command does."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

from proxy.settings import Settings


class Unreachable(Exception):
    """The running server does not do what was asked; one line says why."""


async def ask_server(
    settings: Settings, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what POST /admin/api/{path} answers, GET without a body; raise Unreachable.

    The key is NEARHIT_ADMIN_KEY's, where keys are configured.
    """
    host = settings.server.host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://{host}:{settings.server.port}/admin/api/{path}"
    key = os.environ.get("NEARHIT_ADMIN_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request("GET" if body is None else "POST", url, json=body) as answer,
        ):
            told: dict[str, Any] = await answer.json()
    except (aiohttp.ClientError, ValueError) as error:
        raise Unreachable(f"{url} does not answer, where a server should: {error}") from None
    if answer.status >= 400:
        hint = "; set NEARHIT_ADMIN_KEY" if answer.status in (401, 403) else ""
        raise Unreachable(f"{url}: {told['error']['message']}{hint}")
    return told
