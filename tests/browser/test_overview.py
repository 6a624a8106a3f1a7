"""The first page: its numbers move by themselves, and it says so when they cannot."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import KEYS, Readers
from tests.browser.test_failures import without_table
from tests.e2e.conftest import Ask, Stage
from tests.harness import ProxyProcess, settings_for


@asynccontextmanager
async def traffic(client: openai.AsyncOpenAI) -> AsyncIterator[None]:
    """Ask for ever, the same and something new in turns, while entered."""

    async def ask() -> None:
        for number in itertools.count():
            text = "What is a kettle?" if number % 2 else f"What is thing number {number}?"
            await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": text}]
            )
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    try:
        yield
        assert not asking.done()
    finally:
        asking.cancel()
        await asyncio.wait([asking])


def card(page: Page, name: str) -> Locator:
    """Return the value of a card on the page."""
    return page.locator(".card", has=page.get_by_text(name, exact=True)).locator("dd")


async def test_live_numbers_move_under_traffic_without_the_page_being_loaded_again(
    stage: Stage, readers: Readers
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    reader = await readers.sign_in(proxy, "root", "/admin")
    page = reader.page
    await expect(page.get_by_text("No request yet")).to_be_visible()
    await page.evaluate("window.still = true")
    async with traffic(stage.openai(proxy, "acme")):
        requests = card(page, "Requests today")
        seen = set[str]()
        async with asyncio.timeout(60):
            while len(seen) < 4:
                seen.add((await requests.inner_text()).split("\n")[0])
                await asyncio.sleep(0.2)
        await expect(card(page, "Hit rate")).to_contain_text("exact")
        await expect(page.get_by_text("No request yet")).to_have_count(0)
    numbers = sorted(int(text.replace("\u202f", "")) for text in seen)
    assert numbers[-1] > numbers[0]
    assert await page.evaluate("window.still")
    await reader.shoot("overview", for_docs=True)


async def test_what_renews_itself_keeps_the_focus_and_what_was_opened(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    await ask(stage.openai(proxy, "acme"), "What is a kettle?")
    reader = await readers.sign_in(proxy, "root", "/admin")
    page = reader.page
    numbers = page.locator("details").first
    await numbers.locator("summary").focus()
    await page.keyboard.press("Enter")
    for _ in range(2):
        async with page.expect_response("**/admin/overview/live*"):
            pass
    await page.wait_for_timeout(100)
    await expect(numbers).to_have_attribute("open", "")
    await expect(numbers.locator("summary")).to_be_focused()


async def test_numbers_that_cannot_be_read_are_an_error_and_come_back_by_themselves(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    await ask(stage.openai(proxy, "acme"), "What is a kettle?")
    reader = await readers.sign_in(proxy, "root", "/admin")
    page = reader.page
    await expect(card(page, "Requests today")).to_be_visible()
    with without_table(stage.data_dir, "usage"):
        alert = page.get_by_role("alert").filter(visible=True)
        await expect(alert).to_contain_text("cannot be read")
        await expect(alert).to_contain_text("Check that the document store runs")
        await reader.shoot("overview-without-store")
    await expect(page.get_by_role("alert").filter(visible=True)).to_have_count(0)
    await expect(card(page, "Requests today")).to_be_visible()


@pytest.mark.slow
async def test_a_proxy_that_stops_is_said_and_the_page_goes_on_when_it_is_back(
    stage: Stage, readers: Readers, tmp_path: Path
) -> None:
    settings_for(stage.data_dir, stage.upstream.base_url, auth=KEYS)
    process = ProxyProcess("--config", str(stage.data_dir / "nearhit.yaml"))
    try:
        await process.ready()
        reader = await readers.sign_in(process.proxy, "root", "/admin")
        reader.expects("ERR_|htmx:")
        page = reader.page
        await expect(page.get_by_text("No request yet")).to_be_visible()
        await page.keyboard.press("End")
        process.kill()
        offline = page.locator("#offline")
        await expect(offline).to_contain_text("does not answer since")
        await expect(offline).to_be_in_viewport(ratio=1)
        await reader.shoot("stopped")
        process.start()
        await process.ready()
        await expect(offline).to_be_hidden()
        await expect(page.get_by_text("No request yet")).to_be_visible()
    finally:
        process.close()
