"""What a purge by meaning takes where nobody says how near is near enough."""

from __future__ import annotations

import pytest

from proxy.admin.purge import MEANS_THE_SAME, near_enough, similar
from tests.entries import axis, entry, near
from tests.fakes_documents import MemoryDocuments
from tests.harness import policies
from tests.word_encoder import WordEncoder

BOOK = policies({"name": "default", "error_budget": 0.02}, {"name": "code", "hit_threshold": 0.97})


@pytest.mark.parametrize(
    ("threshold", "category", "least"),
    [
        pytest.param(None, "default", 0.92, id="no lower where the score decides"),
        pytest.param(None, "code", 0.97, id="higher where the category is stricter"),
        pytest.param(None, "gone", 0.92, id="of a category that is gone"),
        pytest.param(0.3, "code", 0.3, id="as it was asked for"),
    ],
)
def test_how_near_an_entry_has_to_be(threshold: float | None, category: str, least: float) -> None:
    assert near_enough(threshold, BOOK)(category) == least
    assert MEANS_THE_SAME == 0.92


async def test_each_entry_is_measured_by_its_own_category() -> None:
    documents, encoder = MemoryDocuments(), WordEncoder("w1")
    for id, category, cosine in (
        ("a", "default", 0.95),
        ("b", "default", 0.85),
        ("c", "code", 0.95),
        ("d", "code", 0.98),
    ):
        made = entry(id, category=category, vector=near(0, cosine), checkpoint="w1")
        await documents.put(made)
    found = await similar(documents, axis(0), near_enough(None, BOOK), encoder)
    assert sorted(found) == ["a", "d"]
