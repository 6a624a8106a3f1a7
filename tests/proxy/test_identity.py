"""What must match exactly does: the laws of the exact key, the partition and the context."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxy.auth import Caller
from proxy.errors import as_api_error
from proxy.identity import (
    ANSWER_HEADERS,
    InvalidJson,
    UserNotAllowed,
    asker_of,
    counted,
    entry_id,
    flight_key,
    ground_of,
    model_group,
    number_of,
    parse_body,
    partition_key,
    shared_ground_of,
    user_of,
)
from proxy.wire.base import TRANSPORT_FIELDS, InvalidRequest
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


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1", 1.0),
        ("0.5", 0.5),
        ("1.2000000000000002", 1.2000000000000002),
        ("1.00000000000000001", 1.0),
        ("18446744073709551617", 2.0**64),
        ('"1"', None),
        ("null", None),
        ("[]", None),
        ('{"a": 1}', None),
        ('{"\\u0000number": "hot"}', None),
        ('{"\\u0000number": []}', None),
    ],
)
def test_a_number_is_one_however_many_digits_it_has(written: str, number: float | None) -> None:
    assert number_of(parse_body(b'{"t": %b}' % written.encode())["t"]) == number


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


@pytest.mark.parametrize("model", ["gpt-4", '["gpt-4"]', "['gpt-4']", "('gpt-4',)"])
def test_no_model_is_a_group_whatever_it_is_called(model: str) -> None:
    def ground(model: str) -> bytes:
        found = model_group(model, {"gpt-4": ("gpt-4o",)})
        return shared_ground_of(route="/r", query_string=b"", model=found, headers={})

    assert ground(model) != ground("gpt-4o")


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


def said(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_of_earlier_turns_all_but_the_users_texts_has_to_be_equal() -> None:
    def follow_up(*past: dict[str, Any]) -> PartitionKey:
        return partition_of(chat(*past, user("and then?")))

    base = follow_up(user("a"), said("b"))
    assert follow_up(user("another"), said("b")) == base
    others = [
        follow_up(),
        follow_up(user("a")),
        follow_up(said("b")),
        follow_up(user("a"), said("c")),
        follow_up(said("b"), user("a")),
        follow_up(user("a"), user("b")),
        follow_up(user("a"), said("b"), user("a"), said("b")),
        follow_up({"role": "system", "content": "a"}, said("b")),
        follow_up({**user("a"), "name": "ann"}, said("b")),
        follow_up(user([{"type": "text", "text": "a"}]), said("b")),
        follow_up(user([{"type": "image_url", "image_url": {"url": "u"}}]), said("b")),
        follow_up(user("a"), said("b"), {"role": "developer", "content": "Be brief."}),
        follow_up(user("a"), {"role": "tool", "content": "b", "tool_call_id": "c"}),
        follow_up(user("a" * 5000), said("b")),
    ]
    assert len({base, *others}) == len(others) + 1
    assert follow_up(user("x"), said("y")).partition == base.partition


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
turns = st.one_of(
    st.builds(user, texts),
    st.builds(lambda before, text: user([{"type": "text", "text": t} for t in (before, text)]),
              texts, texts),
    st.builds(said, texts),
    st.just(user([{"type": "image_url", "image_url": {"url": "u"}}])),
    st.builds(lambda text: {"role": "tool", "tool_call_id": "c", "content": text}, texts),
    st.builds(lambda text: {"role": "developer", "content": text}, texts),
)  # fmt: skip
pasts = st.lists(turns, max_size=4).map(lambda past: [user("hello"), *past])


def blanked(past: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The past without what a user's text is, by a rule of its own."""
    bare: list[dict[str, Any]] = []
    for turn in past:
        content = turn["content"]
        if turn["role"] == "user" and isinstance(content, str):
            turn = user(None)
        elif turn["role"] == "user" and content[-1]["type"] == "text":
            turn = user([*content[:-1], None])
        bare.append(turn)
    return bare


@given(pasts, pasts)
def test_two_dialogues_share_a_context_only_if_they_differ_in_users_texts_alone(
    one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    keys = {partition_of(chat(*past, user("and then?"))) for past in (one, other)}
    assert (len(keys) == 1) == (blanked(one) == blanked(other))


@given(pasts, st.data())
def test_whatever_changes_in_an_earlier_turn_but_a_users_text_leads_elsewhere(
    past: list[dict[str, Any]], data: Any
) -> None:
    here = data.draw(st.integers(0, len(past) - 1))
    changes = [
        [*past[:here], {**past[here], "name": "changed"}, *past[here + 1 :]],
        [*past[:here], {**past[here], "role": "function"}, *past[here + 1 :]],
        [*past[:here], *past[here + 1 :]],
        [*past[: here + 1], said("more"), *past[here + 1 :]],
        [*past, past[here]],
    ]
    if past[here]["role"] != "user":
        changes.append([*past[:here], {**past[here], "content": "!"}, *past[here + 1 :]])
    base = partition_of(chat(*past, user("and then?")))
    for changed in changes:
        if blanked(changed) != blanked(past):
            assert partition_of(chat(*changed, user("and then?"))) != base


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_can_move_its_question_to_another_partition(a: str, b: str) -> None:
    assume(a.strip() and b.strip())
    assume(not any("\ud800" <= ch <= "\udfff" for ch in a + b))
    assert partition_of(chat(user(a))) == partition_of(chat(user(b)))


# -- whose it is: a tenant's, a user's, everybody's

# Names that look like another kind of name, or like what a join of two might give.
names = st.text(alphabet=st.sampled_from('ab",[]\\ \x00\n'), max_size=5) | st.sampled_from(
    ["null", "", '["a","b"]', "a", "b", 'a","b', "None"]
)
requests = st.fixed_dictionaries(
    {
        "route": st.sampled_from(["/v1/chat/completions", "/v1/messages"]),
        "query_string": st.sampled_from([b"", b"a=b"]),
        "model": names,
        "headers": st.dictionaries(st.sampled_from(ANSWER_HEADERS), st.binary(max_size=3)),
    }
)


@given(st.tuples(names, names), st.tuples(names, names), requests)
def test_two_users_share_nothing_unless_tenant_and_user_are_the_same(
    one: tuple[str, str], other: tuple[str, str], request: dict[str, Any]
) -> None:
    grounds = [ground_of(tenant=t, user=u, **request) for t, u in (one, other)]
    question = CHAT.read(chat(user("hi")))
    ids = {entry_id(ground, b"{}") for ground in grounds}
    partitions = {partition_key(ground, question).partition for ground in grounds}
    assert len(ids) == len(partitions) == (1 if one == other else 2)


@given(names, names.filter(bool), names, requests)
def test_no_user_of_a_tenant_is_another_tenant(
    tenant: str, who: str, other: str, request: dict[str, Any]
) -> None:
    of_user = ground_of(tenant=tenant, user=who, **request)
    for name in (other, tenant, tenant + who, f"{tenant},{who}", json.dumps([tenant, who])):
        assert of_user != ground_of(tenant=name, **request)


@given(names, names, requests, requests)
def test_what_is_shared_is_never_anybodys_own(
    tenant: str, who: str, own: dict[str, Any], shared: dict[str, Any]
) -> None:
    assert shared_ground_of(**shared) != ground_of(tenant=tenant, user=who, **own)


@given(requests, requests)
def test_shared_grounds_are_equal_for_equal_requests_only(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert (shared_ground_of(**one) == shared_ground_of(**other)) == (one == other)


def test_without_a_user_a_tenants_ground_is_what_it_always_was() -> None:
    assert GROUND == b'["t","/v1/chat/completions","","m",[null,null,null,null,null]]'


def test_what_was_stored_with_its_asker_in_it_is_not_found_any_more() -> None:
    request: dict[str, Any] = {"route": "/v1/responses", "query_string": b"", "model": "m"}
    for ground in (
        ground_of(tenant="t", headers={}, **request),
        shared_ground_of(headers={}, **request),
    ):
        assert b',["/v1/responses",2],' in ground


@given(st.text(max_size=4), st.text(max_size=4))
def test_calls_that_differ_in_what_tells_answers_apart_are_not_shared(one: str, other: str) -> None:
    keys = {flight_key(EntryId("a"), {"user": name}) for name in (one, other)}
    assert (len(keys) == 1) == (one == other)
    assert flight_key(EntryId("a"), {}) == "a"
    assert "a" not in keys


# -- who the user is

PLAIN = Caller(tenant="acme")
TRUSTED = Caller(tenant="acme", may_set_user=True)
OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"


def who(
    body: Any = None, header: bytes | None = None, caller: Caller = TRUSTED, route: str = OPENAI
) -> str:
    headers = {} if header is None else {b"x-nearhit-user": header}
    return user_of(caller, body or {}, headers, route=route)


def anthropic(user_id: Any) -> dict[str, Any]:
    return {"metadata": {"user_id": user_id}}


@pytest.mark.parametrize(
    ("body", "route"),
    [
        ({}, OPENAI),
        ({"user": None}, OPENAI),
        ({"user": 7}, OPENAI),
        ({"user": ["ann"]}, OPENAI),
        ({"user": ""}, OPENAI),
        ({"user": " \t\n\u3000"}, OPENAI),
        (anthropic("ann"), OPENAI),  # a client's own notes on this wire
        ({}, ANTHROPIC),
        ({"user": "ann"}, ANTHROPIC),
        ({"metadata": "ann"}, ANTHROPIC),
        ({"metadata": None}, ANTHROPIC),
        ({"metadata": {}}, ANTHROPIC),
        (anthropic(7), ANTHROPIC),
        (anthropic("  "), ANTHROPIC),
    ],
)
def test_these_name_nobody(body: dict[str, Any], route: str) -> None:
    assert who(body, route=route) == ""
    assert who(body, b" \t", route=route) == ""
    assert who(body, b"", route=route) == ""


def test_the_body_names_the_user_where_its_wire_does() -> None:
    assert who({"user": "ann"}) == who({"user": "ann"}, caller=PLAIN) != ""
    assert who(anthropic("ann"), route=ANTHROPIC) == who({"user": "ann"})
    assert who({"user": "ann"}, route="/v1/embeddings") == who({"user": "ann"})


def test_a_trusted_header_wins_over_the_body() -> None:
    assert who({"user": "bob"}, b"ann") == who({}, b"ann") == who({"user": "x" * 999}, b"ann")
    assert who({"user": "bob"}, b"ann") != who({"user": "bob"})
    assert who({"user": "bob"}, b"  ") == who({"user": "bob"})


def test_nobody_poses_in_a_body_as_a_user_whom_a_trusted_key_named() -> None:
    assert who({"user": "ann"}, caller=PLAIN) != who({}, b"ann")


@pytest.mark.parametrize("header", [b"ann", b"", b" "])
@pytest.mark.parametrize("caller", [PLAIN, Caller(tenant="default")], ids=["key", "anonymous"])
def test_a_key_that_may_not_is_refused_whatever_it_says(caller: Caller, header: bytes) -> None:
    with pytest.raises(UserNotAllowed, match="X-Nearhit-User: this key may not") as refused:
        who({"user": "ann"}, header, caller)
    told = as_api_error(refused.value)
    assert (told.status, told.type, told.param, told.code) == (
        403, "permission_error", None, "user_not_allowed",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "header", "route", "param"),
    [
        pytest.param({"user": "é" * 257}, None, OPENAI, "user", id="body"),
        pytest.param(anthropic("é" * 257), None, ANTHROPIC, "metadata.user_id", id="metadata"),
        pytest.param({}, "é".encode() * 257, OPENAI, None, id="header"),
        pytest.param({}, b"\xff" * 257, OPENAI, None, id="header that is not UTF-8"),
    ],
)
def test_a_name_may_have_256_characters(
    body: Any, header: bytes | None, route: str, param: str | None
) -> None:
    with pytest.raises(InvalidRequest, match="longer than 256 characters") as refused:
        who(body, header, route=route)
    told = as_api_error(refused.value)
    assert (told.status, told.param) == (400, param)
    assert who({"user": "é" * 256}) and who({}, "é".encode() * 256) and who({}, b"\xff" * 256)


any_text = st.text(st.characters(codec=None), min_size=1, max_size=6).filter(str.strip)


@given(st.tuples(names, any_text), st.tuples(names, any_text))
def test_users_are_the_same_only_if_tenant_and_name_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    digests = {who({"user": name}, caller=Caller(tenant=tenant)) for tenant, name in (one, other)}
    assert len(digests) == (1 if one == other else 2)


visible = st.binary(min_size=1, max_size=6).map(lambda raw: b"x" + raw)


@example(b"\xff", b"\xfe")  # neither is UTF-8
@example("ü".encode(), b"\xfc")
@given(visible, visible)
def test_header_values_are_told_apart_byte_by_byte(one: bytes, other: bytes) -> None:
    assert (who({}, one) == who({}, other)) == (one == other)


def test_the_name_itself_is_not_in_what_is_kept() -> None:
    digest = who({"user": "ann@example.com"})
    assert len(digest) == 32 and set(digest) <= set("0123456789abcdef")


# -- who asks


def asks(body: Any = None, header: bytes | None = None, **caller: Any) -> str:
    headers = {} if header is None else {b"x-nearhit-user": header}
    of = Caller(tenant=caller.pop("tenant", "acme"), may_set_user=True, **caller)
    return asker_of(of, body or {}, headers, route=OPENAI)


def test_who_asks_is_the_named_user_whatever_key_they_come_with() -> None:
    named = who({"user": "ann"})
    assert asks({"user": "ann"}, key_id="1") == asks({"user": "ann"}, key_id="2") == named
    assert asks({"user": "bob"}, b"ann") == who(header=b"ann") != named


def test_without_a_name_it_is_the_key_and_without_one_the_tenant() -> None:
    found = [asks(), asks(key_id="1"), asks(key_id="2"), asks(tenant="b"), asks({"user": "1"})]
    assert len(set(found)) == 5
    assert all(found)
    assert asks({"user": " "}, key_id="1") == asks(key_id="1")


def test_whoever_has_a_name_that_is_too_long_is_nobody_else() -> None:
    long = [asks({"user": "x" * length}, key_id="1") for length in (257, 258)]
    assert len({*long, asks(key_id="1")}) == 3
