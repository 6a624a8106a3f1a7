"""Which examples are planted wrong."""

from __future__ import annotations

from collections import Counter

from bench.nearhits.replaying import TASKS, poor_examples, questions
from bench.nearhits.tasks import Item, Split


def stored(**counts: int) -> Split:
    return Split(
        (), tuple(Item(t, f"{t} {n}?", str(n)) for t, count in counts.items() for n in range(count))
    )


def test_every_task_has_as_many_where_it_can() -> None:
    found = poor_examples(stored(**dict.fromkeys(TASKS, 80)), 40)
    assert Counter(item.task for item in found) == dict.fromkeys(TASKS, 10)


def test_large_tasks_make_up_for_small_ones() -> None:
    split = stored(**{**dict.fromkeys(TASKS, 80), "singular-plural": 3})
    found = poor_examples(split, 40)
    assert len(set(found)) == 40
    assert sum(item.task == "singular-plural" for item in found) == 3


def test_the_questions_that_teach_are_not_the_fresh_ones() -> None:
    split = Split(stored(**dict.fromkeys(TASKS, 10)).stored, ())
    fresh, teaching = questions(split, 4)
    assert Counter(item.task for item in fresh) == dict.fromkeys(TASKS, 4)
    assert Counter(item.task for item in teaching) == dict.fromkeys(TASKS, 6)
    assert not set(fresh) & set(teaching)
