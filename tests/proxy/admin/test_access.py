"""Which pages may speak to the admin API, by the origin that their browser names."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from proxy.admin.access import Access
from proxy.auth import Keyring

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
