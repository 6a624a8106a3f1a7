"""What every test of the fault suite starts from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.faults.site import Site, site_in


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Nothing runs in it yet but the fake upstream."""
    async with site_in(tmp_path) as site:
        yield site
