"""What is shown of a stored answer, and what selection reads off it: read once, used often.

All of it follows from the two texts alone. Whether a request may see them, and how much they are
worth to it, is decided with the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from sys import getsizeof
from typing import NamedTuple

from icl.answer_form import Form, form_of
from icl.suspicion import suspicious_turns
from icl.template import Tokens, tokens_of
from icl.tokens import estimate

TURN_TOKENS = 12  # that the marks of a question's and an answer's turn take
_DIGEST = 16  # bytes
_BARE = 400  # bytes besides the texts, with the place in a mapping


class Asked(NamedTuple):
    """A question as the features compare it."""

    words: Tokens
    length: int  # characters

    @classmethod
    def read(cls, question: str) -> Asked:
        """Return the question's words and length."""
        return cls(tokens_of(question), len(question))

    @property
    def said(self) -> frozenset[str]:
        """The words without repetition; made anew, since it takes more memory than the texts."""
        return frozenset(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A question and an answer as a small model would see them (scrubbed)."""

    question: str
    answer: str
    tokens: int  # an upper estimate, with the marks of both turns
    asked: Asked
    form: Form  # of the answer
    folded: bytes  # digest of the answer in lower case and with single blanks
    unfit: str | None  # why nobody may be shown it: "empty", "suspicious"

    @classmethod
    def read(cls, question: str, answer: str) -> Shown:
        """Return what there is to know of two texts; the time grows with their length."""
        unfit = None
        if not question.strip() or not answer.strip():
            unfit = "empty"
        elif suspicious_turns(question, answer) is not None:
            unfit = "suspicious"
        said = " ".join(answer.casefold().split()).encode("utf-8", "surrogatepass")
        return cls(
            question=question,
            answer=answer,
            tokens=estimate(question) + estimate(answer) + TURN_TOKENS,
            asked=Asked.read(question),
            form=form_of(answer),
            folded=blake2b(said, digest_size=_DIGEST).digest(),
            unfit=unfit,
        )

    @property
    def size(self) -> int:
        """About how many bytes this takes in memory."""
        words = self.asked.words
        kept = (self.question, self.answer, words, *words)
        return _BARE + sum(map(getsizeof, kept))
