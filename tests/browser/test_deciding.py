"""The pages of what decides, with something on them: a question tried out, arms, checkpoints."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import expect

from tests.browser.axe import violations
from tests.browser.conftest import KEYS, Readers
from tests.browser.reader import NARROW, WIDE, Reader
from tests.checkpoints_made import label
from tests.e2e import test_dashboard_federated as checkpoints
from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_near_hits import FIRST, OPEN, PAIR, ask_large
from tests.e2e.test_near_hits_replay import JUDGE, helped_badly, improving

KETTLE = "How do I descale my kettle with vinegar?"


async def usable(reader: Reader, name: str) -> None:
    """Look at a page in both themes and at both widths."""
    page = reader.page
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        assert await violations(page) == []
        for size in (WIDE, NARROW):
            await page.set_viewport_size(size)
            width, window = await reader.widths()
            assert width <= window, f"{width - window} px too wide at {size['width']}, {theme}"
            await reader.shoot(f"{name}-{theme}-{size['width']}", whole=True)
    await page.set_viewport_size(WIDE)


async def test_a_question_is_tried_out_by_keyboard(
    stage: Stage, ask: Ask, readers: Readers
) -> None:
    fish = ["which fish swims in the harbour", "what does a herring eat"]
    proxy = await stage.proxy({"name": "default"}, {"name": "fish", "examples": fish}, auth=KEYS)
    for question in (KETTLE, "How do I fill my kettle with 2 litres of water?"):
        await ask(stage.openai(proxy, "acme"), question)
    reader = await readers.sign_in(proxy, "eyes", "/admin/playground")
    page = reader.page
    await page.get_by_label("Question").fill(KETTLE.replace("How do I", "How can I"))
    await page.get_by_label("Model").fill("gpt-4o-mini")
    await page.get_by_label("Tenant").fill("acme")
    await page.get_by_role("button", name="Explain").press("Enter")
    await expect(page.get_by_role("heading", name="Verdict: hit semantic")).to_be_visible()
    await expect(page.get_by_role("link", name="The entry that answers")).to_be_visible()
    assert await page.get_by_label("Tenant").input_value() == "acme"
    await usable(reader, "playground")
    await page.get_by_label("Question").fill("How do I fill my kettle with 5 litres of water?")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.get_by_role("heading", name="Verdict: miss")).to_be_visible()
    await expect(page.get_by_text("the guard of numbers forbids it").first).to_be_visible()
    reader.expects("status of 400")
    await page.get_by_label("Temperature").fill("hot")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.get_by_text("A number from 0 to 2.")).to_be_visible()
    assert await violations(page) == []


async def test_arms_and_examples_are_shown_and_poor_ones_replayed(
    stage: Stage, ask: Ask, readers: Readers
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR, judge=JUDGE)
    improving(stage)
    reader = await readers.sign_in(proxy, "root", "/admin/near-hits")
    page = reader.page
    await expect(page.get_by_text("No near-hit has been decided yet")).to_be_visible()
    await helped_badly(stage, ask, proxy)
    await expect(page.get_by_role("cell", name="small, with examples")).to_be_visible()  # by itself
    await page.reload()
    await page.get_by_role("button", name="Show what would be replayed").click()
    await page.get_by_role("button", name="Replay 1 example now").click()
    await expect(page.get_by_text("1 of 1 answered anew")).to_be_visible()
    await usable(reader, "near-hits")
    assert (await ask_large(ask, stage, proxy, FIRST)).hit


async def test_a_checkpoint_is_judged_promoted_and_gone_back_from(
    tmp_path: Path, readers: Readers
) -> None:
    await label(tmp_path / "data", 160)
    made = checkpoints.trained(tmp_path / "runs" / "checkpoint")
    async with checkpoints.reading(tmp_path / "data", "root", auth=KEYS) as known:
        reader = await readers.sign_in(known.proxy, "root", "/admin/federated")
        page = reader.page
        page.on("dialog", lambda dialog: dialog.accept())
        reader.expects("status of 400")
        field = page.get_by_label("Its directory on the proxy's machine")
        await field.fill("runs/1")
        await page.get_by_role("button", name="Copy and judge it").click()
        await expect(page.get_by_text("beginning with a /")).to_be_visible()
        known.slow = 0.03
        await field.fill(str(made.directory))
        await page.get_by_role("button", name="Copy and judge it").click()
        await expect(page.get_by_role("progressbar")).to_be_visible()
        await expect(page.get_by_text("The gate lets it pass.")).to_be_visible()  # by itself
        known.slow = 0.0
        await usable(reader, "federated")
        await page.get_by_role("button", name="Promote it").click()
        await expect(page.get_by_role("heading", name=f"{made.id} active")).to_be_visible()
        await page.get_by_role("button", name="Roll back to it").click()
        await expect(page.get_by_text("serves again")).to_be_visible()
