"""Opening what is stored, and what stands in the way of it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.documents_root import open_shelves
from proxy.settings import Settings
from store.errors import StoreUnavailable


@pytest.mark.parametrize("documents", ["sqlite", "redis://127.0.0.1:1/0"])
async def test_a_data_dir_that_is_a_file_is_refused_by_its_setting(
    tmp_path: Path, documents: str
) -> None:
    file = tmp_path / "taken"
    file.write_text("")
    async with AsyncExitStack() as stack:
        with pytest.raises(StoreUnavailable, match=f"data_dir {file} cannot be used: "):
            await open_shelves(Settings(data_dir=file, documents=documents), {}, stack)
