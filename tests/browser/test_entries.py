"""What is stored is found, looked into and taken out of service on pages."""

from __future__ import annotations

import re

from playwright.async_api import Dialog, expect

from tests.browser.conftest import KEYS, Readers
from tests.e2e.conftest import Ask, Stage

KETTLE = "How do I descale my kettle with vinegar?"
MEANT = "What removes limescale from a kettle?"
OTHERS = (
    "How long does the battery of a smoke alarm last?",
    "Which bin does broken glass go into?",
    "How often should a boiler be serviced?",
)


async def test_an_entry_is_found_by_meaning_and_quarantined_and_the_next_request_misses(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in (*OTHERS, KETTLE):
        await ask(client, question)
    assert (await ask(client, KETTLE)).hit
    reader = await readers.sign_in(proxy, "root", "/admin/entries")
    page = reader.page
    await reader.shoot("entries", for_docs=True)
    await page.get_by_label("Question").fill(MEANT)
    await page.get_by_label("How").select_option("means this")
    await page.get_by_role("button", name="Search").click()
    first = page.get_by_role("region", name="Entries found").get_by_role("link").first
    await expect(first).to_have_text(KETTLE)
    await first.click()
    await expect(page.get_by_role("heading", name="Neighbours")).to_be_visible()
    await reader.shoot("entry", for_docs=True)
    await page.get_by_label("Reason").fill("It says salt")
    await page.get_by_role("button", name="Quarantine", exact=True).click()
    await expect(page.locator("#notice")).not_to_be_empty()
    await expect(page.locator("#state")).to_contain_text("quarantined")
    again = await ask(client, KETTLE)
    assert not again.hit and again.text != ""
    await page.get_by_role("button", name="Lift the quarantine").click()
    await expect(page.locator("#state")).not_to_contain_text("quarantined for")
    assert (await ask(client, KETTLE)).hit


async def test_deleting_asks_first_and_then_it_is_gone(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, KETTLE)
    reader = await readers.sign_in(proxy, "root", "/admin/entries")
    page = reader.page
    await page.get_by_role("link", name=KETTLE).click()
    asked: list[str] = []
    accept = False

    async def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await (dialog.accept() if accept else dialog.dismiss())

    page.on("dialog", answer)
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("heading", name="State")).to_be_visible()
    assert len(asked) == 1 and (await ask(client, KETTLE)).hit
    accept = True
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("heading", name="Deleted")).to_be_visible()
    assert not (await ask(client, KETTLE)).hit


async def test_a_purge_is_counted_before_it_is_done(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in OTHERS:
        await ask(client, question)
    reader = await readers.sign_in(proxy, "root", "/admin/entries/purge")
    page = reader.page
    await page.get_by_label("What goes").select_option(value="tenant")
    await page.get_by_label("Which").fill("acme")
    await page.get_by_role("button", name="Count").click()
    purge = page.get_by_role("button", name="Purge 3 entries")
    await expect(purge).to_be_visible()
    await reader.shoot("purge")
    assert (await ask(client, OTHERS[0])).hit  # it was only counted
    word = page.get_by_label(re.compile("Type .* to confirm"))
    if await word.count():
        await word.fill("acme")
    await purge.click()
    await expect(page.locator("#notice")).to_contain_text("3")
    assert not (await ask(client, OTHERS[0])).hit


async def test_a_point_of_the_map_leads_to_its_entry_by_keyboard_too(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in (*OTHERS, KETTLE):
        await ask(client, question)
    reader = await readers.sign_in(proxy, "root", "/admin/entries/map?category=default")
    page = reader.page
    points = page.get_by_role("group", name="Map of default").get_by_role("link")
    await expect(points).to_have_count(4)
    await reader.shoot("map", for_docs=True)
    await points.first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Entry", exact=True)).to_be_visible()
