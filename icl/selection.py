"""Which stored answers a small model is shown: few, of use, of one kind, and within its window.

The candidates come from the search that judged the request a near-hit, so tenant, partition and
age are settled. What is left is what the cosine does not see: texts that would steer the model, a
neighbour with another instruction, an answer of another form, the same thing twice, and tokens,
which cost the small model's time. Pure; at most one pass over the candidates a chosen example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from icl.answer_form import Form, common_form, form_of, near
from icl.example import Example
from icl.features import Features, features_of, jaccard, with_redundancy
from icl.suspicion import suspicious
from icl.template import Template, Tokens, tokens_of
from icl.tokens import estimate
from icl.utility import UtilityModel

REFUSALS = frozenset(
    {"empty", "long", "suspicious", "duplicate", "instruction", "form", "utility", "budget", "most"}
)
TURN_TOKENS = 12  # that the marks of a question's and an answer's turn take
_SAME_QUESTION = 0.8  # of the words, if the answer is the same: shown twice it says nothing new
_BULKY = 0.5  # of the budget: what is longer waits until all others had their turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may be shown."""

    most: int = 5
    tokens: int = 1024  # of all examples together
    threshold: float = 0.0  # least utility


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is shown, and why the rest is not."""

    examples: tuple[Example, ...] = ()  # in the order of the prompt: the most similar last
    utilities: tuple[float, ...] = ()  # in the same order
    tokens: int = 0
    refused: Mapping[str, int]  # how many by reason, of REFUSALS
    features: tuple[Features, ...] = ()  # of the chosen, to learn from


class _Candidate(NamedTuple):
    example: Example
    tokens: int
    words: Tokens
    said: frozenset[str]  # its words but for the instruction's
    form: Form


class _Chosen(NamedTuple):
    candidate: _Candidate
    utility: float
    features: Features


def select(
    question: str, candidates: Sequence[Example], model: UtilityModel, limits: Limits
) -> Selection:
    """Choose the examples for a question; the order of the candidates does not matter."""
    refused: Counter[str] = Counter()
    request = tokens_of(question)
    ranked = sorted(candidates, key=lambda example: (-example.similarity, example.id))
    usable = list(_usable(ranked, limits, refused))
    usable = _of_one_kind(request, usable, refused)
    chosen = _choose(request, len(question), usable, model, limits, refused)
    chosen.sort(key=lambda one: (one.candidate.example.similarity, one.candidate.example.id))
    return Selection(
        examples=tuple(one.candidate.example for one in chosen),
        utilities=tuple(one.utility for one in chosen),
        tokens=sum(one.candidate.tokens for one in chosen),
        refused=dict(refused),
        features=tuple(one.features for one in chosen),
    )


def _usable(
    ranked: Iterable[Example], limits: Limits, refused: Counter[str]
) -> Iterable[_Candidate]:
    """Yield what may be shown at all, the nearer of two that are the same."""
    seen: set[tuple[str, str]] = set()
    for example in ranked:
        if not example.question.strip() or not example.answer.strip():
            refused["empty"] += 1
            continue
        tokens = estimate(example.question) + estimate(example.answer) + TURN_TOKENS
        if tokens > limits.tokens:
            refused["long"] += 1
            continue
        # Read as the small model will: a turn may be forged across question and answer.
        if suspicious(f"{example.question}\nAnswer:\n{example.answer}") is not None:
            refused["suspicious"] += 1
            continue
        words = tokens_of(example.question)
        both = " ".join(words), _folded(example.answer)
        if both in seen:
            refused["duplicate"] += 1
            continue
        seen.add(both)
        said = frozenset(words)
        yield _Candidate(example, tokens, words, said, form_of(example.answer))


def _folded(answer: str) -> str:
    return " ".join(answer.casefold().split())


def _of_one_kind(
    request: Tokens, usable: list[_Candidate], refused: Counter[str]
) -> list[_Candidate]:
    """Return the candidates of the request's instruction whose answers have a form in common."""
    template = Template(request, [candidate.words for candidate in usable])
    same: list[_Candidate] = []
    for candidate, agrees in zip(usable, template.agreeing(), strict=True):
        if not agrees:
            refused["instruction"] += 1
            continue
        # Beside the instruction, which all of them share.
        candidate = candidate._replace(said=template.input_of(candidate.words))
        if any(_alike(candidate, other) for other in same):
            refused["duplicate"] += 1
            continue
        same.append(candidate)
    common = common_form([candidate.form for candidate in same])
    kept = [c for c in same if common is not None and near(common, c.form)]
    if len(kept) < len(same):
        refused["form"] += len(same) - len(kept)
    return kept


def _alike(a: _Candidate, b: _Candidate) -> bool:
    if jaccard(a.said, b.said) < _SAME_QUESTION:
        return False
    return _folded(a.example.answer) == _folded(b.example.answer)


def _choose(
    request: Tokens,
    characters: int,
    usable: list[_Candidate],
    model: UtilityModel,
    limits: Limits,
    refused: Counter[str],
) -> list[_Chosen]:
    """Take the most useful beside those already taken, again and again; bulky ones last."""
    common = common_form([candidate.form for candidate in usable])
    base = [features_of(request, characters, c.example, c.words, c.form, common) for c in usable]
    room = limits.tokens
    chosen: list[_Chosen] = []
    for bulky in (False, True):
        left = [at for at, c in enumerate(usable) if (c.tokens > _BULKY * limits.tokens) is bulky]
        while left:
            offers = [_offer(usable[at], base[at], chosen, model) for at in left]
            # The first of equals: the candidates are in the order of similarity.
            best = max(range(len(left)), key=lambda at: offers[at].utility)
            left.pop(best)
            offer = offers[best]
            if offer.utility < limits.threshold:
                refused["utility"] += 1
            elif len(chosen) >= limits.most:
                refused["most"] += 1
            elif offer.candidate.tokens > room:
                refused["budget"] += 1
            else:
                chosen.append(offer)
                room -= offer.candidate.tokens
    return chosen


def _offer(
    candidate: _Candidate, base: Features, chosen: Sequence[_Chosen], model: UtilityModel
) -> _Chosen:
    alike = max((jaccard(candidate.said, one.candidate.said) for one in chosen), default=0.0)
    features = with_redundancy(base, alike) if chosen else base
    return _Chosen(candidate, model.value(features), features)
