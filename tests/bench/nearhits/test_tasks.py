"""The tasks as they are asked and stored, from texts that we wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nearhits.tasks import Item, in_words, read_items, split, unrepeated

ROWS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "fewshot_function_tasks": [
        {"task": "present-past", "input": "paint", "label": "painted"},
        {"task": "present-past", "input": "Paint", "label": "painted"},
        {"task": "capitalize_first_letter", "input": "ladder", "label": "L"},
    ],
    "intents_snips": [{"text": "Play a waltz", "intent": "PlayMusic", "domain": "snips"}],
    "intents_hint3": [
        {"text": "parcel late", "intent": "LATE_PARCEL", "domain": "curekart"},
        {"text": "hm", "intent": "NO_NODES_DETECTED", "domain": "curekart"},
        {"text": "parcel here", "intent": "PARCEL", "domain": "another"},
    ],
    "intents_banking77": [{"text": "new card", "intent": "order_card", "domain": "banking"}],
    "intents_clinc150": [
        {"text": "book a sleeper", "intent": "train", "domain": "travel"},
        {"text": "colour of seven", "intent": "oos", "domain": "oos"},
    ],
    "fewshot_sentiment_rt": [{"input": "a fine film", "label": "positive"}],
    "fewshot_subjectivity": [{"input": "it ends at noon", "label": "objective"}],
    "fewshot_svamp": [{"input": "Two and two?", "label": "4"}],
    "fewshot_bbh": [{"input": "Not true is", "label": "False"}],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder like the one of the public sets."""
    for name, rows in ROWS.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    return tmp_path


def test_items_are_asked_as_a_client_would_ask_them(data: Path) -> None:
    items = read_items(data)
    assert items[0] == Item(
        "present-past", 'What is the past tense of the verb "paint"?', "painted"
    )
    assert Item("snips7", "What is the intent of this message? Play a waltz", "play music") in items
    assert Item("clinc10", "What is the topic of this message? book a sleeper", "travel") in items


def test_what_is_out_of_scope_or_another_tenant_s_or_asked_twice_is_left_out(data: Path) -> None:
    assert [item.task for item in read_items(data)] == [
        "present-past",
        "capitalize_first_letter",
        "snips7",
        "curekart",
        "banking8",
        "clinc10",
        "sentiment",
        "subjectivity",
        "svamp",
        "bbh",
    ]


def test_a_missing_file_is_an_error(data: Path) -> None:
    (data / "intents_snips.jsonl").unlink()
    with pytest.raises(OSError, match="intents_snips"):
        read_items(data)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("GetWeather", "get weather"),
        ("ORDER_STATUS", "order status"),
        ("card_not_working", "card not working"),
        ("small_talk", "small talk"),
    ],
)
def test_labels_are_written_in_words(label: str, words: str) -> None:
    assert in_words(label) == words


def made(counts: Mapping[str, int]) -> list[Item]:
    return [
        Item(task, f"{task} {number}?", str(number))
        for task, count in counts.items()
        for number in range(count)
    ]


@given(
    counts=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 30), min_size=1),
    each=st.integers(1, 40),
    pool=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_nothing_is_both_asked_and_stored(
    counts: dict[str, int], each: int, pool: int, seed: int
) -> None:
    parts = split(made(counts), each, seed, pool)
    assert not set(parts.asked) & set(parts.stored)
    for task, count in counts.items():
        stored = sum(item.task == task for item in parts.stored)
        asked = len(parts.of(task))
        assert stored == min(pool, count - count // 2)
        assert asked == min(each, count - stored)


def test_the_pool_does_not_depend_on_how_many_are_asked() -> None:
    items = made({"a": 30, "b": 7})
    few, many = split(items, 2, 1, 10), split(items, 20, 1, 10)
    assert few.stored == many.stored
    assert set(few.asked) <= set(many.asked)


def test_another_seed_is_another_split() -> None:
    items = made({"a": 30})
    assert split(items, 5, 1).asked != split(items, 5, 2).asked


def test_questions_that_differ_in_case_or_space_are_one() -> None:
    first, second = Item("a", "What  is it?", "x"), Item("a", "what is IT?", "y")
    assert unrepeated([first, second]) == [first]
