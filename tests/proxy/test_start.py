"""What a person reads when it serves can be typed as it is written."""

from __future__ import annotations

import socket
from unittest.mock import Mock

import pytest

from proxy.start import greeting


def listening_on(host: str) -> Mock:
    """Return what listens there, whether or not this machine has such an address."""
    return Mock(socket.socket, getsockname=lambda: (host, 8080, 0, 0))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:8080", id="loopback"),
        pytest.param("::1", "http://[::1]:8080", id="an address that has colons"),
        pytest.param("0.0.0.0", "http://127.0.0.1:8080", id="everywhere"),
    ],
)
def test_the_greeting_names_an_address_that_can_be_asked(host: str, url: str) -> None:
    said = greeting(listening_on(host), "gull", pages=True, keys=False)
    assert said.startswith(f"nearhit is ready on {url}; try:\n  curl {url}/v1/chat/completions -H")
    assert said.endswith(f"\nwhat becomes of it: {url}/admin")
    assert "authorization" not in said


def test_where_keys_are_configured_the_command_takes_one() -> None:
    said = greeting(listening_on("127.0.0.1"), "gull", pages=False, keys=True)
    assert " -H 'authorization: Bearer YOUR_KEY' -i -d " in said
