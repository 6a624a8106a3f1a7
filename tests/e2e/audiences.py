"""Two audiences that disagree about what counts as the same question, and what they ask.

At the repair shop one word decides: cleaning a part and replacing it are different jobs, and
customers describe a job in words of their own. At the cooking school the dish decides, and however
it is put, everybody is given that dish's page.
"""

from __future__ import annotations

from typing import NamedTuple

# What is done to a part of a washing machine, and how somebody says it who does not know the word.
_JOBS = {
    "clean": "The {part} is covered in grime, I want it spotless again.",
    "replace": "The {part} is worn out, and a fresh one has to go in.",
    "adjust": "The {part} sits crooked, can it be set straight?",
    "remove": "I have to get the {part} out of there.",
    "test": "I doubt that the {part} still does its work.",
    "store": "Winter comes, and the {part} has to be kept safe.",
    "paint": "The {part} looks dull, I would like another colour on it.",
    "order": "I need you to send me a new {part}.",
}
_PARTS = (
    *("filter", "hinge", "gasket", "valve", "handle"),
    *("drawer", "lamp", "fan", "belt", "hose"),
)
_DISHES = (
    *("lentil soup", "rye bread", "apple pie", "fish curry", "mushroom risotto"),
    *("potato salad", "onion tart", "bean stew", "rice pudding", "pumpkin gnocchi"),
)
_WISHES = ("cook", "freeze", "season", "serve", "reheat", "thicken", "sweeten", "decorate")


class Asked(NamedTuple):
    """A question that was answered, one that its answer serves, and one that it does not."""

    stored: str
    same: str
    different: str


def repair_shop(parts: tuple[str, ...] = _PARTS) -> list[Asked]:
    """Return what the repair shop is asked: equal but for one word is different."""
    jobs = list(_JOBS)
    found = []
    for place, part in enumerate(parts):
        for number, job in enumerate(jobs):
            other = jobs[(number + 1 + place % (len(jobs) - 1)) % len(jobs)]
            stored = f"How do I {job} the {part} of my washing machine?"
            same = _JOBS[job].format(part=f"{part} of my washing machine")
            different = f"How do I {other} the {part} in my washing machine?"
            found.append(Asked(stored, same, different))
    return found


def cooking_school() -> list[Asked]:
    """Return what the cooking school is asked: the dish is all that matters."""
    found = []
    for place, dish in enumerate(_DISHES):
        for number, wish in enumerate(_WISHES):
            another = _DISHES[(place + 1 + number) % len(_DISHES)]
            other = _WISHES[(number + 1 + place % (len(_WISHES) - 1)) % len(_WISHES)]
            stored = f"How do I {wish} {dish}?"
            same = f"I would like to {other} {dish} tonight"
            different = f"Can anybody {wish} {another} in a hurry"
            found.append(Asked(stored, same, different))
    return found
