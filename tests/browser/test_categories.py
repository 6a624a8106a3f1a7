"""Policies are tuned on a page: the next request obeys, and what would happen is seen before."""

from __future__ import annotations

from typing import Any

from playwright.async_api import expect

from tests.browser.conftest import KEYS, Readers
from tests.browser.reader import Reader
from tests.e2e.conftest import Ask, Stage

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
AGAIN = "How could I descale my kettle with vinegar?"
ONCE_MORE = "How do you descale a kettle with vinegar?"
BOOK: tuple[dict[str, Any], ...] = (
    {"name": "default"},
    {"name": "faq", "examples": ["How long is the warranty?", "Where is my order?"]},
)


async def set_threshold(reader: Reader, value: str) -> None:
    """Type a hit threshold into the open form and ask to review it."""
    await reader.page.get_by_label("Hit threshold", exact=True).fill(value)
    await reader.page.get_by_role("button", name="Review changes").click()


async def test_an_edit_is_reviewed_and_applied_and_the_next_request_obeys_until_it_is_rolled_back(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(*BOOK, auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert (await ask(client, REPHRASED)).hit
    reader = await readers.sign_in(proxy, "root", "/admin/categories")
    page = reader.page
    await page.get_by_role("link", name="default").click()
    await set_threshold(reader, "0.9999")
    row = page.get_by_role("region", name="What would change").get_by_role("row")
    await expect(row.last).to_contain_text("hit_threshold")
    await expect(row.last.locator("ins")).to_have_text("0.9999")
    assert (await ask(client, REPHRASED)).hit  # a review changes nothing
    await reader.shoot("category-review", for_docs=True)
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#notice p")).to_be_in_viewport()
    assert not (await ask(client, AGAIN)).hit
    assert (await ask(client, QUESTION)).hit
    await page.goto("/admin/categories/~versions")
    await reader.shoot("versions")
    await page.get_by_role("link", name="Roll back to 1").click()
    await expect(page.get_by_role("region", name="What would change")).to_contain_text("0.9999")
    await page.get_by_role("button", name="Roll back to version 1").click()
    await expect(page.get_by_role("heading", name="Versions")).to_be_visible()
    assert (await ask(client, ONCE_MORE)).hit


async def test_a_bad_edit_is_refused_beside_its_field_and_what_was_typed_stays(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy(*BOOK, auth=KEYS)
    reader = await readers.sign_in(proxy, "root", "/admin/categories/default")
    reader.expects("status of 4")
    page = reader.page
    await page.get_by_label("Description").fill("Everything else")
    await set_threshold(reader, "1.5")
    field = page.get_by_label("Hit threshold", exact=True)
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(field).to_have_value("1.5")
    await expect(page.get_by_label("Description")).to_have_value("Everything else")
    await expect(page.get_by_role("alert").filter(visible=True)).to_contain_text(
        "Nothing was changed"
    )
    said = await field.get_attribute("aria-describedby")
    assert said
    fault = page.locator(f"#{said.split()[0]}")
    await expect(fault).to_be_visible()
    await expect(fault).to_contain_text("1")  # up to where it is allowed
    await fault.scroll_into_view_if_needed()
    await reader.shoot("refused-edit", for_docs=True)
    await field.fill("0.9999")
    await page.get_by_role("button", name="Review changes").click()
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#notice")).not_to_be_empty()
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert not (await ask(client, REPHRASED)).hit


async def test_what_if_shows_the_hits_of_another_threshold_before_anything_is_applied(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy({"name": "default", "hit_threshold": 0.9999}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in (QUESTION, REPHRASED, "How long does the battery of a smoke alarm last?"):
        assert not (await ask(client, question)).hit
    reader = await readers.sign_in(proxy, "root", "/admin/categories/default")
    page = reader.page
    slider = page.get_by_role("slider", name="Hit threshold")
    await slider.fill("0.8")
    shown = page.locator("#what-if")
    await expect(shown).to_contain_text("Riskiest gained")
    pair = shown.locator("li").first
    await expect(pair).to_contain_text("Asked")
    await expect(pair.locator("mark").first).to_be_visible()
    await shown.scroll_into_view_if_needed()
    await reader.shoot("what-if", for_docs=True)
    assert not (await ask(client, AGAIN)).hit  # nothing was applied
    await slider.focus()
    before = await shown.inner_text()
    await page.keyboard.press("End")
    await expect(shown).not_to_have_text(before)
    await expect(shown).to_contain_text("No lookup would have come to anything else")


async def test_a_viewer_sees_policies_and_no_button_that_changes_one(
    stage: Stage, readers: Readers
) -> None:
    proxy = await stage.proxy(*BOOK, auth=KEYS)
    reader = await readers.sign_in(proxy, "eyes", "/admin/categories/faq")
    await expect(reader.page.get_by_label("Hit threshold", exact=True)).to_be_disabled()
    for name in ("Review changes", "Delete this category…"):
        await expect(reader.page.get_by_role("button", name=name)).to_have_count(0)
