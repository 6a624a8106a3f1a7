"""What the overload run asks: streams composed of rewordings, the same ones for every arm. Pure.

`own_stream` is written by us: a hot set of subjects, asked by a power law in close and in loose
wordings, among subjects that are asked once. `data_stream` takes the order of a shop's page
requests (which key comes again when) and the texts of public question sets, with lead-ins of ours
before them. Neither is traffic that anybody recorded: repetition, texts and rewordings come from
three places. Questions ask the same where we wrote them so, or where the sets label them so.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from bench.pairs import rows_of
from bench.questions import REWORDED, STORED, subjects

HOT = 300  # subjects that come again
STEEPNESS = 1.0  # of the power law
ONCE = 0.4  # share of the asks whose subject does not come again
WORDINGS = (
    STORED,
    *REWORDED[:5],
    "Could you explain the steps to {verb} a {noun} in {place}?",
    "What should I know before I {verb} a {noun} in {place}?",
    "{verb} {noun} {place}",
    "Is there a simple procedure to {verb} a {noun} while living in {place}?",
    "I have a {noun} here in {place} and would like to {verb} it, how does that work?",
    "My landlord asked me to {verb} a {noun} in {place} by myself. How is that done?",
)
LEADS = (
    "{}", "{}", "{}", "can you tell me {}", "i would like to know {}", "{} please",
    "quick question: {}", "does anyone know {}", "hi there, a question for a quiz: {}",
    "my son asks {}",
)  # fmt: skip
TRACE = "trace_cache2k_web07.csv.gz"
PAIRS = (
    "pairs_nqopen_mined",
    "pairs_stackexchange_dup",
    "pairs_sts16_questions",
    "pairs_meancache_llmwritten",
    "pairs_canard_rewrites",
)
ANSWERED = "qa_nqopen"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a stream."""

    at: float  # seconds from the start
    text: str
    question: int  # texts of one question ask the same


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests in order, and what may answer them."""

    name: str
    asks: Sequence[Ask]
    answers: Mapping[int, frozenset[str]] = field(default_factory=dict)  # labelled, by question
    _asked_by: Mapping[str, frozenset[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        asked_by: defaultdict[str, set[int]] = defaultdict(set)
        for ask in self.asks:
            asked_by[ask.text].add(ask.question)
        frozen = {text: frozenset(questions) for text, questions in asked_by.items()}
        object.__setattr__(self, "_asked_by", frozen)

    def right(self, question: int, answered: str) -> bool:
        """Whether the answer to the text `answered` may answer a question.

        It may if the text asks the same question, or one that has a labelled answer in common.
        """
        for other in self._asked_by.get(answered, frozenset()):
            if other == question or self._answers(other) & self._answers(question):
                return True
        return False

    def _answers(self, question: int) -> frozenset[str]:
        return self.answers.get(question, frozenset())


def arrivals(order: random.Random, rate: float, seconds: float) -> Iterator[float]:
    """Yield the times of a Poisson process of so many requests a second."""
    now = order.expovariate(rate)
    while now < seconds:
        yield now
        now += order.expovariate(rate)


def own_stream(*, seed: int, rate: float, seconds: float) -> Stream:
    """Compose a stream of questions of our own; raise ValueError when it needs too many."""
    order = random.Random(seed)
    about = subjects()
    weights = list(accumulate(1 / (n + 1) ** STEEPNESS for n in range(HOT)))
    fresh = iter(range(HOT, len(about)))
    asks = []
    for at in arrivals(order, rate, seconds):
        if order.random() < ONCE:
            question = next(fresh, -1)
            if question < 0:
                raise ValueError(f"more than {len(about)} questions of our own would be needed")
        else:
            question = order.choices(range(HOT), cum_weights=weights)[0]
        wording = order.choice(WORDINGS)
        asks.append(Ask(at, wording.format(**about[question]._asdict()), question))
    return Stream("own", asks)


@dataclass(frozen=True, slots=True)
class Question:
    """Texts that ask the same, and the answers that they are labelled with."""

    texts: tuple[str, ...]
    answers: frozenset[str]


def grouped(rows: Iterable[Mapping[str, object]]) -> list[Question]:
    """Return the questions of labelled pairs and of single questions, in order of appearance.

    A pair is {"q1", "q2", "label", "answers1"?, "answers2"?}, a single question {"question",
    "answers"}. Label 1 joins two texts, through others too.
    """
    parent: dict[str, str] = {}
    answers: defaultdict[str, set[str]] = defaultdict(set)

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            text = parent[text]
        return text

    for row in rows:
        for text, given in (("question", "answers"), ("q1", "answers1"), ("q2", "answers2")):
            if text in row:
                root(str(row[text]))
                labelled = row.get(given)
                for answer in labelled if isinstance(labelled, list) else []:
                    answers[str(row[text])].add(str(answer).casefold())
        if row.get("label") == 1:
            parent[root(str(row["q2"]))] = root(str(row["q1"]))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text in parent:
        groups[root(text)].append(text)
    return [
        Question(tuple(texts), frozenset(answer for text in texts for answer in answers[text]))
        for texts in groups.values()
    ]


def traced_stream(
    keys: Iterable[str], questions: Sequence[Question], *, seed: int, rate: float, seconds: float
) -> Stream:
    """Compose a stream that comes back to questions as the keys come back.

    Each new key takes the next question of a shuffled order; raise ValueError when either runs
    out before the time.
    """
    order = random.Random(seed)
    shuffled = list(range(len(questions)))
    order.shuffle(shuffled)
    taken: dict[str, int] = {}
    asks: list[Ask] = []
    left = iter(keys)
    for at in arrivals(order, rate, seconds):
        key = next(left, None)
        if key is None:
            raise ValueError(f"the trace is over after {len(asks)} requests")
        if key not in taken:
            if len(taken) == len(shuffled):
                raise ValueError(f"more than {len(shuffled)} questions would be needed")
            taken[key] = shuffled[len(taken)]
        text = order.choice(questions[taken[key]].texts)
        asks.append(Ask(at, order.choice(LEADS).format(text), taken[key]))
    answers = {number: questions[number].answers for number in taken.values()}
    return Stream("data", asks, answers)


def data_stream(folder: Path, *, seed: int, rate: float, seconds: float) -> Stream:
    """Compose a stream of the public sets in a folder."""
    rows = [row for name in (*PAIRS, ANSWERED) for row in rows_of(folder / f"{name}.jsonl")]
    with gzip.open(folder / TRACE, "rt", encoding="utf-8", newline="") as trace:
        keys = (row["key"] for row in csv.DictReader(trace))
        return traced_stream(keys, grouped(rows), seed=seed, rate=rate, seconds=seconds)
