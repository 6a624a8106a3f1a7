"""A small model that can be spoilt: passes chats on to it, and once told so garbles its answers.

`python -m bench.nearhits.degrading --port 9001 --upstream http://127.0.0.1:9002/v1`; POST /spoilt
true (or false) says from when on. Nothing else of an answer changes: nobody can see it but by
reading.
"""

from __future__ import annotations

import argparse
from typing import Any

import aiohttp
import orjson

from bench.fake_upstream import CHAT, Receive, Scope, Send, answer_json, read_body, serve


def garbled(text: str) -> str:
    """Return an answer that looks like one and is wrong: its letters from the last to the first."""
    bare = text.strip()
    return bare[::-1] + "a" if bare[::-1] == bare else bare[::-1]


class Degrading:
    """The ASGI application."""

    def __init__(self, upstream: str) -> None:
        """`upstream` is a base URL, as http://127.0.0.1:9000/v1."""
        self._upstream = upstream
        self._spoilt = False
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if scope["path"] == "/spoilt":
            self._spoilt = bool(orjson.loads(body))
            await answer_json(send, body)
            return
        status, answer = await self._forward(scope["path"], scope["method"], body)
        if self._spoilt and scope["path"] == CHAT and status == 200:
            answer = orjson.dumps(self._garble(orjson.loads(answer)))
        await answer_json(send, answer, status)

    async def aclose(self) -> None:
        """Close the connections to the small model."""
        if self._session is not None:
            await self._session.close()

    async def _forward(self, path: str, method: str, body: bytes) -> tuple[int, bytes]:
        if self._session is None:  # made in the loop that uses it
            self._session = aiohttp.ClientSession()
        url = self._upstream + path.removeprefix("/v1")
        headers = {"content-type": "application/json"}
        async with self._session.request(method, url, data=body or None, headers=headers) as answer:
            return answer.status, await answer.read()

    def _garble(self, answer: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            choice["message"]["content"] = garbled(choice["message"]["content"] or "")
        return answer


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="the small model's base URL")
    given = parser.parse_args()
    serve(Degrading(given.upstream), given.port)


if __name__ == "__main__":
    main()
