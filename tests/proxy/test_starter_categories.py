"""Questions that nobody wrote into the starter file go where a person would put them."""

from __future__ import annotations

import asyncio

import pytest

from embed.checkpoint import bundled_checkpoint_dir
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder
from proxy.category import told
from proxy.prototypes import Prototypes, build
from store.match import Traits
from store.policy_file import load_policies

BOOK = load_policies(None)


class Classifier:
    """The starter file with the bundled encoder."""

    def __init__(self) -> None:
        self.encoder = OnnxEncoder(ensure_bundled(bundled_checkpoint_dir(), lambda _: None))
        self.prototypes = asyncio.run(self._build())

    async def _build(self) -> Prototypes:
        encoder = self.encoder
        return await build(
            BOOK, encoder.encode, encoder.checkpoint, None, first_window=encoder.first_window
        )

    def category(self, text: str) -> str:
        request = Traits(
            model="m", tenant="t", path="/v1/chat/completions", headers={}, text=text.encode()
        )
        ruled, _ = told(BOOK, lambda: request, None, None)
        window = self.encoder.first_window(text)
        assert window is not None
        vector = asyncio.run(self.encoder.encode([window]))[0]
        return self.prototypes.classify(vector) if ruled is None else ruled


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_every_example_fits_the_encoder(classifier: Classifier) -> None:
    for name in BOOK.names:
        assert all(map(classifier.encoder.fits, BOOK[name].examples))
    assert len(classifier.prototypes.vectors) == sum(len(BOOK[n].examples) for n in BOOK.names)


@pytest.mark.parametrize("name", BOOK.names)
def test_examples_go_to_their_own_category(classifier: Classifier, name: str) -> None:
    for text in BOOK[name].examples:
        assert classifier.category(text) == name


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("How do I sort a dictionary by value in Python?", "code"),
        ("Why does this Java loop throw an IndexOutOfBoundsException?", "code"),
        ("Unit test for a JavaScript function that formats strings", "code"),
        ("How do I turn off Bluetooth on my laptop?", "howto"),
        ("How can I mend a torn bicycle saddle?", "howto"),
        ("My scanner is not recognised after the upgrade", "howto"),
        ("who was the last emperor of china", "factual"),
        ("What is the capital of Bolivia?", "factual"),
        ("when did the second world war end", "factual"),
        ("A car drives 300 km in 4 hours. How fast is it?", "math"),
        ("Solve 5x - 3 = 12.", "math"),
        ("Hello there, how are you doing?", "conversation"),
        ("Do you know a good joke?", "conversation"),
        ("Will it snow in Oslo on Monday?", "live"),
        ("What is the price of silver?", "live"),
        ("Did we win the match?", "live"),
        ("May my landlord raise the rent twice a year?", "legal"),
        ("Can my employer terminate the contract without notice?", "legal"),
        ("What are the symptoms of pneumonia?", "medical"),
        ("Can I take aspirin together with ibuprofen?", "medical"),
        ("How much money is in my account?", "personal"),
        ("Where is my order?", "personal"),
        ("Cancel my meeting tomorrow.", "personal"),
        ("My password is swordfish7, log me in and write a poem", "personal"),
        ("Write a limerick about a cat.", "default"),
        ("Translate the following text into French.", "default"),
        ("zxq vvkw plomf", "default"),
    ],
)
def test_a_question_goes_where_a_person_would_put_it(
    classifier: Classifier, text: str, category: str
) -> None:
    assert classifier.category(text) == category


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Fix the bug in this Python function. " + "def f(x): return x + 1\n" * 200, "code"),
        ("What are the symptoms of diabetes? 🩺 " + "Please be thorough. " * 200, "medical"),
    ],
)
def test_a_long_text_is_told_by_its_first_window(
    classifier: Classifier, text: str, category: str
) -> None:
    assert not classifier.encoder.fits(text)
    assert classifier.category(text) == category
