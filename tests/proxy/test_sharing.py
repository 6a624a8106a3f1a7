"""Two tenants' answers agree when they say the same, whatever their ids and counts are."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.sharing import confirm, gist
from store.cache import Cache
from store.entry import EntryId
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from tests.entries import CHECKPOINT, DIMENSION, entry
from tests.fakes_documents import MemoryDocuments


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


async def holding(*tenants_and_texts: tuple[str, str]) -> Cache:
    documents = MemoryDocuments()
    cache = await Cache.open(
        documents,
        index=PartitionedIndex(DIMENSION),
        shares={"default": Share(Quota(100, 2**20), 1.0)},
        checkpoint=CHECKPOINT,
    )
    for number, (tenant, text) in enumerate(tenants_and_texts):
        body = orjson.dumps(answer(text, id=str(number)))
        await cache.admit(entry(str(number), tenant=tenant, body=body, shared_key="k"))
    return cache


def approved(cache: Cache) -> list[str]:
    return [held.id for held in cache.twins("k") if held.approved]


async def test_two_tenants_that_agree_confirm_both_answers() -> None:
    cache = await holding(("harbour", "At nine."), ("airport", "at  nine."))
    assert await confirm(cache, EntryId("1"), "k", answer("at nine.")) == 2
    assert approved(cache) == ["0", "1"]


async def test_two_tenants_that_differ_confirm_nothing() -> None:
    cache = await holding(("harbour", "At nine."), ("airport", "At ten."))
    assert await confirm(cache, EntryId("1"), "k", answer("At ten.")) == 0
    assert approved(cache) == []


async def test_a_tenant_cannot_confirm_itself() -> None:
    cache = await holding(("harbour", "At nine."), ("harbour", "At nine."))
    assert await confirm(cache, EntryId("1"), "k", answer("At nine.")) == 0
    assert approved(cache) == []


async def test_an_entry_that_is_gone_confirms_nothing() -> None:
    cache = await holding(("harbour", "At nine."), ("airport", "At nine."))
    await cache.remove([EntryId("1")])
    assert await confirm(cache, EntryId("1"), "k", answer("At nine.")) == 0
    assert approved(cache) == []
