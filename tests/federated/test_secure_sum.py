"""The sum is the plain sum, and a single upload says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated.secure_sum import (
    LIMIT,
    Attempt,
    Refused,
    Secrets,
    Words,
    masked,
    opened,
    to_floats,
    to_words,
)


def secrets_of(members: tuple[str, ...], seed: int = 0) -> dict[str, Secrets]:
    random = np.random.default_rng(seed)
    return {member: Secrets.new(random.bytes(64)) for member in members}


def uploads_of(
    values: dict[str, Words], secrets: dict[str, Secrets], attempt: Attempt
) -> dict[str, Words]:
    publics = {member: secrets[member].public for member in secrets}
    return {m: masked(values[m], m, secrets[m], publics, attempt) for m in attempt.members}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6),
    st.integers(1, 40),
    st.integers(0, 2**32),
    st.floats(1e-6, LIMIT / 8, allow_nan=False),
)
def test_the_sum_is_the_plain_sum(members: int, size: int, seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    names = tuple(sorted(f"{n}" for n in range(members)))
    plain = {name: random.uniform(-scale, scale, size) for name in names}
    secrets, attempt = secrets_of(names, seed), Attempt(1, 2, 1, names)
    uploads = uploads_of({n: to_words(v) for n, v in plain.items()}, secrets, attempt)
    seeds = {name: secrets[name].seed(attempt) for name in names}
    total = to_floats(opened(uploads, seeds, attempt))
    np.testing.assert_allclose(total, sum(plain.values()), atol=members * 2**-33 + scale * 1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_one_upload_looks_uniform_whatever_it_hides(seed: int) -> None:
    names = ("a", "b", "c")
    attempt = Attempt(1, 1, 1, names)
    hidden = {name: np.zeros(4096, np.uint64) for name in names}
    upload = uploads_of(hidden, secrets_of(names, seed), attempt)["b"]
    ones = np.unpackbits(upload.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.005  # 5 standard deviations of 262,144 fair bits
    counts = np.bincount(upload.view(np.uint8), minlength=256)
    assert ((counts - 128) ** 2 / 128).sum() < 400  # chi-square, 255 degrees: mean 255, sd 23


def test_the_others_masks_alone_do_not_open_an_upload() -> None:
    names = ("a", "b", "c")
    secrets, attempt = secrets_of(names), Attempt(1, 1, 1, names)
    values = {name: to_words(np.full(64, 1.5)) for name in names}
    uploads = uploads_of(values, secrets, attempt)
    seeds = {name: secrets[name].seed(attempt) for name in names}
    wrong = opened(uploads, seeds | {"b": bytes(32)}, attempt)
    assert float(np.abs(to_floats(wrong)).min()) > 10


def test_another_attempt_has_other_masks_also_for_the_same_set() -> None:
    names = ("a", "b")
    secrets, values = secrets_of(names), {name: np.zeros(64, np.uint64) for name in names}
    first = uploads_of(values, secrets, Attempt(1, 1, 1, names))
    again = uploads_of(values, secrets, Attempt(1, 1, 2, names))
    assert not (first["a"] == again["a"]).any()
    assert not ((first["a"] - again["a"]) == (first["b"] - again["b"])).any()


def test_survivors_sum_among_themselves_after_a_dropout() -> None:
    names, left = ("a", "b", "c", "d"), ("a", "c", "d")
    secrets = secrets_of(names)
    values = {name: to_words(np.arange(8.0) * n) for n, name in enumerate(names)}
    second = Attempt(1, 1, 2, left)
    uploads = uploads_of(values, secrets, second)
    total = opened(uploads, {m: secrets[m].seed(second) for m in left}, second)
    np.testing.assert_allclose(to_floats(total), np.arange(8) * 5.0)


def test_the_seed_of_one_attempt_opens_no_other() -> None:
    names = ("a", "b")
    secrets = secrets_of(names)
    first, second = Attempt(1, 1, 1, names), Attempt(1, 1, 2, names)
    values = {name: np.zeros(32, np.uint64) for name in names}
    uploads = uploads_of(values, secrets, first)
    stolen = {name: secrets[name].seed(second) for name in names}
    assert opened(uploads, stolen, first).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, LIMIT * 1.01, -LIMIT * 1.01])
def test_what_would_break_the_sum_is_refused(value: float) -> None:
    with pytest.raises(Refused):
        to_words(np.array([0.0, value], np.float64))


def test_a_stranger_and_a_missing_key_are_refused() -> None:
    names = ("a", "b")
    secrets, attempt = secrets_of(names), Attempt(1, 1, 1, names)
    words = np.zeros(4, np.uint64)
    with pytest.raises(Refused, match="takes no part"):
        masked(words, "z", secrets["a"], {}, attempt)
    with pytest.raises(Refused, match="key of b"):
        masked(words, "a", secrets["a"], {}, attempt)
    with pytest.raises(Refused, match="distinct"):
        Attempt(1, 1, 1, ("a", "a"))


def test_the_sum_is_not_opened_before_everybody_is_there() -> None:
    names = ("a", "b")
    secrets, attempt = secrets_of(names), Attempt(1, 1, 1, names)
    uploads = uploads_of({n: np.zeros(4, np.uint64) for n in names}, secrets, attempt)
    with pytest.raises(Refused, match="upload of b"):
        opened({"a": uploads["a"]}, {}, attempt)
    with pytest.raises(Refused, match="seed of a"):
        opened(uploads, {}, attempt)
    with pytest.raises(Refused, match="one length"):
        opened(uploads | {"b": np.zeros(5, np.uint64)}, {"a": bytes(32), "b": bytes(32)}, attempt)
