"""How many tokens a text takes at most, without a tokenizer: the small model's is not at hand."""

from __future__ import annotations

import string

_LETTERS = (string.ascii_letters + " ").encode()
_LETTERS_A_TOKEN = 3  # English takes 4 to 5 with BPE and SentencePiece, German and names 3


def estimate(text: str) -> int:
    """Return an upper estimate of the tokens of a text, at least 1.

    Digits and signs count one each, which is what Llama, Gemma and SmolLM split numbers into, and
    so does every byte beyond ASCII: a tokenizer that lacks a character falls back to its bytes.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    others = len(encoded.translate(None, _LETTERS))
    return 1 + others + (len(encoded) - others) // _LETTERS_A_TOKEN
