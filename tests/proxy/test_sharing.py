"""Two tenants' answers agree when they say the same, whatever their ids and counts are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import orjson
import pytest

from proxy.calibrated import LiveScore
from proxy.rules import InForce
from proxy.sharing import Confirmation, Sharing, agree, gist
from store.cache import Cache
from store.decision.score import Score
from store.entry import Entry, EntryId
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.quarantine import EVERYBODY, Quarantine
from tests.encodings import encoding_of, rules_of
from tests.entries import CHECKPOINT, DIMENSION, NOON, axis, entry, near
from tests.fakes_documents import MemoryDocuments
from tests.harness import policies


def answer(text: str, **changes: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    return {"id": "1", "created": 5, "choices": [choice], "usage": {"total_tokens": 9}} | changes


def test_ids_times_counts_case_and_spacing_do_not_matter() -> None:
    other = answer("the  FERRY leaves\nat nine", id="2", created=6, usage={"total_tokens": 11})
    assert gist(answer("The ferry leaves at nine")) == gist(other)


@pytest.mark.parametrize(
    "other",
    [
        answer("The ferry leaves at ten"),
        answer("The ferry leaves at nine", model="tern"),
        answer("The ferry leaves at nine", choices=[]),
    ],
)
def test_what_is_said_matters(other: dict[str, Any]) -> None:
    assert gist(answer("The ferry leaves at nine")) != gist(other)


NEAR_QUERY = "When does the ferry go?"
QUERY = "When does the ferry leave?"


class Desk:
    """A cache and what decides about sharing what it holds; every tenant has entries of its own."""

    def __init__(self, cache: Cache, documents: MemoryDocuments, **policy: Any) -> None:
        self.cache = cache
        self.quarantine = Quarantine(documents.records)
        book = policies({"name": "default", "scope": "shared", "hit_threshold": 0.9, **policy})
        self.now = NOON
        self.risk = 0.5
        score = LiveScore(cast(Score, self) if "error_budget" in policy else None)
        self.sharing = Sharing(
            cache=cache,
            quarantine=self.quarantine,
            in_force=InForce(rules_of(book, encoding_of(score=score))),
            point=lambda category, budget: 0.0,
            clock=lambda: self.now,
        )

    # In the place of a score.

    def wrong(self, query: str, candidates: list[Any], category: str) -> list[float]:
        return [self.risk for _ in candidates]

    def point(self, category: str, budget: float) -> float:
        return 0.5

    async def store(self, id: str, tenant: str, text: str, **changes: Any) -> Entry:
        fields = {"vector": axis(0), "query": QUERY, "shared_key": "k", **changes}
        body = orjson.dumps(answer(text, id=id))
        stored = entry(id, tenant=tenant, body=body, **fields)
        await self.cache.admit(stored)
        return stored

    async def near(self, id: str, tenant: str, text: str, **changes: Any) -> Entry:
        """Store an answer to the same question in other words."""
        fields = {"vector": near(0, 0.95), "query": NEAR_QUERY, "shared_key": "n", **changes}
        return await self.store(id, tenant, text, **fields)

    async def confirm(self, id: str, tenant: str, text: str) -> Confirmation:
        return await self.sharing.confirm(await self.store(id, tenant, text))

    def approved(self) -> list[str]:
        keys = ("k", "n")
        return [held.id for key in keys for held in self.cache.twins(key) if held.approved]


async def desk_of(**policy: Any) -> Desk:
    documents = MemoryDocuments()
    cache = await Cache.open(
        documents,
        index=PartitionedIndex(DIMENSION),
        shares={"default": Share(Quota(100, 2**20), 1.0)},
        checkpoint=CHECKPOINT,
    )
    return Desk(cache, documents, **policy)


async def test_two_tenants_that_agree_confirm_both_answers() -> None:
    desk = await desk_of()
    await desk.store("0", "harbour", "At nine.")
    assert await desk.confirm("1", "airport", "at  nine.") == (2, ())
    assert desk.approved() == ["0", "1"]


async def test_two_tenants_that_differ_confirm_nothing() -> None:
    desk = await desk_of()
    await desk.store("0", "harbour", "At nine.")
    assert await desk.confirm("1", "airport", "At ten.") == (0, ())
    assert desk.approved() == []


async def test_a_tenant_cannot_confirm_itself() -> None:
    desk = await desk_of()
    await desk.store("0", "harbour", "At nine.")
    assert await desk.confirm("1", "harbour", "At nine.") == (0, ())
    assert desk.approved() == []


async def test_an_entry_that_is_gone_confirms_nothing() -> None:
    desk = await desk_of()
    await desk.store("0", "harbour", "At nine.")
    gone = await desk.store("1", "airport", "At nine.")
    await desk.cache.remove([EntryId("1")])
    assert await desk.sharing.confirm(gone) == (0, ())
    assert desk.approved() == []


async def test_an_answer_that_somebody_called_wrong_confirms_nothing() -> None:
    desk = await desk_of()
    await desk.store("0", "harbour", "At nine.")
    await desk.quarantine.add(EntryId("0"), "harbour", NOON, "feedback")
    assert await desk.confirm("1", "airport", "At nine.") == (0, ())


async def test_a_third_tenants_other_answer_keeps_two_that_agree_from_being_shared() -> None:
    desk = await desk_of()
    await desk.store("0", "station", "At ten.")
    await desk.store("1", "harbour", "At nine.")
    assert await desk.confirm("2", "airport", "At nine.") == (0, ("0",))
    assert desk.approved() == []


async def test_it_does_so_under_a_question_that_means_the_same_too() -> None:
    desk = await desk_of()
    victims = await desk.near("0", "station", "At ten.")
    await desk.store("1", "harbour", "At nine.")
    assert await desk.confirm("2", "airport", "At nine.") == (0, ("0",))
    assert desk.approved() == []
    # And the other way round: the victim's answer is not shared over the planted ones either.
    twin = await desk.near("3", "mill", "At ten.")
    assert (await desk.sharing.confirm(twin)) == (0, ("2", "1")) or desk.approved() == []
    assert set(await desk.sharing.disputed_by(victims)) == {"1", "2"}


NO_DISPUTE = [
    pytest.param({"text": "at  NINE"}, {}, id="it says the same in another spelling"),
    pytest.param({"vector": near(0, 0.85)}, {}, id="its question is too far off"),
    pytest.param({"query": "When does ferry 7 leave?"}, {}, id="a guard says it is another one"),
    pytest.param({"tenant": "harbour"}, {}, id="it is of a tenant that vouches"),
    pytest.param({"created_at": NOON - timedelta(days=9)}, {}, id="it has expired"),
    pytest.param({"category": "gone"}, {}, id="its category is gone"),
    pytest.param({"earlier": ("Which ferry?",)}, {}, id="something was said before"),
    pytest.param({"vector": None}, {}, id="it is found by its exact key only"),
    pytest.param({}, {"mode": "exact"}, id="nothing is looked up by meaning"),
]


@pytest.mark.parametrize(("changes", "policy"), NO_DISPUTE)
async def test_what_would_not_answer_the_question_disputes_nothing(
    changes: dict[str, Any], policy: dict[str, Any]
) -> None:
    desk = await desk_of(**policy)
    other = {"tenant": "station", "text": "At ten.", **changes}
    await desk.near("0", **other)
    await desk.store("1", "harbour", "At nine.")
    assert await desk.confirm("2", "airport", "At nine.") == (2, ())


async def test_a_quarantined_answer_disputes_nothing() -> None:
    desk = await desk_of()
    await desk.near("0", "station", "At ten.")
    await desk.quarantine.add(EntryId("0"), EVERYBODY, NOON, "admin")
    await desk.store("1", "harbour", "At nine.")
    assert await desk.confirm("2", "airport", "At nine.") == (2, ())


@pytest.mark.parametrize(("risk", "disputed"), [(0.5, True), (0.51, False)])
async def test_with_an_error_budget_the_score_says_what_the_same_question_is(
    risk: float, disputed: bool
) -> None:
    desk = await desk_of(error_budget=0.1)
    desk.risk = risk
    await desk.near("0", "station", "At ten.")
    await desk.store("1", "harbour", "At nine.")
    came = await desk.confirm("2", "airport", "At nine.")
    assert came.disputed_by == (("0",) if disputed else ())


async def test_what_load_would_let_through_is_the_same_question() -> None:
    load = {"latency_target_ms": 10, "threshold_floor": 0.8, "ttl_ceiling": "48h"}
    desk = await desk_of(load=load)
    await desk.near("0", "station", "At ten.", vector=near(0, 0.85))
    await desk.store("1", "harbour", "At nine.")
    assert (await desk.confirm("2", "airport", "At nine.")).disputed_by == ("0",)


async def test_an_entry_of_another_scope_is_not_disputed() -> None:
    desk = await desk_of()
    await desk.near("0", "station", "At ten.")
    assert (
        await desk.sharing.disputed_by(await desk.store("1", "harbour", "x", shared_key="")) == []
    )


def test_calls_of_tools_agree_only_as_a_whole() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}, "type": "function"}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    one = answer("", choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])
    assert agree("/v1/chat/completions", one, {**one, "id": "2"})
    assert not agree("/v1/chat/completions", one, answer("x"))
