"""The disk is full, or becomes read-only: answers come from upstream, and writes resume.

The data directory is a small file system of its own, mounted in a namespace that only the proxy
and the commands of this test are in: root may do that, and others as root of a user namespace. A
second process in there fills it, and mounts it anew.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.faults.site import Site
from tests.e2e.ground import counted

pytestmark = pytest.mark.serial

ALONE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
SIZE = "8m"


class SmallDisk:
    """A file system of a few MiB, in a namespace of its own that a sleeping process keeps."""

    def __init__(self, where: Path) -> None:
        where.mkdir(parents=True, exist_ok=True)
        self.where = where
        mount = f'mount -t tmpfs -o size={SIZE} none "$0" && echo mounted && exec cat'
        self._keeper = subprocess.Popen(
            [*ALONE, "sh", "-c", mount, str(where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"mounted\n", "no namespace may be made here"

    @property
    def inside(self) -> list[str]:
        """What to put before a command that is to see it."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--mount", *user, "--target", str(self._keeper.pid)]

    def do(self, command: str) -> str:
        """Run a shell command that sees it, in it."""
        line = [*self.inside, "sh", "-c", f'cd "$0" && {command}', str(self.where)]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    def fill(self) -> None:
        """Leave no room, also where a snapshot that found none has just given its part back."""
        self.do(
            "for again in 1 2 3 4 5 6 7 8; do"
            " dd if=/dev/zero of=filler bs=4096 oflag=append conv=notrunc 2>/dev/null;"
            " test $(stat -fc %a .) = 0 && exit; done; exit 1"
        )

    def empty(self) -> None:
        """Give the room back."""
        self.do("rm filler")

    def remount(self, how: str) -> None:
        """Make it read-only ("ro") even to those who have files open, or writable ("rw")."""
        self.do(f'mount -o remount,{how},size={SIZE} none "$0"')

    def close(self) -> None:
        """Let go of it."""
        self._keeper.kill()
        self._keeper.communicate()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """An empty one."""
    disk = SmallDisk(tmp_path / "disk")
    try:
        yield disk
    finally:
        disk.close()


async def admissions(site: Site, outcome: str) -> int:
    """Return how many answers that were offered to the cache came to this."""
    process = site.proxies[0].proxy
    return (await counted(site.http, process, "nearhit_admissions_total", "outcome")).get(
        outcome, 0
    )


@pytest.mark.slow
async def test_with_a_full_disk_answers_flow_and_are_stored_again_once_there_is_room(
    site: Site, disk: SmallDisk
) -> None:
    process = site.proxy(within=disk.inside, data_dir=str(disk.where), snapshots={"every": "0.3s"})
    await site.ready()
    kept = [f"What is in lane {number}?" for number in range(10)]
    for question in kept:
        await site.put(0, question)
    before = await site.answers(0, kept)
    disk.fill()
    for number in range(40):
        told = await site.ask(0, f"What is on roof {number}? {'x' * 2000}")
        assert (told.status, told.hit) == (200, False)
        assert told.seconds < 1.0
    assert await admissions(site, "store_failed") > 0
    assert await site.answers(0, kept) == before  # memory and what is on disk can be read
    refused = await site.purge(0, prefix=kept[0])
    assert refused == 503  # it is not acknowledged, but takes effect here
    assert not await site.hit(0, kept[0])
    disk.empty()
    told = await site.put(0, "What is in a new lane?")
    assert await site.purge(0, prefix=kept[0]) == 200
    assert await site.purge(0, prefix=kept[1]) == 200
    asked = [*kept, "What is in a new lane?"]
    found = await site.converge(asked)
    expected = {**before, kept[0]: "", kept[1]: "", "What is in a new lane?": told.call}
    assert found == expected
    process.kill()
    process.start()
    assert await site.converge(asked) == expected


@pytest.mark.slow
async def test_a_replica_that_cannot_write_down_a_purge_serves_nothing_until_it_can(
    site: Site, disk: SmallDisk
) -> None:
    server = await site.redis()
    site.proxy(server.url, within=disk.inside, data_dir=str(disk.where))
    site.proxy(server.url)
    await site.ready()
    questions = [f"What is in lane {number}?" for number in range(6)]
    for question in questions:
        await site.put(1, question)
        await site.until_hit(0, question, 2)
    disk.fill()
    for question in questions[:2]:
        assert await site.purge(1, prefix=question) == 200
        assert not await site.hit(0, question)
        told = await site.ask(0, question)
        assert told.status == 200 and not told.hit
    disk.empty()
    found = await site.converge(questions)
    assert all(found[question] for question in questions[2:])


@pytest.mark.slow
async def test_a_read_only_data_directory_is_refused_in_one_line_and_harms_nothing(
    site: Site, disk: SmallDisk
) -> None:
    process = site.proxy(within=disk.inside, data_dir=str(disk.where))
    await site.ready()
    await site.put(0, "What is in the lane?")
    before = await site.answers(0, ["What is in the lane?"])
    process.kill()
    disk.remount("ro")
    process.start()
    with pytest.raises(RuntimeError, match=r"exit 1: (.|\n)*nearhit: .*Read-only file system"):
        await process.ready()
    assert "Traceback" not in process.last_words()
    disk.remount("rw")
    process.start()
    assert await site.converge(["What is in the lane?"]) == before
