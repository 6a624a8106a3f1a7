"""A small model's answers are judged off the client's path: by form or side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from icl.arms import Observation
from proxy.judge import LONGEST
from proxy.metrics import Metrics
from proxy.nearhits import judging as judging_module
from proxy.nearhits.judging import Judging, Question, observation_of, side_by_side
from tests.proxy.nearhits.calls import ASKED, TENANT, Panel, call_of, counts, near_hit

AUDITS = "nearhit_near_hit_audits_total"


class Bench:
    """A judging with a scripted panel, and what it has observed."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.observed: list[Observation] = []
        self.metrics = Metrics(["default"], [])
        self.judging = Judging(
            model="judge",
            side_calls=panel.as_side_calls,
            observe=self._observe,
            metrics=self.metrics,
        )

    async def _observe(self, observation: Observation) -> None:
        self.observed.append(observation)

    @property
    def outcomes(self) -> dict[str, float]:
        return counts(self.metrics, AUDITS)

    async def verdict(self, *questions: Question, put: int = 0) -> dict[str, float]:
        """Return the outcomes once all of these are judged, and as many as were put before."""
        for each in questions:
            self.judging.put(each)
        async with asyncio.timeout(10):
            while sum(self.outcomes.values()) < put + len(questions):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        return self.outcomes


def question(answer: str = "small says so", probability: float = 1.0, **policy: Any) -> Question:
    call = call_of(replace(TENANT, **policy))
    return Question(call=call, served=near_hit(), answer=answer, probability=probability)


@asynccontextmanager
async def bench(*replies: str | None, again: str | None = "large says so") -> AsyncIterator[Bench]:
    opened = Bench(Panel(*replies, again=again))
    opened.judging.start()
    yield opened
    await opened.judging.aclose()


@pytest.mark.parametrize(
    ("form", "small", "large", "quality"),
    [
        ("exact", "Jumped.", "jumped", 1.0),
        ("exact", "jump", "jumped", 0.0),
        ("number", "It is 4.0", "2 + 2 = 4", 1.0),
        ("json", '{"a": 1}', '{"a": 2}', 0.0),
        ("free", "With oil.", "with  OIL", 1.0),  # the same text
    ],
)
async def test_what_can_be_compared_needs_no_judge(
    form: str, small: str, large: str, quality: float
) -> None:
    async with bench(again=large) as here:
        assert await here.verdict(question(small, answer_format=form)) == {"judged": 1}
        assert here.panel.asked == [("again", ASKED)]
    assert here.observed == [observation_of(near_hit(), quality, 1.0)]


async def test_a_reference_of_another_form_is_no_measure_and_a_judge_is_asked() -> None:
    async with bench("SCORE: 0", "SCORE: 0", again="no number") as here:
        assert await here.verdict(question("4", answer_format="number")) == {"judged": 1}
    assert [model for model, _ in here.panel.asked] == ["again", "judge", "judge"]


async def test_the_judge_sees_either_order() -> None:
    async with bench("SCORE: -2", "SCORE: 2") as here:
        await here.verdict(question())
    (_, first), (_, second) = here.panel.asked[1:]
    assert first.index("small says so") < first.index("large says so")
    assert second.index("large says so") < second.index("small says so")
    assert all(ASKED in text for text in (first, second))
    assert here.observed[0].quality == pytest.approx(1 / 2.7)


@pytest.mark.parametrize(
    "replies", [("SCORE: 3", "SCORE: 3"), ("well", "SCORE: 0"), ("SCORE: 0", None)]
)
async def test_a_judge_that_contradicts_itself_or_says_nothing_teaches_nothing(
    replies: tuple[str | None, str | None],
) -> None:
    async with bench(*replies) as here:
        assert await here.verdict(question()) == {"undecided": 1}
    assert here.observed == []


async def test_a_tie_is_as_good_as_the_requested_model() -> None:
    async with bench("SCORE: 0", "SCORE: 0") as here:
        await here.verdict(question())
    assert [each.quality for each in here.observed] == [1.0]


async def test_texts_that_are_too_long_for_the_judge_are_undecided_unasked() -> None:
    async with bench(again="x" * (LONGEST + 1)) as here:
        assert await here.verdict(question()) == {"undecided": 1}
        assert len(here.panel.asked) == 1


@pytest.mark.parametrize(
    ("probability", "weight"), [(1.0, 1.0), (0.5, 2.0), (0.01, 10.0), (0.0, 10.0)]
)
async def test_a_rare_verdict_weighs_more_but_not_without_bound(
    probability: float, weight: float
) -> None:
    async with bench(again="small says so") as here:
        await here.verdict(question(probability=probability))
    assert [each.weight for each in here.observed] == [weight]


async def test_over_budget_nothing_is_asked_and_it_is_counted() -> None:
    async with bench() as here:
        here.panel.exhausted = True
        assert await here.verdict(question(), question()) == {"over_budget": 2}
        assert here.judging.exhausted
        assert here.panel.asked == []


async def test_a_budget_that_runs_out_while_an_answer_waits_stops_it_too() -> None:
    here = Bench(Panel())
    here.judging.put(question())
    here.panel.exhausted = True
    here.judging.start()
    async with asyncio.timeout(10):
        while not here.outcomes:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    await here.judging.aclose()
    assert (here.outcomes, here.panel.asked) == ({"over_budget": 1}, [])


async def test_a_requested_model_that_gives_no_text_is_unreadable() -> None:
    async with bench(again=None) as here:
        assert await here.verdict(question()) == {"unreadable": 1}


async def test_an_upstream_that_fails_is_counted_and_the_next_is_judged() -> None:
    async with bench(again="small says so") as here:
        here.panel.broken = True
        assert await here.verdict(question()) == {"failed": 1}
        here.panel.broken = False
        here.judging.put(question())
        async with asyncio.timeout(10):
            while not here.observed:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


async def test_a_fault_of_ours_does_not_stop_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(again="small says so") as here:
        monkeypatch.setattr(judging_module, "exact_quality", lambda *_: 1 / 0)
        assert await here.verdict(question(), question(), question()) == {"failed": 3}


async def test_what_finds_no_place_is_dropped_and_counted() -> None:
    here = Bench(Panel())  # nobody works the queue off
    for _ in range(judging_module._MAX_WAITING + 3):
        here.judging.put(question())
    assert here.outcomes == {"dropped": 3}


async def test_a_judge_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging_module, "_PATIENCE", 0.02)

    async def hangs(call: Any) -> str:
        await asyncio.sleep(30)
        return ""

    async with bench() as here:
        monkeypatch.setattr(here.panel, "again", hangs)
        assert await here.verdict(question()) == {"failed": 1}


async def test_both_orders_bear_the_same_mark_and_another_one_each_time() -> None:
    panel = Panel(*["SCORE: 0"] * 4)
    for _ in range(2):
        await side_by_side(panel.as_side_calls, None, "judge", "Q", "one", "two")
    marks = [text.partition("<<END ")[2].partition(">>")[0] for _, text in panel.asked]
    assert marks[0] == marks[1] != marks[2] == marks[3]


def unseen(large: str | None) -> Question:
    body = {"model": "small", "messages": [{"role": "user", "content": ASKED}]}
    return Question(
        call=call_of(), served=near_hit(), probability=1.0, body=lambda: body, large=large
    )


async def test_an_answer_that_nobody_saw_is_asked_for_and_judged_beside_the_one_given() -> None:
    async with bench("with oil") as here:
        assert await here.verdict(unseen("With oil.")) == {"judged": 1}
        assert here.panel.asked == [("small", ASKED)]
    assert [each.quality for each in here.observed] == [1.0]


async def test_a_small_model_that_gives_no_text_unseen_is_unreadable() -> None:
    async with bench(None) as here:
        assert await here.verdict(unseen("With oil.")) == {"unreadable": 1}
    assert here.observed == []


async def test_a_stored_question_is_judged_beside_its_own_answer() -> None:
    stored = "How do I oil a lock?"
    body = {"model": "small", "messages": [{"role": "user", "content": stored}]}
    rehearsed = replace(unseen("With graphite."), body=lambda: body, asked=stored)
    async with bench("with oil", "SCORE: 0", "SCORE: 0") as here:
        assert await here.verdict(rehearsed) == {"judged": 1}
        texts = [text for _, text in here.panel.asked]
    assert texts[0] == stored
    assert all(stored in text and ASKED not in text for text in texts[1:])


async def test_where_nothing_can_be_shown_for_it_it_is_not_tried() -> None:
    async with bench() as here:
        nothing = replace(unseen("With oil."), body=lambda: None)
        assert await here.verdict(nothing) == {"untried": 1}
        assert here.panel.asked == []


async def test_what_the_large_model_need_not_answer_does_not_wait_for_what_it_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def overloaded(call: Any) -> str:
        await asyncio.sleep(30)
        return ""

    async with bench("with oil") as here:
        monkeypatch.setattr(here.panel, "again", overloaded)
        for _ in range(20):
            here.judging.put(question())
        assert await here.verdict(unseen("With oil.")) == {"judged": 1}


async def test_the_latest_answer_is_judged_first() -> None:
    here = Bench(Panel("with oil", "with oil", "with oil", "with oil"))
    for at in range(4):
        seen = replace(unseen("With oil."), served=near_hit(at=float(at)))
        here.judging.put(seen)
    here.judging.start()
    async with asyncio.timeout(10):
        while len(here.observed) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    await here.judging.aclose()
    assert [each.at for each in here.observed] == [3.0, 2.0, 1.0, 0.0]
