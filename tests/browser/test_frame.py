"""What every page has in common, in a real browser: signing in, moving about, and looks."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import KEYS, Readers
from tests.e2e.conftest import Stage


async def test_an_admin_signs_in_and_out(stage: Stage, readers: Readers) -> None:
    reader = await readers.come(await stage.proxy(auth=KEYS))
    await reader.page.goto("/admin/audit")
    await expect(reader.page).to_have_url(f"{reader.proxy.url}/admin/login?to=%2Fadmin%2Faudit")
    await reader.shoot("login")
    await reader.page.get_by_label("Admin key").fill("root")
    await reader.page.get_by_role("button", name="Sign in").click()
    await expect(reader.page).to_have_url(f"{reader.proxy.url}/admin/audit")
    await expect(reader.page.get_by_role("cell", name="login", exact=True)).to_be_visible()
    await reader.page.get_by_role("button", name="Sign out").click()
    await expect(reader.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await reader.page.goto("/admin/audit")
    await expect(reader.page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.parametrize(
    ("key", "status", "said"), [("wrong", 401, "not known here"), ("acme", 403, "client key")]
)
async def test_a_key_that_does_not_fit_is_said_in_words(
    stage: Stage, readers: Readers, key: str, status: int, said: str
) -> None:
    reader = await readers.come(await stage.proxy(auth=KEYS))
    reader.expects(f"status of {status}")
    await reader.page.goto("/admin/login")
    await reader.page.get_by_label("Admin key").fill(key)
    await reader.page.get_by_role("button", name="Sign in").click()
    await expect(reader.page.get_by_role("alert")).to_contain_text(said)
    await expect(reader.page.get_by_label("Admin key")).to_be_focused()


async def test_the_keyboard_alone_is_enough_to_sign_in_and_move_about(
    stage: Stage, readers: Readers
) -> None:
    reader = await readers.come(await stage.proxy(auth=KEYS))
    page = reader.page
    await page.goto("/admin/audit")
    await page.keyboard.type("root")  # the field has the focus
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Audit")).to_be_visible()
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the page")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("region", name="Audit trail")).to_be_focused()
    settings = page.get_by_role("link", name="Settings")
    for _ in range(20):
        await page.keyboard.press("Shift+Tab")
        if await settings.evaluate("link => link === document.activeElement"):
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    await expect(settings).to_have_attribute("aria-current", "page")


async def test_the_theme_follows_the_system_until_it_is_chosen_and_then_stays(
    stage: Stage, readers: Readers
) -> None:
    reader = await readers.sign_in(await stage.proxy(auth=KEYS), "root")
    page = reader.page
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(paper)
    await page.emulate_media(color_scheme="dark")
    dark = await page.evaluate(paper)
    assert dark != light
    await page.get_by_role("button", name="Theme").click()
    assert await page.evaluate(paper) == light
    await page.goto("/admin/settings")
    assert await page.evaluate(paper) == light
    await page.emulate_media(color_scheme="light")
    await page.get_by_role("button", name="Theme").click()
    assert await page.evaluate(paper) == dark


async def test_the_open_section_is_in_sight_on_a_narrow_screen(
    stage: Stage, readers: Readers
) -> None:
    reader = await readers.sign_in(
        await stage.proxy(auth=KEYS), "root", "/admin/settings", narrow=True
    )
    await expect(reader.page.get_by_role("link", name="Settings")).to_be_in_viewport(ratio=1)
