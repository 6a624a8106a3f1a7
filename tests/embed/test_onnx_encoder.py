"""What is particular to the ONNX encoder: no torch, damaged weights, batches, threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from embed.checkpoint import Checkpoint, Precision, write_manifest
from embed.encoder import Encoder, ThreadedEncoder, Vector
from embed.errors import CheckpointInvalid, EncoderFailed
from embed.onnx_encoder import OnnxEncoder, default_threads

RUN_WITHOUT_TORCH = """
import asyncio, sys
from pathlib import Path
from embed.batcher import Batcher
from embed.checkpoint import Checkpoint
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder

async def main():
    encoder = OnnxEncoder(ensure_bundled(Path(sys.argv[1]), print))
    async with Batcher(encoder) as batcher:
        vector = await batcher.encode("hello")
    await encoder.aclose()
    loaded = {"torch", "transformers", "sentence_transformers", "onnx"} & set(sys.modules)
    print(vector.shape, sorted(loaded))

asyncio.run(main())
"""


def test_encoding_never_loads_torch(checkpoint: Checkpoint) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_WITHOUT_TORCH, str(checkpoint.directory)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (run.stdout, run.stderr, run.returncode) == ("(384,) []\n", "", 0)


def test_the_default_precision_is_the_checkpoint_s(
    checkpoint: Checkpoint, onnx_encoder: OnnxEncoder, int8_encoder: OnnxEncoder
) -> None:
    assert checkpoint.precision is Precision.FP32
    assert onnx_encoder.checkpoint == checkpoint.id
    assert int8_encoder.checkpoint == checkpoint.id_at(Precision.INT8)


@pytest.mark.parametrize("precision", list(Precision))
async def test_company_never_changes_a_vector(
    precision: Precision, onnx_encoder: OnnxEncoder, int8_encoder: OnnxEncoder
) -> None:
    """Quantised activations share one scale a pass: the danger is real, see the exporter."""
    encoder = onnx_encoder if precision is Precision.FP32 else int8_encoder
    question = "How many moons does Saturn have?"
    company = ["!!! ??? ...", "print(1)", "a b c d e f", "Tell me a long story. " * 20] * 7
    alone = (await encoder.encode([question]))[0]
    among = (await encoder.encode([*company, question, *company]))[len(company)]
    np.testing.assert_allclose(alone, among, atol=1e-5)


async def test_equal_texts_are_exactly_similar(onnx_encoder: OnnxEncoder) -> None:
    vectors = await onnx_encoder.encode(["What is love?", "WHAT IS LOVE?", "what  is love ?"])
    np.testing.assert_allclose(vectors @ vectors.T, 1, atol=1e-6)


async def test_encoding_quietly_gives_the_same_vectors(onnx_encoder: OnnxEncoder) -> None:
    texts = ["When does the ferry leave?", "How do I descale a kettle?"]
    loud, quiet = await onnx_encoder.encode(texts), await onnx_encoder.encode_quietly(texts)
    np.testing.assert_array_equal(loud, quiet)
    with pytest.raises(EncoderFailed):
        await onnx_encoder.encode_quietly(["long " * 5000])


async def test_a_closed_encoder_says_so(checkpoint: Checkpoint) -> None:
    encoder = OnnxEncoder(checkpoint, threads=1)
    await encoder.aclose()
    await encoder.aclose()
    with pytest.raises(EncoderFailed, match="after shutdown"):
        await encoder.encode(["too late"])


async def test_a_closed_encoder_lets_go_of_the_model(checkpoint: Checkpoint) -> None:
    encoder = OnnxEncoder(checkpoint, threads=1)
    model = weakref.ref(encoder._session)
    await encoder.aclose()
    assert model() is None


async def test_a_failure_says_why(onnx_encoder: Encoder) -> None:
    with pytest.raises(EncoderFailed, match="2 texts failed: a text has 302 tokens"):
        await onnx_encoder.encode(["fine", "time " * 300])


async def test_a_vector_that_is_not_finite_never_leaves(
    onnx_encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def run(self, names: None, feed: dict[str, object]) -> list[object]:
            return [np.full((1, 384), np.nan, np.float32)]

    monkeypatch.setattr(onnx_encoder, "_session", Broken())
    with pytest.raises(EncoderFailed, match="not finite"):
        await onnx_encoder.encode(["hello"])


def test_weights_that_do_not_load_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name in checkpoint.files:
        (tmp_path / name).write_text("garbage")
    shutil.copy(checkpoint.tokenizer, tmp_path)
    broken = _vouch(tmp_path, checkpoint, dimension=384)
    with pytest.raises(CheckpointInvalid, match="model.onnx does not run"):
        OnnxEncoder(broken)


def test_a_dimension_that_is_not_the_model_s_is_named(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for name in checkpoint.files:
        os.symlink(checkpoint.directory / name, tmp_path / name)
    wrong = _vouch(tmp_path, checkpoint, dimension=128)
    with pytest.raises(CheckpointInvalid, match="384.*128"):
        OnnxEncoder(wrong, threads=1)


def _vouch(directory: Path, like: Checkpoint, *, dimension: int) -> Checkpoint:
    return write_manifest(
        directory,
        name="test",
        dimension=dimension,
        max_tokens=like.max_tokens,
        precision=Precision.FP32,
        source=like.source,
    )


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        pytest.param(1, 1, id="one core"),
        pytest.param(2, 1, id="two: the event loop has the other"),
        pytest.param(3, 2, id="three"),
        pytest.param(64, 4, id="many: more threads gain nothing on short texts"),
    ],
)
def test_default_threads(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert default_threads() == threads


async def test_work_on_a_vector_is_done_in_the_thread_that_made_it(
    onnx_encoder: OnnxEncoder,
) -> None:
    assert isinstance(onnx_encoder, ThreadedEncoder)
    vectors, (thread, seen) = await onnx_encoder.encode_and(
        "When do ferries leave?", lambda vector: (threading.current_thread().name, vector)
    )
    assert thread.startswith("encode")
    np.testing.assert_array_equal(vectors, await onnx_encoder.encode(["When do ferries leave?"]))
    np.testing.assert_array_equal(vectors[0], seen)


async def test_work_that_fails_is_told_as_a_failed_encoding(onnx_encoder: OnnxEncoder) -> None:
    def work(vector: Vector) -> None:
        raise ZeroDivisionError

    with pytest.raises(EncoderFailed, match="encoding one text failed"):
        await onnx_encoder.encode_and("When do ferries leave?", work)
