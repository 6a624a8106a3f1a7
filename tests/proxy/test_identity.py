"""What must match exactly does: the laws of the exact key, the partition and the context."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.identity import (
    ANSWER_HEADERS,
    InvalidJson,
    counted,
    entry_id,
    ground_of,
    model_group,
    parse_body,
    partition_key,
)
from proxy.wire.base import TRANSPORT_FIELDS
from proxy.wire.chat import ChatWire
from store.entry import EntryId, PartitionKey

CHAT = ChatWire()
GROUND = ground_of(
    tenant="t", route="/v1/chat/completions", query_string=b"", model="m", headers={}
)

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=6)
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
bodies = st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=5)


def id_of(body: dict[str, Any], ground: bytes = GROUND, **layout: Any) -> EntryId:
    return entry_id(ground, counted(parse_body(json.dumps(body, **layout).encode())))


def partition_of(body: dict[str, Any]) -> PartitionKey:
    return partition_key(GROUND, CHAT.read(parse_body(orjson.dumps(body))))


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **fields}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


@given(bodies, st.randoms())
def test_key_order_and_whitespace_do_not_matter(body: dict[str, Any], random: Any) -> None:
    items = list(body.items())
    random.shuffle(items)
    assert id_of(dict(items), indent=3, separators=(" , ", " : ")) == id_of(body)


@given(bodies, st.sampled_from(sorted(TRANSPORT_FIELDS)), values)
def test_the_transport_fields_do_not_matter(body: dict[str, Any], field: str, value: Any) -> None:
    assert id_of({**body, field: value}) == id_of({k: v for k, v in body.items() if k != field})


@given(bodies, st.text(min_size=1, max_size=8), values)
def test_every_other_field_matters(body: dict[str, Any], field: str, value: Any) -> None:
    assume(field not in TRANSPORT_FIELDS | {"model"} and field not in body)
    assert id_of({**body, field: value}) != id_of(body)


@given(bodies, bodies)
def test_two_bodies_share_an_id_only_if_they_are_equal(
    a: dict[str, Any], b: dict[str, Any]
) -> None:
    def compared(body: dict[str, Any]) -> str:
        kept = {k: v for k, v in body.items() if k not in TRANSPORT_FIELDS | {"model"}}
        return json.dumps(kept, sort_keys=True)

    assert (id_of(a) == id_of(b)) == (compared(a) == compared(b))


def test_the_transport_fields_count_when_they_are_nested() -> None:
    assert id_of({"a": {"user": "x"}}) != id_of({"a": {"user": "y"}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (18446744073709551616, 18446744073709551617),
        (9007199254740993, 9007199254740992),
        (1.00000000000000001, "1.00000000000000001"),
    ],
)
def test_numbers_beyond_64_bits_stay_apart(one: Any, other: Any) -> None:
    assert id_of({"seed": one}) != id_of({"seed": other})


def test_texts_are_not_lower_cased_or_stripped() -> None:
    assert len({id_of(chat(user(text))) for text in ("hi", "Hi", "hi ", "hi\n", "ｈｉ")}) == 5


@given(st.dictionaries(st.sampled_from(ANSWER_HEADERS), st.binary(max_size=4)))
def test_answer_changing_headers_matter(headers: dict[bytes, bytes]) -> None:
    with_them = ground_of(tenant="t", route="/r", query_string=b"", model="m", headers=headers)
    without = ground_of(tenant="t", route="/r", query_string=b"", model="m", headers={})
    assert (with_them == without) == (not headers)


def test_the_tenant_the_route_the_query_string_and_the_model_matter() -> None:
    base: dict[str, Any] = {
        "tenant": "t", "route": "/r", "query_string": b"", "model": "m", "headers": {}
    }  # fmt: skip
    grounds = [ground_of(**base)] + [
        ground_of(**{**base, field: value})
        for field, value in [
            ("tenant", "u"),
            ("route", "/s"),
            ("query_string", b"a"),
            ("model", "n"),
        ]
    ]
    assert len({entry_id(ground, b"{}") for ground in grounds}) == 5


@given(st.text(), st.text(), st.text(), st.text())
def test_no_two_grounds_run_into_each_other(a: str, b: str, c: str, d: str) -> None:
    assume((a, b) != (c, d) and "\ud800" <= "\udfff")
    assume(not any("\ud800" <= ch <= "\udfff" for ch in a + b + c + d))
    one = ground_of(tenant=a, route=b, query_string=b"", model="m", headers={})
    other = ground_of(tenant=c, route=d, query_string=b"", model="m", headers={})
    assert one != other


def test_models_of_one_group_share_and_others_do_not() -> None:
    groups = {"gpt-4o": ("gpt-4o", "gpt-4o-2024-*")}
    assert model_group("gpt-4o-2024-08-06", groups) == model_group("gpt-4o", groups)
    assert model_group("gpt-4o-mini", groups) == "gpt-4o-mini"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1]", b'"text"', b"null", b'{"a": NaN}', b'{"a": "\xff"}', b"[" * 5000]
)
def test_what_is_not_a_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse_body(raw)


def test_nesting_that_cannot_be_written_back_is_refused() -> None:
    with pytest.raises(InvalidJson):
        counted(parse_body(b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"))


def test_only_the_last_user_text_may_differ_within_a_partition() -> None:
    system = {"role": "system", "content": "Be brief."}
    base = partition_of(chat(system, user("one")))
    assert partition_of(chat(system, user("another"))) == base
    others = [
        chat({"role": "system", "content": "Be brief!"}, user("one")),
        chat(user("one")),
        chat(system, user("one"), tools=[{"type": "function", "function": {"name": "f"}}]),
        chat(system, user("one"), response_format={"type": "json_object"}),
        chat(system, user("one"), temperature=0.5),
        chat(system, user("one"), unknown_field=1),
        chat(system, {"role": "user", "content": "one", "name": "ann"}),
        chat(system, user([{"type": "text", "text": "one"}])),
        chat(system, user("before"), {"role": "assistant", "content": "a"}, user("one")),
    ]
    keys = {partition_of(body) for body in others}
    assert len(keys) == len(others)
    assert base not in keys


def test_every_earlier_turn_counts() -> None:
    def follow_up(first: str, reply: str) -> PartitionKey:
        return partition_of(
            chat(user(first), {"role": "assistant", "content": reply}, user("and then?"))
        )

    assert follow_up("a", "b") == follow_up("a", "b")
    assert len({follow_up("a", "b"), follow_up("A", "b"), follow_up("a", "c")}) == 3
    assert follow_up("a", "b").partition == follow_up("x", "y").partition


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_can_move_its_question_to_another_partition(a: str, b: str) -> None:
    assume(a.strip() and b.strip())
    assume(not any("\ud800" <= ch <= "\udfff" for ch in a + b))
    assert partition_of(chat(user(a))) == partition_of(chat(user(b)))
