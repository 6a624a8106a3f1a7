"""What a person reads when it serves can be typed as it is written."""

from __future__ import annotations

import pytest

from proxy.start import greeting, listen


@pytest.mark.parametrize(
    ("host", "url"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:", id="loopback"),
        pytest.param("::1", "http://[::1]:", id="an address that has colons"),
        pytest.param("0.0.0.0", "http://127.0.0.1:", id="everywhere"),
    ],
)
def test_the_greeting_names_an_address_that_can_be_asked(host: str, url: str) -> None:
    with listen(host, 0) as listener:
        said = greeting(listener, "gull", pages=True, keys=False)
        url += str(listener.getsockname()[1])
    assert said.startswith(f"nearhit is ready on {url}; try:\n  curl {url}/v1/chat/completions -H")
    assert said.endswith(f"\nwhat becomes of it: {url}/admin")
    assert "authorization" not in said


def test_where_keys_are_configured_the_command_takes_one() -> None:
    with listen("127.0.0.1", 0) as listener:
        said = greeting(listener, "gull", pages=False, keys=True)
    assert " -H 'authorization: Bearer YOUR_KEY' -i -d " in said
