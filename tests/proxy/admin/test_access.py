"""Which pages may speak to the admin API by their origin, and whom it answers without keys."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from proxy.admin.access import Access
from proxy.auth import Keyring
from proxy.errors import ApiError

ACCESS = Access(Keyring(()))


def request(host: str, origin: str | None) -> Request:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    return Request({"type": "http", "method": "POST", "path": "/admin", "headers": headers})


@pytest.mark.parametrize(
    ("host", "origin", "ours"),
    [
        pytest.param("127.0.0.1:8080", None, True, id="no page sent it"),
        pytest.param("127.0.0.1:8080", "http://127.0.0.1:8080", True, id="our own"),
        pytest.param("nearhit.example", "https://nearhit.example", True, id="the port of https"),
        pytest.param("nearhit.example:443", "https://nearhit.example", True, id="said and unsaid"),
        pytest.param("NEARHIT.example", "http://nearhit.example", True, id="case does not count"),
        pytest.param("[::1]:8080", "http://[::1]:8080", True, id="an IPv6 address"),
        pytest.param("127.0.0.1:8080", "http://127.0.0.1:3000", False, id="another port"),
        pytest.param("127.0.0.1:8080", "http://evil.example:8080", False, id="another host"),
        pytest.param("127.0.0.1:8080", "null", False, id="a page that hides where it is from"),
        pytest.param("", "null", False, id="hidden, and sent to no host"),
        pytest.param("127.0.0.1:8080", "http://127.0.0.1:x", False, id="no port at all"),
        pytest.param("127.0.0.1:8080", "file://", False, id="a file"),
    ],
)
def test_only_our_own_pages_are_of_this_origin(host: str, origin: str | None, ours: bool) -> None:
    assert ACCESS.same_origin(request(host, origin)) is ours


def sent(headers: list[tuple[str, str]], peer: str = "127.0.0.1") -> Request:
    """Return a request as it comes from this machine, with what a proxy has added."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/admin",
            "client": (peer, 50_000),
            "headers": [(b"host", b"127.0.0.1:8080"), *raw],
        }
    )


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="no proxy"),
        pytest.param([("X-Forwarded-For", "127.0.0.1")], id="for this machine"),
        pytest.param([("X-Forwarded-For", "::1, 127.0.0.1:5000")], id="over two proxies of it"),
        pytest.param([("X-Real-IP", "127.0.0.1")], id="by nginx's header"),
        pytest.param([("Forwarded", 'for="[::1]:4711";proto=http, for=127.0.0.1')], id="RFC 7239"),
    ],
)
async def test_without_keys_whoever_is_on_this_machine_is_an_admin(
    headers: list[tuple[str, str]],
) -> None:
    await ACCESS.allow(sent(headers))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("X-Forwarded-For", "203.0.113.9")], id="a client elsewhere"),
        pytest.param([("X-Forwarded-For", "127.0.0.1, 203.0.113.9")], id="who claims to be here"),
        pytest.param(
            [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")], id="twice"
        ),
        pytest.param([("X-Forwarded-For", "localhost.example")], id="a name"),
        pytest.param([("X-Forwarded-For", "")], id="nobody"),
        pytest.param([("X-Real-IP", "2001:db8::9")], id="by nginx's header"),
        pytest.param([("Forwarded", 'for="[2001:db8::9]:4711"')], id="RFC 7239"),
        pytest.param([("Forwarded", "For=127.0.0.1, FOR = 203.0.113.9")], id="as it may be spelt"),
        pytest.param([("Forwarded", "for=_hidden")], id="a client that is not named"),
        pytest.param([("Forwarded", "proto=https;host=cache.example")], id="nothing of the client"),
    ],
)
async def test_without_keys_a_proxy_here_opens_nothing_for_clients_elsewhere(
    headers: list[tuple[str, str]],
) -> None:
    with pytest.raises(ApiError, match="for a client elsewhere: configure auth.keys") as refused:
        await ACCESS.allow(sent(headers))
    assert (refused.value.status, refused.value.code) == (403, "forbidden")


async def test_without_keys_another_machine_is_refused() -> None:
    with pytest.raises(ApiError, match="open on loopback only"):
        await ACCESS.allow(sent([], peer="203.0.113.9"))
