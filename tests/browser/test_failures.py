"""What a reader sees when a part of the proxy fails, or all of it: words, and never a wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from playwright.async_api import expect

from store.documents.sqlite import FILE
from tests.browser.axe import violations
from tests.browser.conftest import KEYS, Readers
from tests.e2e.conftest import Stage


@contextmanager
def without_table(data_dir: Path, table: str) -> Iterator[None]:
    """Take a table away from a running proxy, and give it back."""
    with closing(sqlite3.connect(data_dir / FILE)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE away RENAME TO {table}")


async def test_a_failing_store_is_named_with_what_to_do_and_trying_again_works(
    stage: Stage, readers: Readers
) -> None:
    reader = await readers.sign_in(await stage.proxy(auth=KEYS), "root", "/admin/settings")
    reader.expects("status of 503")
    page = reader.page
    with without_table(stage.data_dir, "audit"):
        await page.get_by_role("link", name="Audit").click()
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("document store")
        await expect(alert).to_contain_text("Check that the document store runs")
        await reader.shoot("failing-store")
        assert await violations(page) == []
    await page.get_by_role("link", name="Try again").click()
    await expect(page.get_by_role("heading", name="Audit")).to_be_visible()
    await expect(page.get_by_role("cell", name="login", exact=True)).to_be_visible()
