"""Settings become the values that parts are built from, with keys out of the environment."""

from __future__ import annotations

import pytest

from proxy.configured import api_keys, upstream_specs
from proxy.settings import Auth, Key, Settings, Upstream

UPSTREAM = Upstream(name="main", base_url="http://x/v1", api_key_env="SOME_KEY")
TENANT = Key(sha256="a" * 64, tenant="acme", upstream_key_env="SOME_KEY")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        pytest.param("sk-1", "sk-1", id="a key"),
        pytest.param("sk-1\n", "sk-1", id="a file's line break"),
        pytest.param(" sk-1\r\n", "sk-1", id="a file from elsewhere"),
        pytest.param("", None, id="set to nothing"),
        pytest.param(" \n", None, id="white space alone"),
    ],
)
def test_a_key_is_what_its_variable_holds_without_white_space(value: str, key: str | None) -> None:
    settings = Settings(upstreams=[UPSTREAM], auth=Auth(keys=[TENANT]))
    environ = {"SOME_KEY": value}
    assert [spec.api_key for spec in upstream_specs(settings, environ)] == [key]
    assert [each.upstream_key for each in api_keys(settings, environ)] == [key]


def test_no_variable_is_no_key() -> None:
    settings = Settings(upstreams=[UPSTREAM], auth=Auth(keys=[TENANT]))
    assert upstream_specs(settings, {})[0].api_key is None
