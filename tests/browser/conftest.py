"""One Chromium for all tests of a worker; for each test, proxies with keys and who reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState, async_playwright, expect

from tests.browser.reader import LOOPBACK, Reader
from tests.e2e.conftest import Stage, ask, one_loaded_model
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, digest

__all__ = ["ask", "one_loaded_model"]  # fixtures; the first asks on the stage that there is here

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}",
)
KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme"},
        {"sha256": digest("root"), "role": "admin"},
        {"sha256": digest("eyes"), "role": "viewer"},
    ]
}

expect.set_options(timeout=10_000)  # milliseconds; a machine may be busy with other tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run everything here in the loop that the browser lives in."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        async with browser:
            yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with (
        FakeUpstream() as upstream,
        aiohttp.ClientSession() as http,
        AsyncExitStack() as stack,
    ):
        yield Stage(upstream, tmp_path / "data", stack, http)


class Readers:
    """Lets people in, and knows of all of them in the end."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self.all: list[Reader] = []

    async def come(
        self, proxy: Proxy, *, narrow: bool = False, session: StorageState | None = None
    ) -> Reader:
        """Return somebody who has not signed in, or who has been in `session` before."""
        reader = await Reader.open(self._chromium, proxy, narrow=narrow, session=session)
        self.all.append(reader)
        return reader

    async def sign_in(
        self, proxy: Proxy, key: str, path: str = "/admin/audit", *, narrow: bool = False
    ) -> Reader:
        """Return somebody who has signed in with a key and looks at a page."""
        reader = await self.come(proxy, narrow=narrow)
        await reader.sign_in(key, path)
        return reader


@pytest_asyncio.fixture(loop_scope="session")
async def readers(chromium: Browser) -> AsyncIterator[Readers]:
    """Readers; fails a test in whose pages something went wrong, or that asked another host."""
    readers = Readers(chromium)
    yield readers
    for reader in readers.all:
        await reader.context.close()
    assert [fault for reader in readers.all for fault in reader.faults()] == []
