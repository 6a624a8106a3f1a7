"""What is particular to the torch encoder: its own ids, half precision on CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embed.encoder import Encoder
from embed.errors import CheckpointInvalid, EncoderFailed
from embed.export import packaged_model_dir
from embed.onnx_encoder import OnnxEncoder
from embed.torch_encoder import TorchEncoder

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_it_reads_the_window_and_dimension_of_the_model(torch_encoder: Encoder) -> None:
    assert (torch_encoder.dimension, torch_encoder.max_tokens) == (384, 256)


def test_its_id_is_of_the_model_s_family_but_its_own(
    torch_encoder: Encoder, onnx_encoder: OnnxEncoder
) -> None:
    assert torch_encoder.checkpoint.startswith("minilm-l6-v2-")
    assert torch_encoder.checkpoint != onnx_encoder.checkpoint


async def test_written_out_control_tokens_are_read_as_by_the_onnx_encoder(
    torch_encoder: Encoder, onnx_encoder: OnnxEncoder
) -> None:
    texts = ["What does [SEP] do?", "a [PAD] b [MASK] c [UNK]"]
    cosines = (await torch_encoder.encode(texts) * await onnx_encoder.encode(texts)).sum(axis=1)
    assert cosines.min() > 0.9999


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=f"{tmp_path} does not run"):
        TorchEncoder(tmp_path, device="cpu")


async def test_a_closed_encoder_says_so() -> None:
    encoder = TorchEncoder(packaged_model_dir(), device="cpu")
    await encoder.aclose()
    with pytest.raises(EncoderFailed, match="after shutdown"):
        await encoder.encode(["too late"])


@pytest.mark.gpu
@needs_cuda
async def test_half_precision_agrees_and_has_an_id_of_its_own(
    torch_encoder: Encoder, onnx_encoder: OnnxEncoder
) -> None:
    encoder = TorchEncoder(packaged_model_dir())
    texts = ["How far is the moon?", "ok", "Explain the offside rule. " * 12] * 11
    cosines = (await encoder.encode(texts) * await onnx_encoder.encode(texts)).sum(axis=1)
    await encoder.aclose()
    assert cosines.min() > 0.999
    assert encoder.checkpoint != torch_encoder.checkpoint
    assert np.isfinite(cosines).all()
