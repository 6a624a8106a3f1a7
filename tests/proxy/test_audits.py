"""The queue of audits: what gets into it, what it does with it, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from msgspec import structs

from proxy.audit_records import AuditRecords
from proxy.audits import Audits, may_audit
from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.headers import CacheControl
from proxy.kept_budgets import KeptBudgets
from proxy.metrics import Metrics
from proxy.rules import InForce
from proxy.side_calls import SideCalls
from proxy.spending import Price, Spending
from proxy.upstream import Upstreams, UpstreamSpec
from proxy.wire.chat import ChatWire
from store.cache import Cache
from store.decision.budgets import Budgets
from store.documents.base import held_of
from store.entry import Candidate, Entry, EntryId, Held
from store.index import PartitionedIndex
from store.policy import Mode, Policy, PolicyBook
from store.quarantine import Quarantine
from tests.encodings import rules_of
from tests.entries import CHECKPOINT, DIMENSION, NOON, entry
from tests.fake_answers import Say, Script, chat_json
from tests.fake_upstream import FakeUpstream
from tests.fakes_documents import MemoryDocuments

pytestmark = pytest.mark.serial

QUESTION = "when does ferry x leave?"


def book_of(**changes: Any) -> PolicyBook:
    default = Policy(name="default", error_budget=0.01)
    return PolicyBook({"default": replace(default, **changes), "quiet": Policy(name="quiet")})


def call_in(book: PolicyBook, question: str = QUESTION, tenant: str = "harbour") -> Call:
    body = {"model": "gull-2", "messages": [{"role": "user", "content": question}]}
    headers = [(b"content-type", b"application/json")]
    request = Request(
        raw=orjson.dumps(body),
        header_list=headers,
        headers=dict(headers),
        query_string=b"",
        request_id="req-1",
    )
    reader = CallReader(InForce(rules_of(book)), {}, lambda model: "fake")
    call = reader.read(ChatWire(), request, Caller(tenant=tenant))
    call.place("default")
    return call


class Ground:
    """Audits over a real cache and a fake upstream; every draw wins unless told otherwise."""

    def __init__(self, upstream: FakeUpstream, upstreams: Upstreams, cache: Cache) -> None:
        self.upstream = upstream
        self.book = book_of()
        self.documents = MemoryDocuments()
        records = self.documents.records
        self.records = records
        self.quarantine = Quarantine(records)
        in_force = InForce(rules_of(self.book))
        self.kept = KeptBudgets(Budgets(lambda *_: 0.2, judge="judge-1"), records, in_force)
        self.metrics = Metrics(self.book.names, [])
        self.spending = Spending([], Price("*", 1.0, 1.0), 1.0)
        self.cache = cache
        self.luck = 0.0
        self.audits = Audits(
            model="judge-1",
            budgets=self.kept,
            side_calls=SideCalls(upstreams, self.spending, keys_configured=False),
            cache=cache,
            records=AuditRecords(records, self.quarantine),
            metrics=self.metrics,
            clock=lambda: NOON,
            draw=lambda: self.luck,
            max_waiting=3,
        )

    def count(self, kind: str, outcome: str) -> int:
        return int(self.metrics.audits.labels("default", kind, outcome)._value.get())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 - a counter tells nobody when it counts
                await asyncio.sleep(0.01)

    async def stored(self, id: str, text: str, **changes: Any) -> Candidate:
        """Store an answer and return it as found by meaning."""
        say = Say("1", 1, "gull-2", "", Script(text=text, **changes), {})
        stored: Entry = entry(id, body=orjson.dumps(chat_json(say)))
        await self.cache.admit(stored)
        held = self.cache.exact(EntryId(id))
        assert held is not None
        return Candidate(held, 0.95)


@asynccontextmanager
async def standing() -> AsyncIterator[Ground]:
    async with FakeUpstream() as upstream:
        spec = UpstreamSpec(name="fake", models=("*",), base_url=upstream.base_url, max_retries=0)
        async with Upstreams([spec]) as upstreams:
            index = PartitionedIndex(DIMENSION)
            cache = await Cache.open(
                MemoryDocuments(), index=index, shares=book_of().shares, checkpoint=CHECKPOINT
            )
            ground = Ground(upstream, upstreams, cache)
            try:
                yield ground
            finally:
                await ground.audits.aclose()
                await cache.aclose()
                await index.aclose()


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with standing() as ground:
        yield ground


async def test_a_full_queue_drops_and_counts(ground: Ground) -> None:
    call, found = call_in(ground.book), await ground.stored("a", "At nine.")
    for _ in range(10):
        ground.audits.consider(call, found, 0.05)
    assert ground.audits.waiting == 3
    assert ground.count("hit", "dropped") == 7


async def test_only_drawn_hits_are_audited(ground: Ground) -> None:
    call, found = call_in(ground.book), await ground.stored("a", "At nine.")
    ground.luck = 0.2  # the first rate
    ground.audits.consider(call, found, 0.05)
    assert ground.audits.waiting == 0
    ground.luck = 0.19
    ground.audits.consider(call, found, 0.05)
    assert ground.audits.waiting == 1


async def test_stopping_gives_up_what_runs_and_what_waits(ground: Ground) -> None:
    ground.upstream.default = Script(delay=30)
    call, found = call_in(ground.book), await ground.stored("a", "At nine.")
    for _ in range(3):
        ground.audits.consider(call, found, 0.05)
    ground.audits.start()
    await ground.until(lambda: ground.upstream.open_now == 2)  # one a worker
    began = time.monotonic()
    await ground.audits.aclose()
    assert time.monotonic() - began < 1
    await ground.until(lambda: ground.upstream.open_now == 0)
    assert ground.kept.standing("default").audits == 0


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script(status=429), "failed"),
        (Script(body=b"<html>"), "failed"),
        (Script(drop=True), "failed"),
        (Script(finish_reason="length"), "unreadable"),
        (Script(tool_calls=(("tide", {}),)), "unreadable"),
    ],
)
async def test_a_fresh_answer_that_is_none_decides_nothing(
    ground: Ground, script: Script, outcome: str
) -> None:
    ground.upstream.default = script
    ground.audits.start()
    found = await ground.stored("a", "At nine.")
    ground.audits.consider(call_in(ground.book), found, 0.05)
    await ground.until(lambda: ground.count("hit", outcome) == 1)
    assert ground.kept.standing("default").audits == 0


async def test_a_stored_tool_call_is_not_judged(ground: Ground) -> None:
    ground.audits.start()
    found = await ground.stored("a", "", tool_calls=(("tide", {}),))
    ground.audits.consider(call_in(ground.book), found, 0.05)
    await ground.until(lambda: ground.count("hit", "unreadable") == 1)
    assert ground.upstream.calls == []


async def test_an_entry_that_is_gone_is_not_judged(ground: Ground) -> None:
    found = await ground.stored("a", "At nine.")
    ground.audits.consider(call_in(ground.book), found, 0.05)
    await ground.cache.remove([EntryId("a")])
    ground.audits.start()
    await ground.until(lambda: ground.count("hit", "gone") == 1)
    assert ground.upstream.calls == []


async def test_an_answer_that_another_has_replaced_since_it_was_served_is_not_judged(
    ground: Ground,
) -> None:
    """What stands in its place may be right, and says nothing of what was served."""
    found = await ground.stored("a", "At nine.")
    ground.audits.consider(call_in(ground.book), found, 0.05)
    say = Say("1", 1, "gull-2", "", Script(text="At ten."), {})
    later = NOON + timedelta(seconds=9)
    await ground.cache.admit(entry("a", body=orjson.dumps(chat_json(say)), created_at=later))
    ground.upstream.default = Script(text="At ten.")
    ground.audits.start()
    await ground.until(lambda: ground.count("hit", "gone") == 1)
    assert ground.kept.standing("default").audits == 0


async def test_one_audit_that_fails_does_not_stop_the_next(ground: Ground) -> None:
    ground.documents.failing = True  # the records cannot be written
    ground.upstream.default = Script(text="At nine.")
    ground.audits.start()
    found = await ground.stored("a", "At nine.")
    ground.audits.consider(call_in(ground.book), found, 0.05)
    await ground.until(lambda: ground.count("hit", "failed") == 1)
    ground.documents.failing = False
    ground.audits.consider(call_in(ground.book), found, 0.05)
    await ground.until(lambda: ground.count("hit", "right") == 1)
    assert ground.kept.standing("default").audits == 2  # the verdict itself was taken


async def test_undecided_verdicts_are_counted_and_not_weighed(ground: Ground) -> None:
    def choose(call: Any) -> Script:
        return Script(text="perhaps" if call.body["model"] == "judge-1" else "At ten.")

    ground.upstream.choose = choose
    ground.audits.start()
    found = await ground.stored("a", "At nine.")
    ground.audits.consider(call_in(ground.book), found, 0.05)
    await ground.until(lambda: ground.count("hit", "undecided") == 1)
    assert [call.body["model"] for call in ground.upstream.calls].count("judge-1") == 4
    assert ground.kept.standing("default").audits == 0
    assert len(ground.quarantine) == 0


async def test_a_near_miss_that_a_guard_forbids_is_none(ground: Ground) -> None:
    call = call_in(ground.book, "when do 3 ferries leave?")
    answer = chat_json(Say("1", 1, "m", "", Script(text="At ten."), {}))
    for query, waiting in (("when do 4 ferries leave?", 0), ("when will 3 ferries leave?", 1)):
        near = await ground.stored("a", "At nine.")
        near = Candidate(structs.replace(near.held, query=query), 0.9)
        ground.audits.consider_near_miss(call, near, answer)
        assert ground.audits.waiting == waiting


async def test_near_misses_of_a_closed_category_speak_for_opening_it(ground: Ground) -> None:
    live = ground.kept.live
    for _ in range(200):
        live.controlled("default", 0.01, wrong=False)
    for _ in range(200):
        live.audited("default", 0.01, live.sample("default", 0.01), risk=0.0, wrong=True)
    assert live.point("default", 0.01) == 0.0
    category = live._categories["default"]
    before = category.evidence.audits
    ground.audits.start()
    near = await ground.stored("a", "At nine.")
    answer = chat_json(Say("1", 1, "m", "", Script(text="at nine"), {}))
    ground.luck = 0.19  # more often than other near-misses
    ground.audits.consider_near_miss(call_in(ground.book), near, answer, 0.0005)
    await ground.until(lambda: ground.count("near-miss", "right") == 1)
    assert category.evidence.audits == before + 1
    assert ground.upstream.calls == []
    ground.audits.consider_near_miss(call_in(ground.book), near, answer)
    assert ground.audits.waiting == 0


async def test_near_misses_that_complaints_withhold_are_judged_as_often_as_hits(
    ground: Ground,
) -> None:
    for _ in range(4):
        ground.kept.live.complained("default", 0.01)
    call, near = call_in(ground.book), await ground.stored("a", "At nine.")
    answer = chat_json(Say("1", 1, "m", "", Script(text="at nine"), {}))
    ground.luck = 0.19
    ground.audits.consider_near_miss(call, near, answer, 0.3)  # would not have been served anyway
    assert ground.audits.waiting == 0
    ground.audits.start()
    ground.audits.consider_near_miss(call, near, answer, 0.15)
    await ground.until(lambda: ground.count("near-miss", "right") == 1)
    assert ground.kept.standing("default").tightened == pytest.approx(0.5**3.95)


# -- what may be audited


def held_in(category: str = "default") -> Held:
    return held_of(entry("a", category=category))


def test_an_ordinary_call_may_be_audited() -> None:
    assert may_audit(call_in(book_of()), held_in())


@pytest.mark.parametrize("changes", [{"audit": False}, {"mode": Mode.OFF}, {"mode": Mode.EXACT}])
def test_a_category_can_forbid_it(changes: dict[str, Any]) -> None:
    assert not may_audit(call_in(book_of(**changes)), held_in())


def test_so_can_the_category_of_the_stored_answer() -> None:
    book = book_of()
    assert may_audit(call_in(book), held_in("quiet"))
    silent = PolicyBook({**book.policies, "quiet": Policy(name="quiet", audit=False)})
    assert not may_audit(call_in(silent), held_in("quiet"))
    assert not may_audit(call_in(book), held_in("gone"))


@pytest.mark.parametrize("wish", [CacheControl(no_store=True), CacheControl(only_if_cached=True)])
def test_so_can_the_client(wish: CacheControl) -> None:
    call = call_in(book_of())
    call.directives = wish
    assert not may_audit(call, held_in())


def test_a_very_large_request_is_not_sent_again() -> None:
    assert not may_audit(call_in(book_of(), "x" * 70_000), held_in())
