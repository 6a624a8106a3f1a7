"""axe-core's word on whether a page can be used by everybody.

It is handed to the page from outside, past the page's policy: nothing of it is ever served.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from playwright.async_api import Page

from tests.browser.reader import NARROW, WIDE
from tests.harness import ROOT

SCRIPT = ROOT / ".tools" / "axe.min.js"
GRAVE = ("serious", "critical")
# Contrast differs by theme and not by width, what is where by width and not by theme: two looks
# see all four.
LOOKS = (("light", WIDE), ("dark", NARROW))


async def violations(page: Page) -> list[str]:
    """Return what axe finds grave in a page, light and wide, and dark and narrow, node by node."""
    await page.evaluate(_script())
    before = page.viewport_size
    found: dict[str, str] = {}
    for theme, size in LOOKS:
        await page.set_viewport_size(size)
        await page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        for told in await _run(page):
            found.setdefault(told, f"{theme}, {size['width']} px: {told}")
    if before is not None:
        await page.set_viewport_size(before)
    await page.evaluate("delete document.documentElement.dataset.theme")
    return list(found.values())


async def _run(page: Page) -> list[str]:
    judged: dict[str, Any] = await page.evaluate(
        "axe.run(document, {resultTypes: ['violations'], elementRef: false})"
    )
    return [
        f"{violation['impact']} {violation['id']}: {node['html']}\n{node['failureSummary']}"
        for violation in judged["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


@cache
def _script() -> str:
    if not SCRIPT.exists():
        raise FileNotFoundError(f"{SCRIPT}: 'make tools' fetches axe-core, with npm")
    return SCRIPT.read_text()
