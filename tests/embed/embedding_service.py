"""A real embedding service on a socket, to be asked by the remote encoder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from embed.encoder import Encoder
from embed.errors import EncoderFailed

Reply = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[str]:
    """Answer POST /v1/embeddings with `reply` on a real socket; give the base URL."""
    app = web.Application()
    app.router.add_post("/v1/embeddings", reply)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("/v1"))
    finally:
        await server.close()


def embedding_reply(encoder: Encoder) -> Reply:
    """Answer like the real services do: vectors of any length, items in any order."""

    async def reply(request: web.Request) -> web.Response:
        texts = orjson.loads(await request.read())["input"]
        try:
            vectors = await encoder.encode(texts)
        except EncoderFailed as error:
            return web.json_response({"error": {"message": str(error)}}, status=400)
        items = [
            {"object": "embedding", "index": i, "embedding": (3 * np.array(row)).tolist()}
            for i, row in enumerate(vectors)
        ]
        return web.json_response({"object": "list", "data": items[::-1], "model": "any"})

    return reply
