from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_servers import RedisServer
from tests.redis_stores import ServerOf


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerOf]:
    """Real servers by version, each started when it is first asked for."""
    running: dict[str, RedisServer] = {}

    def server(version: str) -> RedisServer:
        if version not in running:
            directory = tmp_path_factory.mktemp(f"redis-{version}")
            running[version] = RedisServer(directory, version).start()
        return running[version]

    yield server
    for each in running.values():
        each.stop()
