"""Rules that nobody gets around, then the header, then the other rules, then the vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.category import Allowed, Told, choosable, told
from proxy.errors import ApiError
from store.match import Traits
from store.policy import PolicyBook, Scope
from store.policy_file import parse_policies


def book(*categories: dict[str, Any]) -> PolicyBook:
    return parse_policies({"categories": list(categories)}, "test")


def decide(
    book: PolicyBook, traits: Callable[[], Traits], asked: bytes | None, allowed: Allowed
) -> str | None:
    return told(book, traits, asked, allowed)[0]


def says(text: str, *before: str, tenant: str = "acme", model: str = "m", **headers: str) -> Traits:
    """A request with this query, and what its user said before it."""
    return Traits(
        model=model,
        tenant=tenant,
        path="/v1/chat/completions",
        headers={k.replace("_", "-").encode(): v.encode() for k, v in headers.items()},
        text=text.encode(),
        said=tuple(each.encode() for each in before),
    )


def unread() -> Traits:
    raise AssertionError("nothing of the request has to be looked at")


OFF = {"name": "private", "mode": "off", "match": [{"regex": "(?i)my iban is"}]}
LOCKED = {"name": "audited", "locked": True, "match": [{"tenant": "bank-*"}]}
CODE = {"name": "code", "match": [{"model": "coder-*"}, {"header": {"x-team": "dev*"}}]}
CHAT = {"name": "chat", "match": [{"path": "/v1/chat/*"}], "examples": ["How are you?"]}
FAQ = {"name": "faq", "examples": ["What are your opening hours?"]}
POOL = {"name": "pool", "scope": "shared"}


def test_without_rules_header_and_examples_it_is_the_default_and_nothing_is_read() -> None:
    assert decide(book({"name": "a"}), unread, None, None) == "default"


def test_the_vector_has_to_tell_as_soon_as_one_category_has_examples() -> None:
    assert decide(book({"name": "a"}, FAQ), unread, None, None) is None


def test_the_header_chooses() -> None:
    assert decide(book(FAQ, {"name": "a"}), unread, b" a ", None) == "a"


def test_a_category_that_is_off_and_has_no_rules_may_be_chosen() -> None:
    assert decide(book({"name": "secret", "mode": "off"}), unread, b"secret", None) == "secret"


@pytest.mark.parametrize("asked", [None, b"faq", b"default"])
def test_no_header_gets_around_a_category_that_is_off(asked: bytes | None) -> None:
    request = says("Hi! My IBAN is wrong on the form.")
    assert decide(book(FAQ, OFF), lambda: request, asked, None) == "private"


@pytest.mark.parametrize("asked", [None, b"faq", b"default"])
def test_a_category_that_is_off_has_whatever_its_users_said_before(asked: bytes | None) -> None:
    request = says("And if it is not?", "Hello.", "Hi! My IBAN is DE1.", "Is it valid?")
    assert told(book(FAQ, OFF), lambda: request, asked, None) == ("private", Told.FIRST_RULE)


@pytest.mark.parametrize("more", [{"locked": True}, {"mode": "exact"}, {}], ids=str)
def test_any_other_category_is_told_from_the_question_alone(more: dict[str, Any]) -> None:
    request = says("And if it is not?", "Hi! My IBAN is DE1.")
    assert decide(book(OFF | {"mode": "semantic"} | more), lambda: request, None, None) == "default"


@pytest.mark.parametrize("asked", [None, b"faq", b"default"])
def test_no_header_gets_around_a_locked_category(asked: bytes | None) -> None:
    request = says("hello", tenant="bank-7")
    assert decide(book(FAQ, LOCKED), lambda: request, asked, None) == "audited"


def test_the_header_goes_before_rules_that_are_not_locked() -> None:
    request = says("hello", model="coder-7b")
    assert decide(book(CODE, FAQ), lambda: request, b"faq", None) == "faq"
    assert decide(book(CODE, FAQ), lambda: request, None, None) == "code"


def test_a_header_spares_the_rules_that_could_not_change_anything() -> None:
    assert decide(book(CODE, FAQ), unread, b"faq", None) == "faq"


def test_any_rule_of_a_category_is_enough() -> None:
    request = says("hello", x_team="devops")
    assert decide(book(CODE), lambda: request, None, None) == "code"


def test_rules_are_asked_in_the_order_of_the_book() -> None:
    request = says("hello", model="coder-7b")
    assert decide(book(CODE, CHAT), lambda: request, None, None) == "code"
    assert decide(book(CHAT, CODE), lambda: request, None, None) == "chat"


def test_rules_that_cannot_be_got_around_are_asked_in_the_order_of_the_book() -> None:
    request = says("my IBAN is in here", tenant="bank-7")
    assert decide(book(OFF, LOCKED), lambda: request, None, None) == "private"
    assert decide(book(LOCKED, OFF), lambda: request, None, None) == "audited"


def test_when_no_rule_matches_the_vector_has_to_tell() -> None:
    request = says("hello", model="other")
    assert decide(book(CODE, OFF, LOCKED, FAQ), lambda: request, None, None) is None


def test_when_no_rule_matches_and_nothing_has_examples_it_is_the_default() -> None:
    request = says("hello", model="other")
    assert decide(book(CODE, OFF), lambda: request, None, None) == "default"


@pytest.mark.parametrize("asked", [b"", b"FAQ", b"faq, code", b"\xff\xfe", b"none"])
def test_an_unknown_category_is_refused_with_the_known_ones(asked: bytes) -> None:
    with pytest.raises(ApiError, match="is unknown; known: faq, code, default") as raised:
        decide(book(FAQ, CODE), unread, asked, None)
    assert (raised.value.status, raised.value.code) == (400, "unknown_category")


def test_an_unknown_category_is_refused_even_where_a_rule_would_rule() -> None:
    with pytest.raises(ApiError, match="is unknown"):
        decide(book(OFF), lambda: says("my IBAN is"), b"nope", None)


def test_a_key_chooses_only_what_it_names_and_the_default() -> None:
    allowed = frozenset({"faq", "long-gone"})
    assert decide(book(FAQ, CODE), unread, b"faq", allowed) == "faq"
    assert decide(book(FAQ, CODE), unread, b"default", allowed) == "default"
    with pytest.raises(ApiError, match="may not choose 'code'; it may choose: default, faq$") as e:
        decide(book(FAQ, CODE), unread, b"code", allowed)
    assert (e.value.status, e.value.type) == (403, "permission_error")
    assert e.value.code == "category_not_allowed"


def test_a_key_without_a_list_chooses_anything_but_what_is_shared() -> None:
    shared = book(FAQ, POOL, {"name": "own", "scope": "user"})
    assert decide(shared, unread, b"own", None) == "own"
    with pytest.raises(ApiError, match="it may choose: default, faq, own$"):
        decide(shared, unread, b"pool", None)


def test_a_shared_category_is_chosen_by_a_key_that_names_it() -> None:
    assert decide(book(POOL), unread, b"pool", frozenset({"pool"})) == "pool"


def test_a_shared_default_is_not_chosen_by_a_key_that_does_not_name_it() -> None:
    shared = book(FAQ, {"name": "default", "scope": "shared"})
    for allowed in (None, frozenset({"faq"})):
        with pytest.raises(ApiError, match="it may choose: faq$"):
            decide(shared, unread, b"default", allowed)


def test_a_shared_category_may_still_be_told_by_its_rules() -> None:
    pooled = POOL | {"match": [{"tenant": "acme"}]}
    assert decide(book(pooled), lambda: says("hello"), None, None) == "pool"


names = st.sampled_from(["a", "b", "c", "default"])
categories = st.lists(
    st.fixed_dictionaries(
        {"name": names},
        optional={
            "match": st.lists(
                st.fixed_dictionaries({"tenant": st.sampled_from(["acme", "zeta", "*"])}),
                max_size=2,
            ),
            "locked": st.booleans(),
            "mode": st.sampled_from(["off", "exact", "semantic"]),
            "scope": st.sampled_from(["tenant", "user", "shared"]),
            "examples": st.sampled_from([[], ["an example"]]),
        },
    ),
    unique_by=lambda category: category["name"],
    max_size=4,
)


@given(
    categories,
    st.none() | names.map(str.encode),
    st.none() | st.frozensets(names),
    st.sampled_from(["acme", "other"]),
)
def test_whatever_the_book_says(
    raw: list[dict[str, Any]], asked: bytes | None, allowed: frozenset[str] | None, tenant: str
) -> None:
    policies = parse_policies({"categories": raw}, "test")
    request = says("hello", tenant=tenant)
    matching = [
        name for name in policies.names if any(r.matches(request) for r in policies[name].match)
    ]
    inescapable = [name for name in matching if policies[name].is_ruled_first]
    try:
        found = decide(policies, lambda: request, asked, allowed)
    except ApiError as refused:
        assert asked is not None
        assert refused.status == (403 if asked.decode() in policies else 400)
        assert asked.decode() not in choosable(policies, allowed)
        return
    if inescapable:
        assert found == inescapable[0]
    elif asked is not None:
        assert found == asked.decode()
        assert policies[found].scope is not Scope.SHARED or found in (allowed or ())
        assert allowed is None or found in allowed | {"default"}
    elif matching:
        assert found == matching[0]
    else:
        assert found == (None if policies.exemplified else "default")
