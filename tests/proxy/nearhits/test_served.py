"""Recent near-hits are found by the request's id and by what was asked, once, and are bounded."""

from __future__ import annotations

from dataclasses import replace

from icl.arms import Arm
from proxy.nearhits.served import AGAIN, KEPT, NearHit, Served
from store.entry import EntryId


def near_hit(request_id: str = "r1", asked: str = "q1", at: float = 1000.0) -> NearHit:
    return NearHit(
        at=at,
        tenant="harbour",
        request_id=request_id,
        asked=EntryId(asked),
        category="default",
        small="tiny",
        arm=Arm.EXAMPLES,
        context=(1.0,),
        examples=(),
        features=(),
        level=-1.0,
        tokens=0,
    )


def test_a_verdict_finds_its_near_hit_once() -> None:
    served = Served()
    served.note(near_hit())
    assert served.named("harbour", "r1", 1001.0) == near_hit()
    assert served.named("harbour", "r1", 1001.0) is None


def test_another_tenant_s_near_hit_is_unknown() -> None:
    served = Served()
    served.note(near_hit())
    assert served.named("quay", "r1", 1001.0) is None


def test_a_verdict_after_a_day_is_too_late() -> None:
    served = Served()
    served.note(near_hit())
    assert served.named("harbour", "r1", 1000.0 + KEPT + 1) is None


def test_a_question_asked_again_within_a_minute_is_noticed_once() -> None:
    served = Served()
    served.note(near_hit())
    assert served.asked_again(EntryId("q1"), 1000.0 + AGAIN - 1) == near_hit()
    assert served.asked_again(EntryId("q1"), 1000.0 + AGAIN - 1) is None
    served.note(near_hit())
    assert served.asked_again(EntryId("q1"), 1000.0 + AGAIN + 1) is None


def test_what_somebody_else_asks_too_is_no_complaint() -> None:
    served = Served()
    served.note(replace(near_hit(), asker="ada"))
    assert served.asked_again(EntryId("q1"), 1001.0, "grace") is None
    assert not served.would_ask_again(EntryId("q1"), 1001.0, "grace")
    assert served.would_ask_again(EntryId("q1"), 1001.0, "ada")
    assert served.asked_again(EntryId("q1"), 1001.0, "ada") is not None


def test_the_oldest_make_room() -> None:
    served = Served(most=2)
    for number in range(3):
        served.note(near_hit(f"r{number}", f"q{number}"))
    assert served.named("harbour", "r0", 1001.0) is None
    assert served.named("harbour", "r2", 1001.0) is not None
