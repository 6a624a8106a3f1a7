"""The encoder as it is trained."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from embed.checkpoint import bundled_checkpoint_dir
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder
from federated.model import SimilarityModel, StateMismatch

TEXTS = [
    "How do I reset my password?",
    "ok",
    "Which café in Zürich opens before 7 am, and which of them has a terrace by the lake?",
    "How do I reset my password?",
    "日本語 and a word",
    "word " * 400,
]


def test_its_vectors_are_those_that_are_served(model: SimilarityModel) -> None:
    encoder = OnnxEncoder(ensure_bundled(bundled_checkpoint_dir(), lambda _: None))
    served = asyncio.run(encoder.encode(TEXTS[:4]))
    asyncio.run(encoder.aclose())
    np.testing.assert_allclose(model.encode(TEXTS[:4]), served, atol=2e-4)


def test_a_text_has_one_vector_in_any_company(model: SimilarityModel) -> None:
    together = model.encode(TEXTS)
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), model.dimension)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert model.encode([]).shape == (0, model.dimension)


def test_only_the_upper_layers_train_and_travel(model: SimilarityModel) -> None:
    assert {name.split(".")[2] for name in model.state()} == {"5"}
    torch.autograd.backward(model.vectors(["one question", "and another"])[0].sum())
    assert all(p.grad is not None and p.grad.any() for p in model.parameters()[-2:])
    assert len(model.parameters()) == len(model.state())
    for parameter in model.parameters():
        parameter.grad = None


def test_a_state_is_a_copy_and_comes_back_whole(model: SimilarityModel) -> None:
    before, vectors = model.state(), model.encode(TEXTS[:2])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
    assert np.abs(model.encode(TEXTS[:2]) - vectors).max() > 1e-3
    model.load_state(before)
    np.testing.assert_array_equal(model.encode(TEXTS[:2]), vectors)


def test_a_state_of_another_model_is_refused_and_changes_nothing(model: SimilarityModel) -> None:
    state = model.state()
    name = next(iter(state))
    for other in ({}, {**state, "x": state[name]}, {**state, name: state[name][:1]}):
        with pytest.raises(StateMismatch):
            model.load_state(other)
    np.testing.assert_array_equal(model.state()[name], state[name])


def test_training_goes_on_from_what_was_trained_before(model: SimilarityModel) -> None:
    trained = {name: values + np.float32(0.01) for name, values in model.state().items()}
    lower = SimilarityModel(2).state()
    deeper = {name: v * np.float32(0.9) for name, v in lower.items() if ".4." in name}
    again = SimilarityModel(1, start=trained | deeper)
    for name, values in again.state().items():
        np.testing.assert_array_equal(values, trained[name])
    with model.at(trained):
        shallow = model.encode(TEXTS[:1])
    assert np.abs(again.encode(TEXTS[:1]) - shallow).max() > 1e-3  # the frozen layer counts too
    with pytest.raises(StateMismatch, match="no\\.such"):
        SimilarityModel(1, start={"no.such": np.zeros(1, np.float32)})


@pytest.mark.parametrize("layers", [0, 7])
def test_there_are_six_layers(layers: int) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 6"):
        SimilarityModel(layers)


def test_few_texts_are_kept_at_a_time(model: SimilarityModel) -> None:
    small = SimilarityModel(1, kept_texts=2)
    for _ in range(2):
        np.testing.assert_allclose(small.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
    assert len(small._kept) <= 2
    small.first_vectors(TEXTS)
    assert len(small._kept) <= 2
    assert small.encode([]).shape == (0, small.dimension)
