"""What every encoder promises, asked of each of them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from embed.encoder import Encoder
from embed.errors import EncoderFailed
from embed.onnx_encoder import OnnxEncoder

TEXTS = [
    "How do I change my password?",
    "ok",
    "Which planet is the largest in the solar system?",
    "Write a haiku about the sea, in the style of an old fisherman who has seen too many storms.",
    "HOW DO I CHANGE MY PASSWORD?",
    "Explain the offside rule. " * 12,
]
LONGER_THAN_THE_WINDOW = "and then " * 600


async def test_rows_are_float32_unit_vectors(encoder: Encoder) -> None:
    vectors = await encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    assert (await encoder.encode([])).shape == (0, encoder.dimension)


async def test_a_text_gets_the_same_vector_alone_and_in_company(encoder: Encoder) -> None:
    together = await encoder.encode(TEXTS)
    alone = np.concatenate([await encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


async def test_the_order_of_the_texts_is_the_order_of_the_rows(encoder: Encoder) -> None:
    forward, backward = await encoder.encode(TEXTS), await encoder.encode(TEXTS[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-5)


async def test_batches_sent_at_once_do_not_mix(encoder: Encoder) -> None:
    batches = await asyncio.gather(*(encoder.encode([text]) for text in TEXTS))
    np.testing.assert_allclose(np.concatenate(batches), await encoder.encode(TEXTS), atol=1e-5)


async def test_a_paraphrase_is_nearer_than_another_question(encoder: Encoder) -> None:
    asked, paraphrase, other = await encoder.encode(
        [
            "How can I change my password?",
            "What is the way to change my password?",
            "How tall is a giraffe?",
        ]
    )
    assert asked @ paraphrase > 0.85
    assert asked @ other < 0.3


async def test_all_backends_agree_with_the_exact_weights(
    encoder: Encoder, onnx_encoder: OnnxEncoder, int8_encoder: OnnxEncoder
) -> None:
    cosines = (await encoder.encode(TEXTS) * await onnx_encoder.encode(TEXTS)).sum(axis=1)
    assert cosines.min() >= (0.97 if encoder is int8_encoder else 0.9999)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        pytest.param("What is the capital of France?", True, id="an ordinary question"),
        pytest.param("first line\nsecond line\n" * 8, True, id="several lines"),
        pytest.param("Où est la café-crème à Zürich ?", True, id="Latin accents"),
        pytest.param(LONGER_THAN_THE_WINDOW, False, id="longer than the window"),
        pytest.param("", False, id="nothing"),
        pytest.param(" \n\t ", False, id="blank"),
        pytest.param("lone \ud800 surrogate", False, id="not encodable"),
    ],
)
def test_fits(encoder: Encoder, text: str, fits: bool) -> None:
    assert encoder.fits(text) is fits


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXTS[0], id="a short text"),
        pytest.param(LONGER_THAN_THE_WINDOW, id="a long text"),
        pytest.param("lone \ud800 surrogate", id="not encodable"),
    ],
)
async def test_the_first_window_can_be_encoded(encoder: Encoder, text: str) -> None:
    window = encoder.first_window(text)
    assert window is not None
    assert text.startswith(window[:4])
    assert encoder.fits(window)
    assert (await encoder.encode([window])).shape == (1, encoder.dimension)


async def test_a_blank_text_has_no_first_window(encoder: Encoder) -> None:
    assert encoder.first_window("") is None
    assert encoder.first_window(" \n\t ") is None


async def test_a_text_longer_than_the_window_is_refused_not_cut(encoder: Encoder) -> None:
    with pytest.raises(EncoderFailed):
        await encoder.encode(["short", LONGER_THAN_THE_WINDOW])


async def test_an_encoder_works_on_after_a_failure(encoder: Encoder) -> None:
    with pytest.raises(EncoderFailed):
        await encoder.encode([LONGER_THAN_THE_WINDOW])
    assert (await encoder.encode(["short"])).shape == (1, encoder.dimension)


async def test_an_id_names_one_kind_of_vector(
    onnx_encoder: OnnxEncoder, int8_encoder: OnnxEncoder, torch_encoder: Encoder
) -> None:
    ids = {onnx_encoder.checkpoint, int8_encoder.checkpoint, torch_encoder.checkpoint}
    assert len(ids) == 3
