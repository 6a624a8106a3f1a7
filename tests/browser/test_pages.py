"""Every page, empty and with something on it: for everybody, at both widths, in both themes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import StorageState, expect

from proxy.dashboard.pages import SECTIONS
from tests.browser.axe import violations
from tests.browser.conftest import KEYS, Readers
from tests.browser.reader import NARROW, WIDE
from tests.e2e.conftest import Stage
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy

QUESTIONS = (
    "How do I descale my kettle with vinegar?",
    "How can I descale my kettle with vinegar?",
    "How long does the battery of a smoke alarm last?",
    "Which bin does broken glass go into?",
    "How often should a boiler be serviced, and who may do it in a rented flat?",
)
PAGES = [
    *(section.path for section in SECTIONS),
    "/admin/categories/default",
    "/admin/categories/~new",
    "/admin/categories/~versions",
    "/admin/entries?find=kettle&by=meaning",
    "/admin/entries/map?category=default",
    "/admin/entries/purge",
    "/admin/entries/stopped",
    "/admin/entries/{id}",
    "/admin/entries/nothing",  # a page, and 404
]
OTHERWISE_EMPTY = [
    "/admin",
    "/admin/categories/default",
    "/admin/entries",
    "/admin/entries/map",
    "/admin/near-hits",
    "/admin/federated",
]


@dataclass
class House:
    """A proxy, the id of an entry in it, and the session of who has signed in to it."""

    proxy: Proxy
    id: str
    session: StorageState | None = None  # one, for signing in is slowed down


async def furnish(stage: Stage) -> House:
    """Return a proxy that was asked things, one answer of which was quarantined."""
    proxy = await stage.proxy({"name": "default"}, {"name": "faq"}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in (*QUESTIONS, QUESTIONS[0]):
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
        )
        await asyncio.sleep(0.1)
    id = raw.headers["x-nearhit-entry"]
    url, root = f"{proxy.url}/admin/api", {"authorization": "Bearer root"}
    reason = {"reason": "It says salt"}
    for path, body in ((f"/entries/{id}/quarantine", reason), ("/entries/none/lift", None)):
        async with stage.http.post(url + path, json=body, headers=root):
            pass
    async with stage.http.put(f"{url}/categories/faq", json={"ttl": "2h"}, headers=root) as edit:
        assert edit.status == 200
    return House(proxy, id)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def houses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, House]]:
    """One proxy that nobody has used yet, and one with something on every page."""
    async with (
        FakeUpstream() as upstream,
        aiohttp.ClientSession() as http,
        AsyncExitStack() as stack,
    ):
        full, empty = (
            Stage(upstream, tmp_path_factory.mktemp(name), stack, http)
            for name in ("furnished", "empty")
        )
        yield {
            "furnished": await furnish(full),
            "empty": House(await empty.proxy(auth=KEYS), "nothing"),
        }


@pytest.mark.parametrize(
    ("kind", "path"),
    [("furnished", path) for path in PAGES] + [("empty", path) for path in OTHERWISE_EMPTY],
)
async def test_a_page_is_usable_by_everybody_at_any_width(
    houses: dict[str, House], readers: Readers, kind: str, path: str
) -> None:
    house = houses[kind]
    path = path.format(id=house.id)
    reader = await readers.come(house.proxy, session=house.session)
    page = reader.page
    if path.endswith("/nothing"):
        reader.expects("status of 404")
    if house.session is None:
        await reader.sign_in("root", path)
        house.session = await reader.context.storage_state()
    else:
        await page.goto(path)
    await page.wait_for_load_state("networkidle")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await violations(page) == []
    for size in (WIDE, NARROW):
        await page.set_viewport_size(size)
        width, window = await reader.widths()
        assert width <= window, f"{width - window} px too wide at {size['width']}"
        name = re.sub(r"\W+", "-", path.replace(house.id, "id")).strip("-")
        await reader.shoot(f"{kind}-{name}-{size['width']}", whole=True)


async def test_what_asks_for_a_key_is_usable_by_everybody(
    houses: dict[str, House], readers: Readers
) -> None:
    reader = await readers.come(houses["empty"].proxy, narrow=True)
    await reader.page.goto("/admin/login")
    assert await violations(reader.page) == []
    width, window = await reader.widths()
    assert width <= window
