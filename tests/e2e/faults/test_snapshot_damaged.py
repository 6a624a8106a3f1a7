"""A damaged snapshot is not believed: everything is loaded from what is stored, with no difference.

Vectors are involved here: what is found by meaning is rebuilt, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.faults.site import Site

pytestmark = pytest.mark.serial

BY_MEANING = {"name": "default", "mode": "semantic", "hit_threshold": 0.99}


def flipped(file: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def cut(file: Path) -> None:
    """Leave half of it."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    """Leave a file of no bytes."""
    file.write_bytes(b"")


@pytest.mark.slow
async def test_with_a_damaged_snapshot_everything_is_rebuilt_and_the_answers_are_the_same(
    site: Site,
) -> None:
    process = site.proxy(categories=[BY_MEANING])
    await site.ready()
    questions = [f"What hangs on peg {number}?" for number in range(20)]
    for question in questions:
        await site.put(0, question)
    assert await site.purge(0, prefix=questions[0]) == 200
    assert await site.purge(0, prefix=questions[1]) == 200
    expected = await site.answers(0, questions)
    assert process.stop() == 0
    folder = site.data(0) / "snapshots"
    whole = site.directory / "whole"
    shutil.copytree(folder, whole)
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    assert len(files) > 2
    harms: list[Callable[[Path], None]] = [flipped, cut, emptied, Path.unlink]
    for number, harm in enumerate(harms):
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        harm(folder / files[number % len(files)])
        process.start()
        assert await site.converge(questions) == expected
        assert f"snapshot {folder}" in process.last_words()
        process.kill()
    shutil.rmtree(folder)
    process.start()
    assert await site.converge(questions) == expected
