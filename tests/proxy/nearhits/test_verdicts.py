"""Who is asked for a verdict while the requested model is overloaded, and what is never asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from icl.arms import Arm, Choice, Situation
from icl.example import Example
from icl.manager import ExampleBook
from icl.router import Router
from icl.selection import Limits, Selection
from icl.shown import Shown
from icl.utility import UtilityModel
from proxy.model_settings import Offload as Pairing
from proxy.nearhits.learning import Learning
from proxy.nearhits.plan import Offer, Plan, Prospect
from proxy.nearhits.verdicts import Verdicts
from store.entry import EntryId
from store.journal import Change
from tests.fakes_documents import MemoryDocuments
from tests.proxy.nearhits.calls import ASKED, CONTEXT, TENANT, Panel, call_of, chat_answer
from tests.proxy.nearhits.test_judging import Bench

EXAMPLES = [
    Example(
        id=EntryId(word),
        shown=Shown.read(f"How can I oil a {word}?", f"With {word} oil."),
        similarity=0.6 + 0.1 * place,
        age=60.0,
    )
    for place, word in enumerate(("gate", "door", "lock"))
]


def plan(examples: Sequence[Example], load: float) -> Plan:
    """Return the plan of a near-hit that the small model answers, sure to be judged."""
    pairing = Pairing(model="large", small="small")
    situation = Situation(
        category="default",
        small="small",
        floor=0.85,
        exploration=0.05,
        judged=True,
        context=CONTEXT,
        examples=len(examples),
        load=load,
        price=0.1,
    )
    prospect = Prospect(
        pairing=pairing,
        situation=situation,
        candidates=examples,
        selection=Selection(examples=tuple(examples), refused={}),
        limits=Limits(),
    )
    choice = Choice(
        arm=Arm.EXAMPLES, probability=1.0, explored=False, unsure=False, scores={}, audit=1.0
    )
    call = call_of(replace(TENANT, answer_format="exact"))
    return Plan(call=call, prospect=prospect, choice=choice)


async def tell_nobody(change: Change) -> None: ...


async def asked(load: float, may_ask_again: Callable[[EntryId], bool]) -> list[tuple[str, str]]:
    """Have a near-hit's answer judged; return who was asked what for it."""
    draw = random.Random(7)
    bench = Bench(Panel("With lock oil.", again="With oil."))
    learning = Learning(
        router=Router(draw=draw),
        utility=UtilityModel(),
        book=ExampleBook(),
        records=MemoryDocuments().records,
        tell=tell_nobody,
        price_of=lambda small: 0.1,
        draw=draw,
    )
    verdicts = Verdicts(bench.judging, learning, lambda: 0.0, lambda: 0.0, may_ask_again)
    bench.judging.start()
    verdicts.sent(Offer(plan(EXAMPLES, load), 0.0), chat_answer("With oil."))
    assert await bench.verdict(put=1) == {"judged": 1}
    await bench.judging.aclose()
    return bench.panel.asked


async def test_without_load_the_requested_model_is_asked_what_the_client_asked() -> None:
    assert await asked(0.0, lambda id: True) == [("again", ASKED)]


async def test_under_load_the_small_model_is_asked_the_nearest_stored_question() -> None:
    assert await asked(1.0, lambda id: True) == [("small", "How can I oil a lock?")]


@pytest.mark.parametrize(
    ("forbidden", "question"), [("lock", "How can I oil a door?"), ("gate door lock", None)]
)
async def test_a_question_that_its_category_keeps_from_the_judge_is_not_rehearsed(
    forbidden: str, question: str | None
) -> None:
    came = await asked(1.0, lambda id: id not in forbidden)
    assert came == [("again", ASKED) if question is None else ("small", question)]
