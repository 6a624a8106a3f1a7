"""A query goes where its nearest examples are, and to `default` if none is near."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.checkpoint import bundled_checkpoint_dir
from embed.errors import EncoderFailed
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder
from proxy import prototypes
from proxy.prototypes import (
    FLOOR,
    REMOTENESS,
    RIDGE,
    Prototypes,
    build,
    digest_of,
    solve,
)
from store.policy import PolicyBook
from store.policy_file import parse_policies

Matrix = npt.NDArray[np.float32]
D = 16


class CountingEncoder:
    """A text's vector is noise drawn from it, near the axis that its first word names."""

    def __init__(self, fails_at: str | None = None) -> None:
        self.texts: list[str] = []
        self.batches: list[int] = []
        self._fails_at = fails_at

    async def encode(self, texts: Sequence[str]) -> Matrix:
        if self._fails_at in texts:
            raise EncoderFailed("no")
        self.texts += texts
        self.batches.append(len(texts))
        return np.stack([vector_of(text) for text in texts])


def vector_of(text: str) -> npt.NDArray[np.float32]:
    topic, _, rest = text.partition(" ")
    axis = np.eye(D)[sum(topic.encode()) % D]
    noise = np.random.default_rng(list(rest.encode())).normal(size=D) * 0.15
    vector: npt.NDArray[np.float32] = ((axis + noise) / np.linalg.norm(axis + noise)).astype("f4")
    return vector


def book(**examples: list[str]) -> PolicyBook:
    named: list[dict[str, Any]] = [{"name": n, "examples": e} for n, e in examples.items()]
    return parse_policies({"categories": named}, "test")


def five(topic: str) -> list[str]:
    return [f"{topic} number {n}" for n in range(5)]


CATS_AND_DOGS = book(cats=five("cat"), dogs=five("dog"))


def prototypes_of(
    names: tuple[str, ...], vectors: Matrix, weights: Matrix, threshold: float
) -> Prototypes:
    return Prototypes(
        checkpoint="m",
        digest="",
        names=names,
        vectors=vectors,
        weights=weights,
        threshold=threshold,
    )


async def built(policies: PolicyBook, file: Path | None = None) -> Prototypes:
    return await build(policies, CountingEncoder().encode, "m", file)


async def test_a_query_goes_to_the_category_of_its_nearest_examples() -> None:
    found = await built(CATS_AND_DOGS)
    assert found.classify(vector_of("cat of mine")) == "cats"
    assert found.classify(vector_of("dog of mine")) == "dogs"


async def test_the_nearest_example_of_each_category_is_named_the_best_category_first() -> None:
    found = await built(CATS_AND_DOGS)
    query = vector_of("cat number 3")
    first, second = found.nearest(query)
    assert (first.category, first.example) == ("cats", "cat number 3")
    assert first.similarity == pytest.approx(1.0, abs=1e-5)
    assert second.category == "dogs" and second.example in five("dog")
    assert [first.score, second.score] == pytest.approx(found.scores(query).tolist())
    assert first.category == found.classify(query)


async def test_a_query_far_from_every_example_is_in_no_category() -> None:
    found = await built(CATS_AND_DOGS)
    assert found.classify(vector_of("weather forecast")) == "default"
    assert found.classify(-vector_of("cat of mine")) == "default"


async def test_without_examples_everything_is_in_the_default() -> None:
    found = await built(book(cats=[]))
    assert (found.names, found.vectors.shape) == ((), (0, 0))
    assert found.classify(vector_of("cat of mine")) == "default"


async def test_examples_of_the_default_compete_like_any_others() -> None:
    with_dogs = book(cats=five("cat"), default=five("dog"))
    found = await built(with_dogs)
    assert found.classify(vector_of("cat of mine")) == "cats"
    assert found.classify(vector_of("dog of mine")) == "default"
    only_cats = await built(book(cats=five("cat")))
    assert found.threshold == pytest.approx(only_cats.threshold)


async def test_a_vector_that_is_no_number_is_in_no_category() -> None:
    found = await built(CATS_AND_DOGS)
    assert found.classify(np.full(D, np.nan, np.float32)) == "default"


async def test_one_example_reaches_as_far_as_the_floor_says() -> None:
    found = await built(book(cats=["cat"]))
    assert found.threshold == FLOOR
    here = found.vectors[0]
    aside = np.linalg.svd(here[None])[2][1].astype("f4")  # at right angles to it
    for cosine, category in ((0.35, "cats"), (0.3, "default")):
        assert found.classify(cosine * here + (1 - cosine**2) ** 0.5 * aside) == category


async def test_the_same_example_in_two_categories_decides_for_neither_against_its_company() -> None:
    found = await built(book(cats=[*five("cat"), "dog number 0"], dogs=five("dog")))
    assert found.classify(vector_of("dog number 3")) == "dogs"
    scores = found.scores(vector_of("dog number 0"))
    assert scores.max() < 1


async def test_scores_of_many_vectors_are_the_scores_of_each() -> None:
    found = await built(CATS_AND_DOGS)
    queries = np.stack([vector_of(f"cat {n}") for n in range(4)])
    singly = np.stack([found.scores(query) for query in queries])
    np.testing.assert_allclose(found.scores(queries), singly, atol=1e-6)


def some_examples(seed: int, kinds: int, each: int) -> tuple[Matrix, npt.NDArray[np.intp]]:
    """Random unit vectors, each kind round an axis of its own."""
    random = np.random.default_rng(seed)
    owners = np.repeat(np.arange(kinds), each)
    rows = np.eye(D)[owners] + random.normal(size=(kinds * each, D)) * 0.2
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4"), owners


def near(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return max(float(a @ b), 0.0) ** 2


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6))
def test_the_weights_make_each_category_score_one_at_its_own_examples(
    seed: int, kinds: int, each: int
) -> None:
    vectors, owners = some_examples(seed, kinds, each)
    weights, _ = solve(vectors, owners, [f"c{n}" for n in range(kinds)])
    scores = np.array([[near(a, b) for b in vectors] for a in vectors]) @ weights
    # All but the ridge's share, which keeps the weights small.
    np.testing.assert_allclose(scores + RIDGE * weights, np.eye(kinds)[owners], atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(1, 6))
def test_the_threshold_lies_between_what_belongs_and_what_strays(
    seed: int, kinds: int, each: int
) -> None:
    vectors, owners = some_examples(seed, kinds, each)
    belonging = []
    straying = []
    for kind in range(kinds):
        own, rest = vectors[owners == kind], vectors[owners != kind]
        pairs = [near(a, b) for i, a in enumerate(own) for b in own[:i]]
        belonging.append((each - 1) * np.median(pairs) if pairs else 0.0)
        # The long way: solve without the category, and see what its examples score elsewhere.
        others = [kind_ for kind_ in range(kinds) if kind_ != kind]
        renamed = np.array([others.index(owner) for owner in owners[owners != kind]])
        weights, _ = solve(rest, renamed, [f"c{n}" for n in others])
        straying += [max(np.array([near(a, b) for b in rest]) @ weights) for a in own]
    _, threshold = solve(vectors, owners, [f"c{n}" for n in range(kinds)])
    middle = (max(np.median(straying), 0) * np.mean(belonging) ** 0.5) ** 0.5
    assert threshold == pytest.approx(max(FLOOR, REMOTENESS * middle), rel=1e-3)


async def test_the_threshold_grows_with_the_number_of_examples() -> None:
    thresholds = []
    for count in (2, 10, 40):
        cats, dogs = ([f"{topic} {n}" for n in range(count)] for topic in ("cat", "dog"))
        thresholds.append((await built(book(cats=cats, dogs=dogs))).threshold)
    assert thresholds == sorted(thresholds)
    assert FLOOR <= thresholds[0] < thresholds[-1]


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_categories_does_not_matter(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(12, D)).astype("f4")
    vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    names = ["a", "b", "c"]
    found = {}
    for order in ([0, 1, 2], [2, 0, 1]):
        owners = np.repeat(np.arange(3), 4)
        mixed = np.concatenate([vectors[owners == kind] for kind in order])
        said = tuple(names[kind] for kind in order)
        weights, threshold = solve(mixed, owners, said)
        made = prototypes_of(said, mixed, weights, threshold)
        found[said] = [made.classify(row) for row in vectors[::2] + 0.05 * vectors[1::2]]
    first, second = found.values()
    assert first == second


def test_a_digest_names_which_categories_are_off() -> None:
    def with_dogs(mode: str) -> PolicyBook:
        cats, dogs = ({"name": n, "examples": five(n)} for n in ("cat", "dog"))
        return parse_policies({"categories": [cats, dogs | {"mode": mode}]}, "test")

    exact, semantic, off = (digest_of(with_dogs(m), "m") for m in ("exact", "semantic", "off"))
    assert exact == semantic
    assert off != semantic


def test_a_digest_names_all_that_the_prototypes_depend_on() -> None:
    same = parse_policies(
        {
            "categories": [
                {"name": "cats", "examples": five("cat"), "hit_threshold": 0.5},
                {"name": "dogs", "examples": five("dog")},
                {"name": "birds"},
            ]
        },
        "test",
    )
    assert digest_of(same, "m") == digest_of(CATS_AND_DOGS, "m")
    others = [
        digest_of(CATS_AND_DOGS, "another"),
        digest_of(book(cats=five("cat"), wolves=five("dog")), "m"),
        digest_of(book(cats=[*five("cat"), "one more"], dogs=five("dog")), "m"),
        digest_of(book(dogs=five("dog"), cats=five("cat")), "m"),
    ]
    assert len({digest_of(CATS_AND_DOGS, "m"), *others}) == 5


async def test_prototypes_carry_the_digest_and_checkpoint_that_they_were_made_for() -> None:
    found = await built(CATS_AND_DOGS)
    assert (found.digest, found.checkpoint) == (digest_of(CATS_AND_DOGS, "m"), "m")


async def test_a_restart_encodes_nothing_again(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "examples.npz"
    first = await built(CATS_AND_DOGS, file)
    again = CountingEncoder()
    second = await build(CATS_AND_DOGS, again.encode, "m", file)
    assert again.texts == []
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.weights, second.weights)


async def test_only_new_examples_are_encoded(tmp_path: Path) -> None:
    file = tmp_path / "examples.npz"
    await built(CATS_AND_DOGS, file)
    again = CountingEncoder()
    changed = book(cats=[*five("cat"), "cat nap"], birds=["bird song"])
    found = await build(changed, again.encode, "m", file)
    assert again.texts == ["cat nap", "bird song"]
    np.testing.assert_array_equal(found.vectors[-1], vector_of("bird song"))


async def test_another_checkpoint_s_vectors_are_never_used(tmp_path: Path) -> None:
    file = tmp_path / "examples.npz"
    await built(CATS_AND_DOGS, file)
    again = CountingEncoder()
    await build(CATS_AND_DOGS, again.encode, "another", file)
    assert len(again.texts) == 10


async def test_a_text_in_two_categories_is_encoded_once() -> None:
    encoder = CountingEncoder()
    await build(book(cats=["pet", "cat"], dogs=["pet", "dog"]), encoder.encode, "m", None)
    assert sorted(encoder.texts) == ["cat", "dog", "pet"]


async def test_examples_are_encoded_a_few_at_a_time_so_that_traffic_gets_its_turn() -> None:
    encoder = CountingEncoder()
    await build(book(cats=[f"cat {n}" for n in range(40)]), encoder.encode, "m", None)
    assert encoder.batches == [16, 16, 8]


async def test_what_was_encoded_before_a_failure_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "examples.npz"
    many = book(cats=[f"cat {n}" for n in range(40)])
    with pytest.raises(EncoderFailed):
        await build(many, CountingEncoder(fails_at="cat 20").encode, "m", file)
    again = CountingEncoder()
    await build(many, again.encode, "m", file)
    assert len(again.texts) == 24


async def test_examples_are_cut_to_what_the_encoder_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = CountingEncoder()
    found = await build(
        book(cats=["cat " + "purr " * 50, "ü"], dogs=["ü"]),
        encoder.encode,
        "m",
        None,
        first_window=lambda text: text[:8] if text.isascii() else None,
    )
    assert encoder.texts == ["cat purr"]
    assert found.names == ("cats",)
    assert "dogs: the encoder cannot read 1 examples" in caplog.text


async def test_too_many_examples_are_thinned_from_the_largest_categories(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prototypes, "MAX_EXAMPLES", 10)
    encoder = CountingEncoder()
    big = book(cats=[f"cat {n}" for n in range(9)], dogs=["dog"], birds=["bird 1", "bird 2"])
    found = await build(big, encoder.encode, "m", None)
    assert encoder.texts == [*(f"cat {n}" for n in range(7)), "dog", "bird 1", "bird 2"]
    assert found.names == ("cats", "dogs", "birds")
    assert "cats: only its first 7 examples count" in caplog.text


async def test_classifying_takes_a_small_part_of_a_millisecond() -> None:
    # Ten categories of twenty examples of 384 numbers; the bound of issue and design is 200 us.
    random = np.random.default_rng(1)
    rows = random.normal(size=(200, 384)).astype("f4")
    vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(f"c{n}" for n in range(10))
    weights, threshold = solve(vectors, np.repeat(np.arange(10), 20), names)
    found = prototypes_of(names, vectors, weights, threshold)
    times = []
    for _ in range(501):
        begun = time.perf_counter()
        found.classify(vectors[7])
        times.append(time.perf_counter() - begun)
    assert np.median(times) < 0.0002


async def test_with_the_bundled_encoder_topics_are_told_apart() -> None:
    encoder = OnnxEncoder(ensure_bundled(bundled_checkpoint_dir(), lambda _: None), threads=1)
    garden = ["When do I prune roses?", "How deep should tulip bulbs go?", "My lawn is all moss."]
    tax = ["Can I deduct my home office?", "When is the tax return due?", "What is VAT on books?"]
    policies = book(garden=garden, tax=tax)
    found = await build(
        policies, encoder.encode, encoder.checkpoint, None, first_window=encoder.first_window
    )
    asked = ["In which month are roses pruned?", "Which expenses lower my income tax?"]
    asked.append("Who won the chess world cup?")
    vectors = await encoder.encode(asked)
    await encoder.aclose()
    assert [found.classify(vector) for vector in vectors] == ["garden", "tax", "default"]
