"""Which texts a local model sees whole, and how texts become padded batches of token ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from embed.errors import CheckpointInvalid

Tokens = npt.NDArray[np.int64]  # shape (n, longest), padded with 0

# English takes 4 to 5. The bound keeps the tokeniser to about 1 ms, which the event loop can spare.
CHARS_PER_TOKEN = 8
# More would hardly ever be read.
FIRST_CHARS_PER_TOKEN = 5
PRINTABLE_ASCII = "".join(map(chr, range(0x20, 0x7F)))


class Window:
    """A tokenizer together with the number of tokens that its model can read."""

    def __init__(self, tokenizer_file: Path, max_tokens: int) -> None:
        """Load `tokenizer.json`; raise CheckpointInvalid when it cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # the Rust side raises bare Exception
            raise CheckpointInvalid(f"{tokenizer_file} is not a tokenizer: {error}") from error
        # The file asks for cutting at 128 and padding to 128: a cut text would match any text that
        # begins like it. Written-out "[SEP]" or "[UNK]" is a user's text, never a control token.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.max_tokens = max_tokens
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._room = max_tokens - self._special
        self._max_chars = max_tokens * CHARS_PER_TOKEN
        self._first_chars = max_tokens * FIRST_CHARS_PER_TOKEN
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)
        self._vanishes = lru_cache(maxsize=4096)(self._find_vanishing)
        self._plain_chars = self._find_plain_chars()

    def fits(self, text: str) -> bool:
        """Whether the model sees all of `text`. May refuse one that would fit, never the reverse.

        Too long is not the only way to be cut. Words of unknown characters (emoji, rare scripts,
        100 letters in a row) all become the same [UNK], characters that the normaliser drops (vowel
        signs of many scripts, invisible tags) leave no trace, and texts of nothing else come out
        empty: different texts would get one vector, and so each other's answers. They do not fit.
        """
        if len(text) <= self._plain_chars and text.isascii() and text.isprintable():
            return not text.isspace() and text != ""
        if len(text) > self._max_chars or len(text.split()) > self._room:
            return False
        try:
            ids = self._tokenizer.encode(text).ids
        except TypeError:  # lone surrogates
            return False
        if not self._special < len(ids) <= self.max_tokens or self._unknown in ids:
            return False
        return not any(map(self._vanishes, set(text)))

    def first_window(self, text: str) -> str | None:
        """Return what the model can read of the beginning of `text`, as a text that fits, or None.

        Good for telling what a text is about, never for telling two texts apart: beyond the end of
        the window, and for every word that the model cannot read, nothing is left of it.
        """
        head = text[: self._first_chars]
        if head.isspace():
            head = text.lstrip()[: self._first_chars]
        head = head.encode("utf-8", "replace").decode()  # lone surrogates
        readable = [" " if self._vanishes(char) else char for char in head]
        tokens = self._tokenizer.encode("".join(readable), add_special_tokens=False)
        left = self._room
        end = 0  # of the last word that is whole within the window
        for ids, (start, stop) in _words(tokens):
            if self._unknown in ids:
                readable[start:stop] = " " * (stop - start)
                continue
            left -= len(ids)
            if left < 0:
                break
            end = stop
        window = "".join(readable[:end]).strip()
        return window if self.fits(window) else None

    def ids(self, text: str) -> list[int]:
        """Return the token ids of `text`; raise ValueError when it is longer than the window."""
        try:
            ids: list[int] = self._tokenizer.encode(text).ids
        except TypeError:
            raise ValueError("a text holds a lone surrogate") from None
        if len(ids) > self.max_tokens:
            raise ValueError(f"a text has {len(ids)} tokens, the window is {self.max_tokens}")
        return ids

    def _find_vanishing(self, char: str) -> bool:
        """Whether normalising drops a part of `char` that is neither space nor a Latin accent."""
        normalize = self._tokenizer.normalizer.normalize_str if self._tokenizer.normalizer else str
        return any(
            not part.isspace() and not "\u0300" <= part <= "\u036f" and not normalize(part).strip()
            for part in unicodedata.normalize("NFD", char)
        )

    def _find_plain_chars(self) -> int:
        """Up to how many characters of printable ASCII need no look: each is a token at most.

        A wordpiece covers a character or more, and greedy matching never fails when every
        character is known both at the start of a word and inside it.
        """
        longest_word = getattr(self._tokenizer.model, "max_input_chars_per_word", 0)
        known = all(
            self._unknown not in self._tokenizer.encode(text).ids
            for char in PRINTABLE_ASCII
            for text in (char, "a" + char)
        )
        return min(longest_word, self._room) if known else 0


def _words(tokens: Encoding) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Yield every word's token ids, and from where to where it stands in the text."""
    ids, offsets = tokens.ids, tokens.offsets  # each reading of them makes the whole list anew
    for _, group in groupby(range(len(ids)), key=tokens.word_ids.__getitem__):
        places = list(group)
        span = (offsets[places[0]][0], offsets[places[-1]][1])
        yield ids[places[0] : places[-1] + 1], span


def group_by_length(lengths: Sequence[int], *, max_tokens: int, slack: float) -> list[list[int]]:
    """Split a batch into groups of positions, texts of like length together to save padding.

    A group holds at most `max_tokens` padded tokens (a single text may exceed that), and its
    longest text is at most `slack` times its shortest.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[position]
        group = groups[-1] if groups else []
        full = length * (len(group) + 1) > max_tokens
        if not group or full or length > slack * lengths[group[0]]:
            groups.append([position])
        else:
            group.append(position)
    return groups


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tokens, Tokens]:
    """Return token ids and attention mask, both of shape (n, longest)."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
