"""What a request itself says against looking it up and storing it, whatever is stored."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.outcome import skip_reason
from proxy.rules import InForce
from proxy.wire import WIRES
from store.policy import Policy, PolicyBook
from tests.encodings import rules_of

QUESTION = b'"messages": [{"role": "user", "content": "Why?"}]'


def asked(fields: bytes, path: str = "/v1/chat/completions", **policy: Any) -> Call:
    """Return a placed call with these fields, as they were written, under this policy."""
    request = Request(
        raw=b'{"model": "m", %b}' % fields,
        header_list=[],
        headers={},
        query_string=b"",
        request_id="r",
    )
    book = PolicyBook({"default": Policy(name="default", **policy)})
    call = CallReader(InForce(rules_of(book)), {}, lambda model: "").read(
        WIRES[path], request, Caller(tenant="t")
    )
    call.place("default")
    return call


@pytest.mark.parametrize(
    ("temperature", "limit", "reason"),
    [
        pytest.param(b"1.0", 1.0, None, id="at the limit"),
        pytest.param(b"1.01", 1.0, "temperature", id="above the limit"),
        pytest.param(b"null", 1.0, None, id="null counts as one"),
        pytest.param(b"null", 0.9, "temperature", id="null counts as one and is above the limit"),
        pytest.param(b"0.7000000000000001", 1.0, None, id="below the limit in many digits"),
        pytest.param(b"1.2000000000000002", 1.0, "temperature", id="above it in many digits"),
        pytest.param(b"12345678901234567890", 1.0, "temperature", id="above it by far"),
        pytest.param(b'"0.5"', 1.0, "temperature", id="a text is no number"),
        pytest.param(b"[0.5]", 1.0, "temperature", id="a list is no number"),
        pytest.param(b'{"\\u0000number": "nan"}', 1.0, "temperature", id="what is not below it"),
    ],
)
def test_a_temperature_that_is_not_known_to_be_low_keeps_the_cache_out(
    temperature: bytes, limit: float, reason: str | None
) -> None:
    call = asked(b'"temperature": %b, %b' % (temperature, QUESTION), max_temperature=limit)
    assert skip_reason(call) == reason


def test_an_embedding_has_no_temperature() -> None:
    call = asked(b'"temperature": "hot", "input": "Why?"', "/v1/embeddings")
    assert skip_reason(call) is None
