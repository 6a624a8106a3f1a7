"""Calls and answers to count: real values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import orjson

from proxy.answer import Answer
from proxy.answer_text import Tokens
from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.outcome import Served
from proxy.rules import InForce
from proxy.wire.chat import ChatWire
from store.documents.usage import UsageRow
from store.policy import Policy, PolicyBook
from tests.encodings import rules_of
from tests.proxy.nearhits.calls import held_of

USED = Tokens(100, 10)


@cache
def _reader() -> CallReader:
    book = PolicyBook({"default": Policy(name="default")})
    return CallReader(InForce(rules_of(book)), {}, lambda model: "fake")


def call_of(*, tenant: str = "acme", model: str = "gpt-4o-mini") -> Call:
    """Return a call in the category default."""
    sent = {"model": model, "messages": [{"role": "user", "content": "When?"}]}
    request = Request(
        raw=orjson.dumps(sent), header_list=[], headers={}, query_string=b"", request_id="r1"
    )
    call = _reader().read(ChatWire(), request, Caller(tenant=tenant))
    call.place("default")
    return call


def whole_of(tokens: Tokens | None) -> dict[str, Any]:
    """Return an answer that used these tokens; None: that does not say."""
    if tokens is None:
        return {"choices": []}
    return {"usage": {"prompt_tokens": tokens.input, "completion_tokens": tokens.output}}


def hit(
    served: Served = Served.EXACT,
    tokens: Tokens | None = USED,
    cost: float = 2.0,
    id: str = "a",
) -> Answer:
    """Return a replayed answer, which took an upstream `cost` seconds."""
    body = orjson.dumps(whole_of(tokens))
    return Answer(200, [], body, served, held_of(id, cost=cost), body)


def miss(served: Served = Served.MISS, status: int = 200) -> Answer:
    """Return an upstream's answer that somebody else reads."""
    return Answer(status, [], b"{}", served)


def one(rows: Iterable[UsageRow], served: Served) -> Mapping[str, float]:
    """Return the amounts of the only row of an outcome."""
    (found,) = [row.amounts for row in rows if row.key.outcome == served]
    return found
