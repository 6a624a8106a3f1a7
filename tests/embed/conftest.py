"""The bundled checkpoint, one encoder of each kind, and an embedding service to ask."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import numpy as np
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from embed.checkpoint import Checkpoint, Precision, bundled_checkpoint_dir
from embed.encoder import Encoder
from embed.errors import EncoderFailed
from embed.export import ensure_bundled, packaged_model_dir
from embed.onnx_encoder import OnnxEncoder
from embed.remote_encoder import RemoteEncoder

BACKENDS = ("onnx-fp32", "onnx-int8", "torch-cpu", "remote")
Reply = Callable[[web.Request], Awaitable[web.Response]]
Service = Callable[[Reply], AbstractAsyncContextManager[str]]


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return ensure_bundled(bundled_checkpoint_dir(), sys.stderr.write)


@pytest.fixture(scope="session")
def onnx_encoder(checkpoint: Checkpoint) -> Iterator[OnnxEncoder]:
    encoder = OnnxEncoder(checkpoint, precision=Precision.FP32, threads=1)
    yield encoder
    asyncio.run(encoder.aclose())


@pytest.fixture(scope="session")
def int8_encoder(checkpoint: Checkpoint) -> Iterator[OnnxEncoder]:
    encoder = OnnxEncoder(checkpoint, precision=Precision.INT8, threads=1)
    yield encoder
    asyncio.run(encoder.aclose())


@pytest.fixture(scope="session")
def torch_encoder() -> Iterator[Encoder]:
    from embed.torch_encoder import TorchEncoder

    encoder = TorchEncoder(packaged_model_dir(), device="cpu")
    yield encoder
    asyncio.run(encoder.aclose())


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


@pytest.fixture
def service() -> Service:
    """Serve embeddings: `async with service(reply) as base_url`."""
    return serving


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


@pytest.fixture(params=BACKENDS)
async def encoder(
    request: pytest.FixtureRequest, onnx_encoder: OnnxEncoder, service: Service
) -> AsyncIterator[Encoder]:
    """Each kind of encoder in turn."""
    if request.param != "remote":
        names = {"onnx-fp32": "onnx_encoder", "onnx-int8": "int8_encoder"}
        yield request.getfixturevalue(names.get(request.param, "torch_encoder"))
        return
    async with service(embedding_reply(onnx_encoder)) as base_url:
        remote = await RemoteEncoder.open(base_url=base_url, model="minilm")
        yield remote
        await remote.aclose()
