"""Calls, entries and tiers for tests of near-hits: real values, and fakes at the edges."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import orjson

from icl.arms import Arm, Observation
from icl.context import SIZE
from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.metrics import Metrics
from proxy.nearhits.served import NearHit
from proxy.rules import InForce
from proxy.side_calls import SideCalls
from proxy.upstream_errors import UpstreamBroken
from proxy.wire.chat import ChatWire
from store.entry import Candidate, EntryId, Held, PartitionKey
from store.hot import Document
from store.policy import Policy, PolicyBook, Scope
from tests.encodings import rules_of
from tests.entries import NOON

ASKED = "How can I oil a hinge?"
TENANT = Policy(name="default", near_threshold=0.5, example_scope=Scope.TENANT)
CONTEXT = (0.0,) * (SIZE - 1) + (1.0,)


def call_of(
    *policies: Policy,
    category: str = "default",
    tenant: str = "harbour",
    body: Mapping[str, Any] | None = None,
    headers: Mapping[bytes, bytes] | None = None,
    upstream_key: str | None = None,
) -> Call:
    """Return a call in this category; without policies there is one that shows the tenant's."""
    book = PolicyBook({policy.name: policy for policy in policies or (TENANT,)})
    sent = {"model": "large", "messages": [{"role": "user", "content": ASKED}], **(body or {})}
    named = dict(headers or {})
    request = Request(
        raw=orjson.dumps(sent),
        header_list=list(named.items()),
        headers=named,
        query_string=b"",
        request_id="r1",
    )
    reader = CallReader(InForce(rules_of(book)), {}, lambda model: "")
    call = reader.read(ChatWire(), request, Caller(tenant=tenant, upstream_key=upstream_key))
    call.place(category)
    return call


def held_of(id: str, **changes: Any) -> Held:
    """Return an entry of the tenant harbour, a minute old, asked by a user called u."""
    fields: dict[str, Any] = {
        "id": EntryId(id),
        "key": PartitionKey("p", ""),
        "tenant": "harbour",
        "category": "default",
        "query": f"How do I oil hinge {id}?",
        "created_at": NOON - timedelta(minutes=1),
        "size": 1,
        "model": "large",
        "user": "u",
    }
    return Held(**(fields | changes))


def near_by(id: str, similarity: float = 0.8, **changes: Any) -> Candidate:
    return Candidate(held_of(id, **changes), similarity)


def chat_answer(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


class Shelf:
    """What the tier needs of a cache: what is held, what it says, and what is slow to be read."""

    def __init__(self, *found: Held, says: Mapping[str, str] | None = None) -> None:
        self.held = {each.id: each for each in found}
        self.says = dict(says or {})
        self.reads: list[EntryId] = []
        self.slow: set[str] = set()

    def exact(self, id: EntryId) -> Held | None:
        return self.held.get(id)

    async def document(self, id: EntryId) -> Document | None:
        self.reads.append(id)
        if id in self.slow:
            await asyncio.sleep(30)
        if id not in self.held:
            return None
        return Document(chat_answer(self.says.get(id, f"With oil {id}.")), "application/json")


class Panel:
    """Side calls that are answered from lists, and noted; a judge's replies are scores of A."""

    def __init__(self, *replies: str | None, again: str | None = "large says so") -> None:
        self.replies = list(replies)
        self.fresh = again
        self.asked: list[tuple[str, str]] = []  # (model, last message)
        self.exhausted = False
        self.broken = False
        self.most: int | None = None  # calls that the budget is enough for

    async def again(self, call: Call) -> str | None:
        return self._answer("again", call.question.text, self.fresh)

    async def chat(self, call: Call | None, model: str, messages: Any) -> str | None:
        reply = self.replies.pop(0) if self.replies else None
        return self._answer(model, messages[-1]["content"], reply)

    async def instead(self, call: Call, model: str, body: Any) -> Any:
        text = await self.chat(call, model, body["messages"])
        return None if text is None else orjson.loads(chat_answer(text))

    def _answer(self, model: str, asked: str, reply: str | None) -> str | None:
        self.asked.append((model, asked))
        if self.broken:
            raise UpstreamBroken("out of order")
        if self.most is not None and len(self.asked) >= self.most:
            self.exhausted = True
        return reply

    @property
    def as_side_calls(self) -> SideCalls:
        return cast(SideCalls, self)


def near_hit(**changes: Any) -> NearHit:
    fields: dict[str, Any] = {
        "at": NOON.timestamp(),
        "tenant": "harbour",
        "request_id": "r1",
        "asked": EntryId("q1"),
        "category": "default",
        "small": "small",
        "arm": Arm.EXAMPLES,
        "context": CONTEXT,
        "examples": (EntryId("a"),),
        "features": (),
        "level": 0.3,
        "tokens": 12,
    }
    return NearHit(**(fields | changes))


def observation(quality: float = 1.0, **changes: Any) -> Observation:
    fields: dict[str, Any] = {
        "category": "default",
        "small": "small",
        "arm": Arm.EXAMPLES,
        "context": CONTEXT,
        "quality": quality,
        "weight": 1.0,
        "examples": (EntryId("a"),),
        "at": NOON.timestamp(),
        "level": 0.3,
        "tokens": 12,
    }
    return Observation(**(fields | changes))


def counts(metrics: Metrics, name: str) -> dict[str, float]:
    """Return a counter's values above zero by its label `outcome`."""
    return {
        sample.labels["outcome"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }
