"""The playground explains what the cache would do, with nothing but a keyboard."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.axe import violations
from tests.browser.conftest import KEYS, Readers
from tests.e2e.conftest import Ask, Stage

KETTLE = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"


async def test_a_question_is_explained_by_keyboard_alone_and_changes_nothing(
    stage: Stage, readers: Readers, ask: Ask
) -> None:
    proxy = await stage.proxy({"name": "default"}, auth=KEYS)
    await ask(stage.openai(proxy, "acme"), KETTLE)
    calls = len(stage.upstream.calls)
    reader = await readers.sign_in(proxy, "root", "/admin/playground")
    page = reader.page
    question, model, tenant = (page.get_by_label(n) for n in ("Question", "Model", "Tenant"))
    while not await question.evaluate("field => field === document.activeElement"):
        await page.keyboard.press("Tab")
    await page.keyboard.type(REPHRASED)
    await page.keyboard.press("Tab")
    await expect(model).to_be_focused()
    await page.keyboard.press("Control+a")
    await page.keyboard.type("gpt-4o-mini")
    await page.keyboard.press("Tab")
    await expect(tenant).to_be_focused()
    await page.keyboard.type("acme")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status", name="Verdict")).to_contain_text("hit")
    candidate = page.get_by_role("region", name="Candidates").get_by_role("row").nth(1)
    await expect(candidate).to_contain_text(KETTLE)
    await expect(candidate).to_contain_text("answers")
    await expect(question).to_have_value(REPHRASED)
    await reader.shoot("playground", for_docs=True)
    assert await violations(page) == []
    assert len(stage.upstream.calls) == calls


async def test_a_question_that_no_client_could_ask_is_refused_beside_its_field(
    stage: Stage, readers: Readers
) -> None:
    reader = await readers.sign_in(await stage.proxy(auth=KEYS), "root", "/admin/playground")
    reader.expects("status of 400|Response Status Error")
    page = reader.page
    await page.get_by_label("Question").fill(KETTLE)
    await page.get_by_label("Model").fill("gpt-4o-mini")
    field = page.get_by_label("Temperature")
    await field.fill("hot")
    await page.get_by_role("button", name="Explain").click()
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#fault-temperature")).not_to_be_empty()
    await expect(page.get_by_label("Question")).to_have_value(KETTLE)
