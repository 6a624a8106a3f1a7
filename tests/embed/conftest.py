"""The bundled checkpoint and one encoder of each kind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from embed.checkpoint import Checkpoint, Precision, bundled_checkpoint_dir
from embed.encoder import Encoder
from embed.export import ensure_bundled, packaged_model_dir
from embed.onnx_encoder import OnnxEncoder
from embed.remote_encoder import RemoteEncoder
from tests.embed.embedding_service import embedding_reply, serving

BACKENDS = ("onnx-fp32", "onnx-int8", "torch-cpu", "remote")


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    def say(line: str) -> None:
        sys.stderr.write(line + "\n")

    return ensure_bundled(bundled_checkpoint_dir(), say)


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


@pytest.fixture(params=BACKENDS)
async def encoder(
    request: pytest.FixtureRequest, onnx_encoder: OnnxEncoder
) -> AsyncIterator[Encoder]:
    """Each kind of encoder in turn."""
    if request.param != "remote":
        names = {"onnx-fp32": "onnx_encoder", "onnx-int8": "int8_encoder"}
        yield request.getfixturevalue(names.get(request.param, "torch_encoder"))
        return
    async with serving(embedding_reply(onnx_encoder)) as base_url:
        remote = await RemoteEncoder.open(base_url=base_url, model="minilm", max_bytes=1000)
        yield remote
        await remote.aclose()
