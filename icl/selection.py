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

from icl.answer_form import common_form, near
from icl.example import Example
from icl.features import REDUNDANCY, Features, features_of, jaccard, with_redundancy
from icl.shown import Asked
from icl.template import Template, Tokens, tokens_of
from icl.utility import UtilityModel

REFUSALS = frozenset(
    {"empty", "long", "suspicious", "duplicate", "instruction", "form", "lure"}
    | {"utility", "budget", "most"}
)
_SAME_QUESTION = 0.8  # of the words, if the answer is the same: shown twice it says nothing new
_SHORT = 60  # characters of an answer that may be picked from its question
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

    examples: tuple[Example, ...] = ()  # in the order of the prompt, not of similarity
    utilities: tuple[float, ...] = ()  # in the same order
    tokens: int = 0
    refused: Mapping[str, int]  # how many by reason, of REFUSALS
    features: tuple[Features, ...] = ()  # of the chosen, to learn from


class _Candidate(NamedTuple):
    example: Example
    input: frozenset[str]  # the question's words but for the instruction's

    @property
    def tokens(self) -> int:
        return self.example.shown.tokens


class _Chosen(NamedTuple):
    candidate: _Candidate
    utility: float
    features: Features


def select(
    question: str, candidates: Sequence[Example], model: UtilityModel, limits: Limits
) -> Selection:
    """Choose the examples for a question; the order of the candidates does not matter."""
    refused: Counter[str] = Counter()
    request = Asked.read(question)
    ranked = sorted(candidates, key=lambda example: (-example.similarity, example.id))
    usable = _usable(ranked, limits, refused)
    same = _of_one_kind(request.words, usable, refused)
    chosen = _choose(request, same, model, limits, refused)
    # Which examples come first makes no difference to what is right (docs/benchmarks.md). Two
    # requests that share some show them in one order, so that an engine may reuse what it read.
    chosen.sort(key=lambda one: (one.candidate.example.question, one.candidate.example.id))
    return Selection(
        examples=tuple(one.candidate.example for one in chosen),
        utilities=tuple(one.utility for one in chosen),
        tokens=sum(one.candidate.tokens for one in chosen),
        refused=dict(refused),
        features=tuple(one.features for one in chosen),
    )


def _usable(ranked: Iterable[Example], limits: Limits, refused: Counter[str]) -> list[Example]:
    """Return what may be shown at all, the nearer of two that are the same."""
    usable: list[Example] = []
    seen: set[tuple[str, bytes]] = set()
    for example in ranked:
        shown = example.shown
        if shown.unfit == "empty":
            refused["empty"] += 1
        elif shown.tokens > limits.tokens:
            refused["long"] += 1
        elif shown.unfit is not None:
            refused[shown.unfit] += 1
        elif (both := (" ".join(shown.asked.words), shown.folded)) in seen:
            refused["duplicate"] += 1
        else:
            seen.add(both)
            usable.append(example)
    return usable


def _of_one_kind(
    request: Tokens, usable: Sequence[Example], refused: Counter[str]
) -> list[_Candidate]:
    """Return the candidates of the request's instruction whose answers have a form in common."""
    template = Template(request, [example.shown.asked.words for example in usable])
    same: list[_Candidate] = []
    for example, agrees in zip(usable, template.agreeing(), strict=True):
        if not agrees:
            refused["instruction"] += 1
            continue
        # Beside the instruction, which all of them share.
        candidate = _Candidate(example, template.input_of(example.shown.asked.words))
        if any(_alike(candidate, other) for other in same):
            refused["duplicate"] += 1
            continue
        same.append(candidate)
    common = common_form([candidate.example.shown.form for candidate in same])
    kept = [c for c in same if common is not None and near(common, c.example.shown.form)]
    if len(kept) < len(same):
        refused["form"] += len(same) - len(kept)
    return _without_lures(template.input_of(request), kept, refused)


def _without_lures(
    asked: frozenset[str], kept: list[_Candidate], refused: Counter[str]
) -> list[_Candidate]:
    """Leave out examples whose answer the request says, too, if answers are picked from questions.

    A small model repeats an answer that it has just seen once it meets the words again: asked for
    the first word of "bowl, coral", after an example that was answered "coral", it says "coral".
    """
    picking = sum(_is_picked(c.example.answer, c.input) for c in kept)
    if 2 * picking <= len(kept):
        return kept
    left = [c for c in kept if not _is_picked(c.example.answer, asked)]
    if len(left) < len(kept):
        refused["lure"] += len(kept) - len(left)
    return left


def _is_picked(answer: str, words: frozenset[str]) -> bool:
    """Whether a short answer's words are all among these."""
    return len(answer) <= _SHORT and words.issuperset(tokens_of(answer))


def _alike(a: _Candidate, b: _Candidate) -> bool:
    same_answer = a.example.shown.folded == b.example.shown.folded
    return same_answer and jaccard(a.input, b.input) >= _SAME_QUESTION


def _choose(
    request: Asked,
    usable: list[_Candidate],
    model: UtilityModel,
    limits: Limits,
    refused: Counter[str],
) -> list[_Chosen]:
    """Take the most useful beside those already taken, again and again; bulky ones last."""
    common = common_form([candidate.example.shown.form for candidate in usable])
    offers = []
    for candidate in usable:
        features = features_of(request, candidate.example, common)
        offers.append(_Chosen(candidate, model.value(features), features))
    room = limits.tokens
    chosen: list[_Chosen] = []
    for bulky in (False, True):
        left = [o for o in offers if (o.candidate.tokens > _BULKY * limits.tokens) is bulky]
        left = [_beside(offer, chosen, model) for offer in left]
        while left:
            # The first of equals: the candidates are in the order of similarity.
            best = left.pop(max(range(len(left)), key=lambda at: left[at].utility))
            if best.utility < limits.threshold:
                refused["utility"] += 1
            elif len(chosen) >= limits.most:
                refused["most"] += 1
            elif best.candidate.tokens > room:
                refused["budget"] += 1
            else:
                chosen.append(best)
                room -= best.candidate.tokens
                left = [_beside(offer, [best], model) for offer in left]
    return chosen


def _beside(offer: _Chosen, chosen: Sequence[_Chosen], model: UtilityModel) -> _Chosen:
    """Return the offer with its redundancy beside further chosen examples."""
    said = offer.candidate.input
    alike = max((jaccard(said, one.candidate.input) for one in chosen), default=0.0)
    if alike <= offer.features[REDUNDANCY]:
        return offer
    features = with_redundancy(offer.features, alike)
    return _Chosen(offer.candidate, model.value(features), features)
