from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import headers
from proxy.auth import CREDENTIALS
from proxy.headers import (
    CacheControl,
    cache_status,
    client_headers,
    credential,
    credential_headers,
    parse_cache_control,
    parse_tags,
    parse_threshold,
    request_id,
    upstream_headers,
)

Pairs = list[tuple[bytes, bytes]]
OWN = [("authorization", "Bearer upstream-key")]


def sent_up(*pairs: tuple[bytes, bytes], cacheable: bool = False) -> dict[str, str]:
    return dict(upstream_headers(list(pairs), "req-1", cacheable=cacheable))


# -- what goes upstream


@pytest.mark.parametrize(
    "name",
    [
        *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
        *(b"host", b"cookie", b"content-length", b"expect", b"http2-settings"),
        *(b"x-nearhit-category", b"x-nearhit-threshold", b"x-nearhit-anything"),
        *(b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"),
    ],
)
@pytest.mark.parametrize("cacheable", [True, False])
def test_never_sent_upstream(name: bytes, cacheable: bool) -> None:
    sent = sent_up((name, b"secret"), (b"accept", b"*/*"), cacheable=cacheable)
    assert name.decode() not in sent
    assert "secret" not in sent.values()
    assert sent["accept"] == "*/*"


@pytest.mark.parametrize(
    "name",
    [b"content-type", b"user-agent", b"anthropic-version", b"openai-beta", b"traceparent", b"x-a"],
)
def test_everything_else_is_sent_as_it_came(name: bytes) -> None:
    assert sent_up((name, b"as; it=is "))[name.decode()] == "as; it=is "


def test_a_header_that_connection_names_stays_here() -> None:
    pairs = [(b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-stays", b"2")]
    assert sent_up(*pairs) == {"x-stays": "2", "x-request-id": "req-1"}


def test_repeated_headers_stay_repeated_and_in_order() -> None:
    pairs = [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]
    sent = upstream_headers(pairs, "req-1", cacheable=False)
    assert sent == [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-request-id", "req-1")]


def test_on_a_cacheable_route_the_answer_is_asked_for_unencoded_and_cache_control_is_ours() -> None:
    pairs = [(b"accept-encoding", b"gzip, br"), (b"cache-control", b"no-cache")]
    sent = sent_up(*pairs, cacheable=True)
    assert sent["accept-encoding"] == "identity"
    assert "cache-control" not in sent


def test_elsewhere_the_clients_own_wishes_go_on() -> None:
    pairs = [(b"accept-encoding", b"gzip, br"), (b"cache-control", b"no-cache")]
    sent = sent_up(*pairs)
    assert (sent["accept-encoding"], sent["cache-control"]) == ("gzip, br", "no-cache")


def test_the_clients_request_id_is_replaced_by_ours() -> None:
    assert sent_up((b"x-request-id", b"theirs"))["x-request-id"] == "req-1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("naïve".encode(), "naïve", id="UTF-8"),
        pytest.param(b"na\xefve", "naïve", id="Latin-1"),
    ],
)
def test_values_that_are_not_ascii_are_kept(value: bytes, text: str) -> None:
    assert sent_up((b"x-name", value), (b"x-b", b"b"))["x-name"] == text


header_bytes = st.binary(max_size=12) | st.sampled_from([b"a\r\nx: y", b"a\nb", b"a\x00b", b"ok"])


@given(st.lists(st.tuples(header_bytes, header_bytes), max_size=8), st.booleans())
def test_no_header_can_carry_another(pairs: Pairs, cacheable: bool) -> None:
    pairs = [*pairs, (b"x-fine", b"fine")]
    up = upstream_headers(pairs, "req-1", cacheable=cacheable)
    down = client_headers(pairs, cacheable=cacheable)
    for name, value in [*up, *((n.decode("latin-1"), v.decode("latin-1")) for n, v in down)]:
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        assert not re.search(r"[\r\n\x00]", value)
    assert ("x-fine", "fine") in up
    assert (b"x-fine", b"fine") in down


# -- credentials


def authenticated(
    client: Pairs, *, tenant_key: str | None = None, own: str | None, keys_configured: bool
) -> list[tuple[str, str]]:
    brought = credential(client, tenant_key=tenant_key, keys_configured=keys_configured)
    assert "mine" not in repr(brought)
    return credential_headers(brought, own)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        pytest.param([(b"authorization", b"Bearer mine")], OWN, id="bearer"),
        pytest.param([(b"x-api-key", b"mine")], [("x-api-key", "upstream-key")], id="x-api-key"),
        pytest.param([(b"x-api-key", b"mine"), (b"authorization", b"Bearer mine")], OWN, id="both"),
        pytest.param([(b"api-key", b"mine")], OWN, id="Azure's"),
        pytest.param([(b"accept", b"*/*")], OWN, id="none"),
    ],
)
def test_with_keys_configured_the_upstreams_key_replaces_the_clients(
    client: Pairs, expected: list[tuple[str, str]]
) -> None:
    assert authenticated(client, own="upstream-key", keys_configured=True) == expected


def test_the_tenants_key_goes_before_the_upstreams() -> None:
    client = [(b"x-api-key", b"mine")]
    sent = authenticated(client, tenant_key="tenant-key", own="upstream-key", keys_configured=True)
    assert sent == [("x-api-key", "tenant-key")]


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"api-key"])
def test_a_key_configured_here_never_goes_upstream_even_when_there_is_no_other(name: bytes) -> None:
    assert authenticated([(name, b"mine")], own=None, keys_configured=True) == []


@pytest.mark.parametrize(
    "client",
    [
        [(b"authorization", b"Bearer mine")],
        [(b"x-api-key", b"mine")],
        [(b"authorization", b"Basic mine"), (b"x-api-key", b"mine")],
    ],
)
def test_with_no_keys_configured_the_clients_own_go_on(client: Pairs) -> None:
    sent = authenticated(client, own="upstream-key", keys_configured=False)
    assert sent == [(name.decode(), value.decode()) for name, value in client]


def test_with_no_keys_configured_and_none_sent_the_upstreams_own_is_used() -> None:
    assert authenticated([], own="upstream-key", keys_configured=False) == OWN
    assert authenticated([], own=None, keys_configured=False) == []


@pytest.mark.parametrize("name", CREDENTIALS)
def test_whatever_tells_tenants_apart_is_a_credential_and_no_mere_header(name: bytes) -> None:
    assert authenticated([(name, b"mine")], own=None, keys_configured=False) == [
        (name.decode(), "mine")
    ]
    assert "mine" not in sent_up((name, b"mine")).values()


# -- what comes down


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade"),
        *(b"Proxy-Authenticate", b"Set-Cookie", b"SET-COOKIE", b"set-cookie2", b"Alt-Svc"),
        *(b"X-Nearhit-Entry", b"x-nearhit-similarity"),
    ],
)
@pytest.mark.parametrize("cacheable", [True, False])
def test_never_sent_down(name: bytes, cacheable: bool) -> None:
    down = client_headers([(name, b"1"), (b"Content-Type", b"a/b")], cacheable=cacheable)
    assert down == [(b"content-type", b"a/b")]


def test_a_cacheable_route_writes_its_own_length_status_age_and_id() -> None:
    theirs = [
        (b"Content-Length", b"12"),
        (b"Age", b"3"),
        (b"Cache-Status", b"cdn; hit"),
        (b"X-Request-Id", b"r"),
        (b"openai-processing-ms", b"7"),
    ]
    assert client_headers(theirs, cacheable=True) == [(b"openai-processing-ms", b"7")]
    assert len(client_headers(theirs, cacheable=False)) == 5


def test_a_header_that_the_upstreams_connection_names_is_dropped() -> None:
    theirs = [(b"X-Hop", b"1"), (b"Connection", b"x-hop , close"), (b"Date", b"d")]
    assert client_headers(theirs, cacheable=False) == [(b"date", b"d")]


# -- ids


@pytest.mark.parametrize("sent", [b"a", b"A-z_0.9", b"x" * 64])
def test_a_harmless_request_id_is_kept(sent: bytes) -> None:
    assert request_id(sent) == sent.decode()


@pytest.mark.parametrize(
    "sent",
    [None, b"", b"x" * 65, b"a b", b"a\n", b"a\r\nX: y", b"a/b", b"caf\xc3\xa9", b"a\x00", b"\xff"],
)
def test_any_other_request_id_is_replaced(sent: bytes | None) -> None:
    made = request_id(sent)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", made)
    assert made.encode() != sent


def test_new_request_ids_differ() -> None:
    assert len({request_id(None) for _ in range(1000)}) == 1000


# -- Cache-Control


@pytest.mark.parametrize(
    ("values", "wishes"),
    [
        pytest.param([], CacheControl(), id="no header"),
        pytest.param([b""], CacheControl(), id="empty"),
        pytest.param([b"no-store"], CacheControl(no_store=True), id="no-store"),
        pytest.param([b"No-Cache"], CacheControl(no_cache=True), id="any case"),
        pytest.param([b"only-if-cached"], CacheControl(only_if_cached=True), id="only-if-cached"),
        pytest.param([b"max-age=60"], CacheControl(max_age=60), id="max-age"),
        pytest.param([b"max-age=0"], CacheControl(max_age=0), id="max-age of nothing"),
        pytest.param([b"MAX-AGE = 60"], CacheControl(max_age=60), id="spaces around ="),
        pytest.param(
            [b" no-store ,,\tmax-age=5 , "],
            CacheControl(no_store=True, max_age=5),
            id="stray commas and blanks",
        ),
        pytest.param(
            [b"no-store", b"only-if-cached"],
            CacheControl(no_store=True, only_if_cached=True),
            id="several headers",
        ),
        pytest.param([b"max-age=60, max-age=5"], CacheControl(max_age=5), id="the smaller counts"),
        pytest.param([b"max-age=" + b"9" * 5000], CacheControl(max_age=2**31), id="huge"),
        pytest.param([b"max-age=" + b"0" * 5000 + b"7"], CacheControl(max_age=7), id="zeros"),
        pytest.param([b"max-age=-1"], CacheControl(no_cache=True), id="negative tightens"),
        pytest.param([b"max-age=1.5"], CacheControl(no_cache=True), id="a fraction tightens"),
        pytest.param([b"max-age=ten"], CacheControl(no_cache=True), id="a word tightens"),
        pytest.param([b'max-age="60"'], CacheControl(no_cache=True), id="quoted tightens"),
        pytest.param([b"max-age"], CacheControl(no_cache=True), id="without a number tightens"),
        pytest.param([b"max-age="], CacheControl(no_cache=True), id="an empty one tightens"),
        pytest.param([b"max-age=5, max-age=x"], CacheControl(no_cache=True), id="one bad of two"),
        pytest.param(["max-age=٣".encode()], CacheControl(no_cache=True), id="other digits"),
        pytest.param([b"no-cache=x-field"], CacheControl(no_cache=True), id="with an argument"),
        pytest.param([b"max-stale=9, no-transform"], CacheControl(), id="unknown ones"),
        pytest.param([b"xno-store, no-storex"], CacheControl(), id="not by part of a word"),
        pytest.param([b'ext="no-store, max-age=1"'], CacheControl(), id="not inside quotes"),
        pytest.param(
            [b'ext="open, no-store'], CacheControl(no_store=True), id="a quote left open tightens"
        ),
        pytest.param(
            [b'a="', b"no-store", b'b="'], CacheControl(no_store=True), id="no quote spans headers"
        ),
    ],
)
def test_cache_control(values: list[bytes], wishes: CacheControl) -> None:
    assert parse_cache_control(values) == wishes


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_no_cache_control_is_too_strange_to_read(values: list[bytes]) -> None:
    wishes = parse_cache_control([*values, b"max-age=9"])
    assert wishes.no_cache or b'"' in b"".join(values) or 0 <= (wishes.max_age or 0) <= 9


# -- our own request headers


@pytest.mark.parametrize(
    ("values", "threshold"),
    [
        pytest.param([], None, id="absent"),
        pytest.param([b"0.95"], 0.95, id="usual"),
        pytest.param([b" 1 "], 1.0, id="largest"),
        pytest.param([b"-1.0"], -1.0, id="smallest"),
        pytest.param([b".9"], 0.9, id="no leading zero"),
        pytest.param([b"9.5e-1"], 0.95, id="exponent"),
        pytest.param([b"0.9", b"0.97", b"0.8"], 0.97, id="of several the highest"),
    ],
)
def test_threshold(values: list[bytes], threshold: float | None) -> None:
    assert parse_threshold(values) == threshold


@pytest.mark.parametrize(
    "value",
    [b"", b"1.01", b"-1.01", b"nan", b"inf", b"-Infinity", b"0,9", b"0.9.1", b"1_0", b"0x1", b"x"],
)
def test_a_threshold_that_is_no_cosine_is_refused_and_shown(value: bytes) -> None:
    with pytest.raises(ValueError, match="X-Nearhit-Threshold") as refused:
        parse_threshold([b"0.9", value])
    assert f'"{value.decode()}"' in str(refused.value)


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        pytest.param([], (), id="absent"),
        pytest.param([b""], (), id="empty"),
        pytest.param([b"a"], ("a",), id="one"),
        pytest.param([b"b, a ,b,,"], ("b", "a"), id="in order and once"),
        pytest.param([b"a", b"b,c"], ("a", "b", "c"), id="several headers"),
        pytest.param([b"team:eu/x@1.2+3_-"], ("team:eu/x@1.2+3_-",), id="all that is allowed"),
        pytest.param([b"x" * 64], ("x" * 64,), id="the longest"),
    ],
)
def test_tags(values: list[bytes], tags: tuple[str, ...]) -> None:
    assert parse_tags(values) == tags


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"x" * 65, '"' + "x" * 64 + '"...', id="too long"),
        pytest.param(b"a b", '"a b"', id="a blank inside"),
        pytest.param("caf\u00e9".encode(), "\\xc3\\xa9", id="not ASCII"),
        pytest.param(b'a"b', '"a"b"', id="a quote"),
        pytest.param(b"*", '"*"', id="a wildcard"),
        pytest.param(b",".join(b"%d" % n for n in range(17)), "more than 16", id="too many"),
    ],
)
def test_tags_that_are_refused(value: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match="X-Nearhit-Tags") as refused:
        parse_tags([value])
    assert reason in str(refused.value)


# -- Cache-Status


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (headers.hit(59, "exact"), b"nearhit; hit; ttl=59; detail=exact"),
        (headers.hit(0, "semantic"), b"nearhit; hit; ttl=0; detail=semantic"),
        (headers.hit(-30, "stale-if-error"), b"nearhit; hit; ttl=-30; detail=stale-if-error"),
        (headers.NEAR_HIT, b"nearhit; fwd=miss; detail=near-hit"),
        (headers.MISS, b"nearhit; fwd=miss"),
        (headers.COLLAPSED, b"nearhit; fwd=miss; collapsed"),
        (headers.STALE, b"nearhit; fwd=stale"),
        (headers.BYPASS["policy"], b"nearhit; fwd=bypass; detail=policy"),
        (headers.REQUEST, b"nearhit; fwd=request"),
    ],
)
def test_cache_status_says_exactly_what_the_contract_says(made: bytes, value: bytes) -> None:
    assert made == value


def test_the_reasons_of_a_bypass_are_the_contracts() -> None:
    contract = "policy temperature turns content size overload fault"
    assert list(headers.BYPASS) == contract.split()


def test_our_cache_status_comes_after_the_upstreams_own() -> None:
    theirs = [(b"Cache-Status", b"origin; hit"), (b"date", b"d"), (b"cache-status", b"cdn; fwd=x")]
    assert cache_status(headers.MISS, theirs) == b"origin; hit, cdn; fwd=x, nearhit; fwd=miss"
    assert cache_status(headers.MISS) == b"nearhit; fwd=miss"


def test_an_unsafe_cache_status_of_the_upstream_is_left_out() -> None:
    assert cache_status(headers.MISS, [(b"cache-status", b"a\r\nX: y")]) == b"nearhit; fwd=miss"
