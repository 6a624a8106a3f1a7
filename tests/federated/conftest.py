"""One trained model for all tests: loading torch and MiniLM takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from federated.aggregation import FloatArray
from federated.model import SimilarityModel


@pytest.fixture(scope="session")
def loaded() -> tuple[SimilarityModel, dict[str, FloatArray]]:
    model = SimilarityModel(1)
    return model, model.state()


@pytest.fixture
def model(loaded: tuple[SimilarityModel, dict[str, FloatArray]]) -> Iterator[SimilarityModel]:
    """The packaged model, its last layer trainable; whatever a test does to it is undone."""
    shared, state = loaded
    yield shared
    shared.load_state(state)
