"""A body that is remembered tells the keys that it would tell when read for the first time."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.identity import ANSWER_HEADERS
from proxy.rules import InForce
from proxy.wire import WIRES
from proxy.wire.base import Json
from store.policy import Policy, PolicyBook
from tests.encodings import encoding_of, rules_of

TEXTS = ("Is the ferry late?", "When does it sail?")
ASKED = st.tuples(
    st.sampled_from(["/v1/chat/completions", "/v1/responses"]),
    st.sampled_from(["harbour", "city"]),
    st.sampled_from(["gull-1", "gull-2"]),
    st.sampled_from(TEXTS),
    st.sampled_from([b"", b"api-version=2"]),
    st.dictionaries(
        st.sampled_from([*ANSWER_HEADERS, b"x-other"]), st.sampled_from([b"", b"a", b"b"])
    ),
)


def reader() -> CallReader:
    rules = rules_of(PolicyBook({"default": Policy(name="default")}), encoding_of())
    return CallReader(InForce(rules), {"gulls": ("gull-2*",)}, lambda model: "")


def read(by: CallReader, asked: tuple[str, str, str, str, bytes, dict[bytes, bytes]]) -> Call:
    route, tenant, model, text, query, headers = asked
    messages: Json = [{"role": "user", "content": text}]
    said: dict[str, Json] = {"messages": messages} if "chat" in route else {"input": text}
    request = Request(
        raw=orjson.dumps({"model": model, **said}),
        header_list=list(headers.items()),
        headers=headers,
        query_string=query,
        request_id="r",
    )
    return by.read(WIRES[route], request, Caller(tenant=tenant))


@given(st.lists(ASKED, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_whatever_was_asked_before_a_request_has_the_keys_that_it_has_alone(
    requests: list[tuple[str, str, str, str, bytes, dict[bytes, bytes]]],
) -> None:
    one = reader()
    for asked in requests:
        before, alone = read(one, asked), read(reader(), asked)
        assert (before.id, before.ground, before.partition) == (
            alone.id,
            alone.ground,
            alone.partition,
        )
