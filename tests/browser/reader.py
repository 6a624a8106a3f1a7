"""Somebody who reads the dashboard in a real Chromium, and a record of all that the browser did.

    admin = await readers.sign_in(proxy, "root", "/admin/audit")
    await expect(admin.page.get_by_role("heading", name="Audit")).to_be_visible()

Whatever a page logs as an error, throws, blocks by its policy or asks of another host is kept, and
`faults()` names what no test expected; the fixture that gives readers looks at it in the end.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    StorageState,
    ViewportSize,
)

from tests.harness import ROOT, Proxy

WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 390, "height": 844}
LOOPBACK = "127.0.0.1"
# Where screenshots go: to be looked at, or into the docs.
SHOTS = Path(os.environ.get("NEARHIT_SCREENSHOTS", ROOT / ".screenshots"))
_FOR_DOCS = "NEARHIT_SCREENSHOTS" in os.environ


class Reader:
    """One browser session: its cookies, its page, and what went wrong in it."""

    def __init__(self, context: BrowserContext, page: Page, proxy: Proxy) -> None:
        self.context = context
        self.page = page
        self.proxy = proxy
        self.asked: list[str] = []  # the address of every request
        self._wrong: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("console", self._heard)
        context.on("weberror", lambda error: self._wrong.append(f"thrown: {error.error}"))

    @classmethod
    async def open(
        cls,
        browser: Browser,
        proxy: Proxy,
        *,
        narrow: bool = False,
        session: StorageState | None = None,
    ) -> Reader:
        """Return a reader with the cookies of a session or none, on an empty page."""
        context = await browser.new_context(
            base_url=proxy.url,
            storage_state=session,
            viewport=NARROW if narrow else WIDE,
            reduced_motion="reduce",
            timezone_id="UTC",
            locale="en-GB",
        )
        context.set_default_timeout(10_000)
        return cls(context, await context.new_page(), proxy)

    async def sign_in(self, key: str, path: str = "/admin/audit") -> None:
        """Get a session for a key, past the form, and go to a page."""
        answer = await self.context.request.post("/admin/login", form={"key": key}, max_redirects=0)
        assert answer.status == 303, await answer.text()
        await self.page.goto(path)

    def expects(self, pattern: str) -> None:
        """Take what matches for no fault: an answer of 503, say, which a browser always logs."""
        self._expected.append(re.compile(pattern))

    def faults(self) -> list[str]:
        """Return what went wrong and was not expected, and the requests that left this machine."""
        unexpected = [
            wrong
            for wrong in self._wrong
            if not any(pattern.search(wrong) for pattern in self._expected)
        ]
        return unexpected + [f"asked: {url}" for url in self.asked if not _is_local(url)]

    async def shoot(self, name: str, *, for_docs: bool = False, whole: bool = False) -> None:
        """Save a picture of the window, or of the whole page, as `name`.png."""
        if _FOR_DOCS and not for_docs:
            return
        # A caret that is hidden is hidden by a style attribute, which a page's policy blocks.
        await self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole, caret="initial")

    async def widths(self) -> tuple[int, int]:
        """Return how wide the page is and how wide the window, in CSS pixels."""
        page, window = await self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        return page, window

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._wrong.append(f"{message.type}: {message.text} ({message.location['url']})")


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == LOOPBACK
