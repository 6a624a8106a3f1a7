"""What watches the pages sees what it is there for."""

from __future__ import annotations

import asyncio

from playwright.async_api import expect

from tests.browser.axe import violations
from tests.browser.conftest import KEYS, Readers
from tests.browser.reader import Reader
from tests.e2e.conftest import Stage


async def heard(reader: Reader, said: str) -> None:
    """Wait until something is among the faults, 10 seconds at the most."""
    for _ in range(500):
        if said in " ".join(reader.faults()):
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"not heard: {said}")


async def test_a_script_a_picture_and_a_request_from_elsewhere_are_faults(
    stage: Stage, readers: Readers
) -> None:
    reader = await readers.sign_in(await stage.proxy(auth=KEYS), "root")
    for code, said in (
        ("document.body.append(Object.assign(new Image(), {src: '//cdn.example/'}))", "img-src"),
        ("document.body.innerHTML += '<p style=\"color: red\">red</p>'", "style-src"),
        ("fetch('//cdn.example/').catch(() => null)", "connect-src"),
        ("setTimeout(() => { throw new Error('oops') })", "thrown: oops"),
    ):
        await reader.page.evaluate(f"() => {{ {code} }}")
        await heard(reader, said)
    assert "asked: http://cdn.example/" in reader.faults()
    reader.asked.clear()
    reader.expects("")


async def test_axe_finds_what_cannot_be_read_or_has_no_name(stage: Stage, readers: Readers) -> None:
    reader = await readers.sign_in(await stage.proxy(auth=KEYS), "root")
    await expect(reader.page.get_by_role("heading", name="Audit")).to_be_visible()
    assert await violations(reader.page) == []
    await reader.page.evaluate(
        "document.querySelector('main').append(document.createElement('input'))"
    )
    await reader.page.evaluate("document.querySelector('h1').style.color = '#d0d0d0'")
    found = " ".join(await violations(reader.page))
    assert "critical label" in found and "serious color-contrast" in found
