"""The tasks as a client would ask them, from the public sets: what is stored, what is asked.

Read from the folder given on the command line; no row of it is in the repository.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POOL = 300  # stored of each task, at most
SENTIMENT = "Is this review positive or negative? {}"
SUBJECTIVITY = "Is this sentence subjective or objective? {}"
TOPIC = "What is the topic of this message? {}"
EVERY = 10  # of the 77 intents in banking, so that eight are left: five examples can show them
INTENT = "What is the intent of this message? {}"

# The right answer to these is never stored for another question: nothing to replay.
GENERATED = ("present-past", "singular-plural")
# Here the nearest stored answer often is the right one: these test the selection.
CHOSEN = ("snips7", "curekart")
TRAP = "choose_first_of_5"  # near-identical wording of another task hurts
ASKED = (*GENERATED, *CHOSEN, TRAP)

FUNCTION_TASKS: Mapping[str, str] = {
    "present-past": 'What is the past tense of the verb "{}"?',
    "singular-plural": 'What is the plural of the noun "{}"?',
    "country-capital": "What is the capital of {}?",
    "country-currency": "What is the currency of {}?",
    "landmark-country": "In which country is {}?",
    "park-country": "In which country is the park {}?",
    "person-sport": "Which sport does {} play?",
    "person-instrument": "Which instrument does {} play?",
    "person-occupation": "What is the occupation of {}?",
    "product-company": "Which company makes {}?",
    "capitalize_first_letter": 'What is the first letter of "{}", in upper case?',
    "lowercase_last_letter": 'What is the last letter of "{}", in lower case?',
    "choose_first_of_5": "Which is the first word in this list? {}",
    "choose_last_of_5": "Which is the last word in this list? {}",
    "alphabetically_first_3": "Which word in this list comes first in the alphabet? {}",
    "animal_v_object_3": "Which word in this list is an animal? {}",
    "color_v_animal_3": "Which word in this list is a colour? {}",
    "word_length": 'How many letters has the word "{}"?',
    "next_item": 'What comes after "{}"?',
    "prev_item": 'What comes before "{}"?',
}
CASE_MATTERS = frozenset({"capitalize_first_letter", "lowercase_last_letter"})


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its reference answer."""

    task: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Split:
    """What is asked and what is stored; no question is in both."""

    asked: tuple[Item, ...]
    stored: tuple[Item, ...]

    def of(self, *tasks: str) -> tuple[Item, ...]:
        """Return what is asked of some tasks."""
        return tuple(item for item in self.asked if item.task in tasks)


def read_items(data: Path) -> list[Item]:
    """Return every task's items, without repeated questions. Raises OSError, ValueError."""
    items = unrepeated(
        item
        for file, read in (
            ("fewshot_function_tasks.jsonl", _function_task),
            ("intents_snips.jsonl", _intent("snips7", "snips")),
            ("intents_hint3.jsonl", _intent("curekart", "curekart")),
            ("intents_banking77.jsonl", _intent("banking8", "banking")),
            ("intents_clinc150.jsonl", _topic),
            ("fewshot_sentiment_rt.jsonl", _labelled("sentiment", SENTIMENT)),
            ("fewshot_subjectivity.jsonl", _labelled("subjectivity", SUBJECTIVITY)),
            ("fewshot_svamp.jsonl", _labelled("svamp", "{}")),
            ("fewshot_bbh.jsonl", _labelled("bbh", "{}")),
        )
        for row in _rows(data / file)
        if (item := read(row)) is not None
    )  # fmt: skip
    few = set(sorted({item.answer for item in items if item.task == "banking8"})[::EVERY])
    return [item for item in items if item.task != "banking8" or item.answer in few]


def split(items: Sequence[Item], each: int, seed: int, pool: int = POOL) -> Split:
    """Return `each` items of every task to ask (of a small task at most half) and a pool to store.

    The same seed and items give the same split, whatever `each` is: a task's order is drawn once,
    the pool is taken from its end.
    """
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_task[item.task].append(item)
    asked: list[Item] = []
    stored: list[Item] = []
    for task in sorted(by_task):
        of_task = by_task[task]
        random.Random(f"{seed}/{task}").shuffle(of_task)
        kept = min(pool, len(of_task) - len(of_task) // 2)
        stored += of_task[len(of_task) - kept :]
        asked += of_task[: len(of_task) - kept][:each]
    return Split(tuple(asked), tuple(stored))


def unrepeated(items: Iterable[Item]) -> list[Item]:
    """Return the items without those whose question came before, in any case."""
    seen: set[str] = set()
    kept: list[Item] = []
    for item in items:
        key = " ".join(item.question.casefold().split())
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def in_words(label: str) -> str:
    """Return a label as a person would write it: GetWeather and GET_WEATHER are `get weather`."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).replace("_", " ").split()
    return " ".join(parts).lower()


Row = Mapping[str, str]


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _function_task(row: Row) -> Item | None:
    return Item(row["task"], FUNCTION_TASKS[row["task"]].format(row["input"]), row["label"])


def _intent(task: str, domain: str) -> Callable[[Row], Item | None]:
    def read(row: Row) -> Item | None:
        if row["domain"] != domain or row["intent"] == "NO_NODES_DETECTED":
            return None
        return Item(task, INTENT.format(row["text"]), in_words(row["intent"]))

    return read


def _topic(row: Row) -> Item | None:
    """The domain of a message, of ten; a hundred and fifty intents are too many to show."""
    if row["domain"] in ("oos", "out_of_scope"):
        return None
    return Item("clinc10", TOPIC.format(row["text"]), in_words(row["domain"]))


def _labelled(task: str, words: str) -> Callable[[Row], Item | None]:
    return lambda row: Item(task, words.format(row["input"]), row["label"])
