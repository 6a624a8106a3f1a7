"""A text that fits is seen whole: the law behind it, and the texts that break it."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from embed.checkpoint import TOKENIZER
from embed.errors import CheckpointInvalid
from embed.export import packaged_model_dir
from embed.window import Window, group_by_length, pad

pytestmark = pytest.mark.serial

FILE = packaged_model_dir() / TOKENIZER
MAX_TOKENS = 256
WINDOW = Window(FILE, MAX_TOKENS)
VOCABULARY = Tokenizer.from_file(str(FILE))
MEGABYTE = 1024 * 1024

PLAIN = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
KNOWN = st.sampled_from("abcxyzABCXYZ 019.,?!#[]éèñüçøßàİıΣσςабйёЁ中文日本かがきゲ한국→≤€°½²\n\t\r")
HOSTILE = st.sampled_from(
    "\x00\x07\x0b\x1c\x7f\x85\u00a0\u00ad\u0301\u0323\u0489\u0600\u0941\u0e34\u1734\u200b\u200d"
    "\u2028\u20ac\u3000\u3099\ufe0f\ufeff\ufffd\ue000\U0001f642\U0001fae0\U000e0041\U000e0100ﬁẞǅ"
)


def visible(text: str) -> str:
    """What may tell two texts apart: all but case, Latin accents and white space."""
    return "".join(
        char.lower()
        for char in unicodedata.normalize("NFD", text)
        if not char.isspace() and not "\u0300" <= char <= "\u036f"
    )


def seen(text: str) -> str:
    """What the model is told of `text`, put together again from its tokens."""
    tokens = [VOCABULARY.id_to_token(number) or "" for number in WINDOW.ids(text)]
    return "".join(token.removeprefix("##") for token in tokens[1:-1])


@given(st.text(PLAIN | KNOWN | HOSTILE, max_size=120) | st.text(max_size=40))
def test_a_text_that_fits_loses_only_case_accents_and_space(text: str) -> None:
    if WINDOW.fits(text):
        assert seen(text) == visible(text) != ""


@given(st.text(PLAIN, max_size=300) | st.text(PLAIN | st.just(" "), max_size=2000))
def test_a_text_that_fits_is_never_longer_than_the_window(text: str) -> None:
    if WINDOW.fits(text):
        assert len(WINDOW.ids(text)) <= MAX_TOKENS


@given(st.text(PLAIN, min_size=1, max_size=100))
def test_short_plain_english_always_fits(text: str) -> None:
    assert WINDOW.fits(text) is bool(text.strip())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("What does 🙂 mean?", "What does 🙃 mean?", id="emoji are one [UNK]"),
        pytest.param("Solve ∀x∃y", "Solve ∃x∀y", id="unknown symbols in a word"),
        pytest.param("read " + "a" * 101, "read " + "b" * 101, id="words of over 100 letters"),
        pytest.param("कु", "कू", id="vowel signs of Hindi"),
        pytest.param("かき", "かぎ", id="voicing marks of Japanese"),
        pytest.param("go \ue000", "go \ue001", id="private-use characters"),
        pytest.param("go", "go" + "\U000e0041\U000e0042", id="invisible tags"),
        pytest.param("run \x01", "run \x02", id="control characters"),
        pytest.param("\ufffd", "", id="nothing but replacement characters"),
        pytest.param("\n", "\u3000", id="nothing but space"),
    ],
)
def test_of_two_texts_with_equal_tokens_one_at_most_fits(one: str, other: str) -> None:
    assert WINDOW.ids(one) == WINDOW.ids(other)
    assert not (WINDOW.fits(one) and WINDOW.fits(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("PARIS", "paris", id="case"),
        pytest.param("café", "cafe", id="Latin accents"),
        pytest.param("two  words\n", "two words", id="white space"),
    ],
)
def test_texts_that_count_as_equal(one: str, other: str) -> None:
    assert WINDOW.fits(one)
    assert WINDOW.ids(one) == WINDOW.ids(other)


@pytest.mark.parametrize("mark", ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
def test_a_control_token_written_out_is_ordinary_text(mark: str) -> None:
    text = f"what is {mark} for"
    assert WINDOW.fits(text)
    assert VOCABULARY.token_to_id(mark) not in WINDOW.ids(text)[1:-1]


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        pytest.param(MAX_TOKENS - 2, True, id="exactly full"),
        pytest.param(MAX_TOKENS - 1, False, id="one word too many"),
    ],
)
def test_the_edge_of_the_window(words: int, fits: bool) -> None:
    assert WINDOW.fits("time " * words) is fits


def test_the_file_s_own_limit_of_128_tokens_is_lifted() -> None:
    assert len(WINDOW.ids("time " * 200)) == 202


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * (16 * MEGABYTE), id="one word"),
        pytest.param("word " * (3 * MEGABYTE), id="many words"),
        pytest.param(" " * (16 * MEGABYTE) + "x", id="mostly space"),
        pytest.param("中" * (5 * MEGABYTE), id="CJK"),
        pytest.param("?" * (16 * MEGABYTE), id="punctuation"),
    ],
)
def test_a_text_of_megabytes_is_refused_without_reading_it(text: str) -> None:
    begun = time.thread_time()
    assert not WINDOW.fits(text)
    assert time.thread_time() - begun < 0.1


@given(
    st.text(PLAIN | KNOWN | HOSTILE, max_size=3000)
    | st.text(max_size=3000)
    | st.lists(st.text(PLAIN | HOSTILE, max_size=120), max_size=300).map(" ".join)
)
def test_the_first_window_of_a_text_always_fits(text: str) -> None:
    window = WINDOW.first_window(text)
    assert window is None or WINDOW.fits(window)


@given(st.text(PLAIN, min_size=1, max_size=100) | st.text(KNOWN, max_size=100))
def test_the_first_window_of_a_text_that_fits_is_all_of_it(text: str) -> None:
    if WINDOW.fits(text):
        assert WINDOW.first_window(text) == text.strip()


def test_the_first_window_is_as_many_whole_words_as_the_model_reads() -> None:
    window = WINDOW.first_window("time " * 200 + "unbelievability " * 200)
    assert window is not None
    words = window.split()
    assert words == ["time"] * 200 + ["unbelievability"] * (len(words) - 200)
    # "unbelievability" is several tokens: the last one that would be cut is left out whole.
    assert MAX_TOKENS - 6 <= len(WINDOW.ids(window)) <= MAX_TOKENS
    assert not WINDOW.fits(window + " unbelievability")


@pytest.mark.parametrize(
    ("text", "window"),
    [
        pytest.param("say 🙂 hello 🙃🙃 there", "say hello there", id="emoji"),
        pytest.param("read " + "a" * 101 + " aloud", "read aloud", id="a word of over 100 letters"),
        pytest.param("go \ue000 on\ud800", "go on?", id="private use and lone surrogates"),
        pytest.param("ask\u200bed", "ask ed", id="invisible characters"),
        pytest.param(" " * 100_000 + "late", "late", id="much space before it"),
        pytest.param("x^2 ∀x∃y y^2", "x^2 y^2", id="unknown symbols"),
        pytest.param("中" * 5000, "中" * (MAX_TOKENS - 2), id="a token a character"),
    ],
)
def test_what_the_model_cannot_read_is_left_out_of_the_first_window(text: str, window: str) -> None:
    found = WINDOW.first_window(text)
    assert found is not None
    assert found.split() == window.split()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(" \n" * 50_000, id="blank"),
        pytest.param("🙂" * 3000, id="emoji only"),
        pytest.param("\ue000\u200b", id="nothing visible"),
        pytest.param("a" * 5000, id="one endless word"),
    ],
)
def test_a_text_without_anything_readable_has_no_first_window(text: str) -> None:
    assert WINDOW.first_window(text) is None


@pytest.mark.parametrize("text", ["word " * (3 * MEGABYTE), "中" * (5 * MEGABYTE)])
def test_the_first_window_of_megabytes_is_found_without_reading_them(text: str) -> None:
    begun = time.thread_time()
    assert WINDOW.first_window(text) is not None
    assert time.thread_time() - begun < 0.1


def test_ids_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="has 302 tokens, the window is 256"):
        WINDOW.ids("time " * 300)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("broken") / TOKENIZER
    file.write_text("{}")
    with pytest.raises(CheckpointInvalid, match="tokenizer.json is not a tokenizer"):
        Window(file, MAX_TOKENS)


@given(
    st.lists(st.integers(1, 256), max_size=40),
    st.integers(1, 600),
    st.floats(1, 5, allow_nan=False),
)
def test_groups_split_a_batch_and_keep_their_bounds(
    lengths: list[int], max_tokens: int, slack: float
) -> None:
    groups = group_by_length(lengths, max_tokens=max_tokens, slack=slack)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        longest, shortest = max(lengths[i] for i in group), min(lengths[i] for i in group)
        assert longest <= slack * shortest
        assert len(group) == 1 or longest * len(group) <= max_tokens


@given(st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=20), min_size=1, max_size=9))
def test_padding_adds_nothing_that_the_mask_shows(rows: list[list[int]]) -> None:
    ids, mask = pad(rows)
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows)))
    for row, padded, shown in zip(rows, ids, mask, strict=True):
        assert padded[shown == 1].tolist() == row
        assert not padded[shown == 0].any()
