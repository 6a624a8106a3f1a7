"""Whom a verdict keeps an answer from: the tenant, its twins included, and who is next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from icl.arms import Arm, Observation
from proxy.auth import Caller
from proxy.errors import ApiError
from proxy.events import ServingEvent, ServingEvents
from proxy.feedback import Feedback, FeedbackDesk, stop_for
from proxy.metrics import Metrics
from proxy.rate_limit import RateLimit
from store.documents.base import held_of
from store.quarantine import EVERYBODY, Quarantine, names_of
from tests.entries import NOON, entry
from tests.fakes_documents import MemoryDocuments

ONE, OTHER, OWN = (
    held_of(entry(id, tenant=tenant, shared_key="k"))
    for id, tenant in (("1", "pier"), ("2", "quay"), ("3", "harbour"))
)
TWINS = (ONE, OTHER, OWN)
HIT = ServingEvent(NOON, ONE.id, "when does ferry x leave?", ONE.query, 0.9, "default", hit=True)
NEAR_HIT = Observation(
    category="default", small="tern-1", arm=Arm.SMALL, context=(), quality=0.0, weight=1.0
)


class Held:
    """A cache of the one entry, or a near-hit tier of the one answer."""

    def __init__(self) -> None:
        self.verdicts: list[Observation] = []
        self.waiting = [NEAR_HIT]

    def exact(self, id: str) -> Any:
        return ONE if id == ONE.id else None

    def given(self, tenant: str, name: str) -> Observation | None:
        return self.waiting.pop() if name == "near" and self.waiting else None

    def heard(self, category: str) -> None: ...

    async def verdict(self, given: Observation, *, wrong: bool) -> None:
        self.verdicts.append(replace(given, quality=0.0 if wrong else 1.0))


class Desk:
    """A feedback desk that knows of the hits `a` and `b` and a near-hit, all of one tenant."""

    def __init__(self) -> None:
        documents = MemoryDocuments()
        events = ServingEvents()
        for name in ("a", "b"):
            events.note("pier", name, HIT)
        self.complaints: list[str] = []
        self.held = held = Held()

        async def complained(category: str) -> None:
            self.complaints.append(category)

        async def nothing(*_: str) -> None: ...

        self.desk = FeedbackDesk(
            events=events,
            elsewhere=nothing,
            cache=held,  # type: ignore[arg-type]
            quarantine=Quarantine(documents.records),
            records=documents.records,
            limit=RateLimit(60),
            metrics=Metrics(["default"], []),
            complained=complained,
            near_hits=held,  # type: ignore[arg-type]
            settled=nothing,
            clock=lambda: NOON,
            monotonic=lambda: 0.0,
        )

    async def say(self, name: str, verdict: Literal["wrong", "right"] = "wrong") -> None:
        await self.desk.take(Caller(tenant="pier"), Feedback(response_id=name, verdict=verdict))


async def test_a_complaint_that_is_sent_again_tightens_once() -> None:
    desk = Desk()
    for verdict in ("wrong", "wrong", "right", "wrong"):
        await desk.say("a", verdict)
    assert desk.complaints == ["default"]
    await desk.say("b")  # another answer
    assert len(desk.complaints) == 2


async def test_a_verdict_on_a_near_hit_that_is_sent_again_is_taken_and_teaches_once() -> None:
    desk = Desk()
    await desk.say("near")
    await desk.say("near")
    assert len(desk.held.verdicts) == 1
    with pytest.raises(ApiError):
        await desk.say("unknown")


async def stopped(*complaints: tuple[str, str]) -> Quarantine:
    """Return what is stopped once each of these tenants has called one of the twins wrong."""
    quarantine = Quarantine(MemoryDocuments().records)
    for number, tenant in complaints:
        held = TWINS[int(number) - 1]
        names = names_of(held.id, held.shared_key)
        await stop_for(quarantine, names, tenant, NOON, "feedback")
    return quarantine


async def test_who_called_an_answer_wrong_is_served_no_other_tenants_twin_of_it() -> None:
    quarantine = await stopped(("1", "harbour"))
    assert quarantine.keeps(ONE, "harbour") and quarantine.keeps(OTHER, "harbour")
    assert not quarantine.keeps(OWN, "harbour")  # nobody has complained of that
    assert not any(quarantine.keeps(twin, "airport") for twin in TWINS)


async def test_an_own_answer_that_was_wrong_does_not_come_back_from_others() -> None:
    quarantine = await stopped(("3", "harbour"))
    assert all(quarantine.keeps(twin, "harbour") for twin in TWINS)


async def test_complaints_about_different_twins_add_up() -> None:
    quarantine = await stopped(("1", "harbour"), ("2", "airport"))
    assert all(quarantine.keeps(twin, "station") for twin in TWINS)
    assert quarantine.keeps(OTHER, "quay")
    assert not quarantine.keeps(ONE, "pier")  # its own word, which one other tenant doubts


async def test_a_tenant_that_says_it_twice_is_still_one() -> None:
    quarantine = await stopped(("1", "harbour"), ("2", "harbour"))
    assert not any(EVERYBODY in quarantine.tenants(twin.id) for twin in TWINS)
    assert not any(quarantine.keeps(twin, "station") for twin in TWINS)


async def test_outside_scope_shared_an_entry_has_no_twins() -> None:
    alone = held_of(entry("1"))
    quarantine = Quarantine(MemoryDocuments().records)
    await stop_for(quarantine, names_of(alone.id, alone.shared_key), "pier", NOON, "feedback")
    assert len(quarantine) == 1
    assert not quarantine.keeps(held_of(entry("2")), "pier")
