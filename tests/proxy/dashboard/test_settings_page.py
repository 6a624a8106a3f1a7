"""The page of the settings shows all of them, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.dashboard.settings_page import groups, without_password
from proxy.settings import Settings, load_settings
from tests.harness import digest


def loaded(folder: Path, **config: Any) -> Settings:
    file = folder / "nearhit.yaml"
    file.write_text(yaml.safe_dump(config))
    return load_settings(file, environ={})


def test_what_was_set_is_marked_and_the_rest_shows_its_default(tmp_path: Path) -> None:
    shown = groups(loaded(tmp_path, server={"port": 9}, hot_bytes="1MiB"))
    rows = {row.key: row for group in shown for row in group.rows}
    assert rows["server.port"].value == "9" and rows["server.port"].changed
    assert rows["server.workers"].value == "1" and not rows["server.workers"].changed
    assert rows["hot_bytes"].changed
    assert rows["data_dir"].value == "nearhit-data"  # a text as any other, without quotes
    assert all(row.about for row in rows.values())


def test_no_password_and_no_whole_digest_is_shown(tmp_path: Path) -> None:
    shown = groups(
        loaded(
            tmp_path,
            documents="redis://writer:hunter2@store:6379/0",
            upstreams=[{"name": "u", "base_url": "http://me:hunter2@models/v1"}],
            auth={"keys": [{"sha256": digest("root"), "role": "admin"}]},
        )
    )
    text = json.dumps(shown)
    assert "hunter2" not in text and digest("root") not in text
    assert "@store:6379/0" in text and "@models/v1" in text
    assert digest("root")[:12] in text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("unix:///run/redis.sock?db=0&password=hunter2", "unix:///run/redis.sock?…"),
        ("redis://store:6379/0?pass%77ord=hunter2", "redis://store:6379/0?…"),
        ("rediss://writer:hunter2@store/0?password=hunter2", "rediss://…@store/0?…"),
        ("unix://writer:hunter2@/run/redis.sock", "unix://…@/run/redis.sock"),
    ],
)
def test_an_address_shows_where_redis_is_and_not_what_opens_it(
    tmp_path: Path, address: str, shown: str
) -> None:
    text = json.dumps(groups(loaded(tmp_path, documents=address)), ensure_ascii=False)
    assert shown in text and "hunter2" not in text


def test_only_addresses_lose_something() -> None:
    for text in (
        "sqlite",
        "gpt-4?",
        "a:b?c",
        "a@b",
        "http://host/@x",
        "./nearhit-data",
        "http://[bad",
    ):
        assert without_password(text) == text
