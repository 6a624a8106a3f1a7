"""What is stored, opened as configured: who may open it, and what stands in the way."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.documents_root import open_shelves
from proxy.settings import Settings
from store.errors import DirectoryInUse, StoreUnavailable
from tests.harness import settings_for
from tests.redis_servers import RedisServer


@pytest.mark.parametrize("documents", ["sqlite", "redis://127.0.0.1:1/0"])
async def test_a_data_dir_that_is_a_file_is_refused_by_its_setting(
    tmp_path: Path, documents: str
) -> None:
    file = tmp_path / "taken"
    file.write_text("")
    async with AsyncExitStack() as stack:
        with pytest.raises(StoreUnavailable, match=f"data_dir {file} cannot be used: "):
            await open_shelves(Settings(data_dir=file, documents=documents), {}, stack)


async def opened(settings: Settings) -> AsyncExitStack:
    stack = AsyncExitStack()
    async with stack:
        await open_shelves(settings, {}, stack)
        return stack.pop_all()


@pytest.mark.serial
async def test_two_replicas_never_share_a_data_directory(tmp_path: Path) -> None:
    """They would be one replica to all others: no purge would wait for the second."""
    server = RedisServer(tmp_path / "redis").start()
    try:
        settings = settings_for(tmp_path / "data", "http://nowhere/v1", documents=server.url)
        async with await opened(settings):
            with pytest.raises(DirectoryInUse, match="give this one a data_dir of its own"):
                await opened(settings)
        async with await opened(settings):
            pass
    finally:
        server.stop()
