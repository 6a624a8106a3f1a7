"""Servers of a benchmark come up, say why when they do not, and go with their parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from bench.processes import ServerFailed, free_port, nearhit_server, python_server, running

pytestmark = pytest.mark.serial

UPSTREAM = python_server("bench.fake_upstream")
PARENT = """
import asyncio
from bench.processes import python_server, running
async def main():
    async with running("fake", python_server("bench.fake_upstream")) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_server_answers_while_entered_and_is_gone_afterwards() -> None:
    started = time.perf_counter()
    async with running("fake", UPSTREAM, ready_path="/calls") as server:
        assert 0 < server.ready_seconds < time.perf_counter() - started
        async with aiohttp.ClientSession() as session, session.get(server.origin + "/calls") as it:
            assert (await it.json())["total"] == 0
    assert not psutil.pid_exists(server.pid)


@pytest.mark.slow
async def test_a_server_that_dies_says_why() -> None:
    wrong = python_server("bench.fake_upstream", "--tokens", "0")
    with pytest.raises(ServerFailed, match=r"ended with status 1(.|\n)*tokens >= 1"):
        async with running("fake", wrong):
            pass


@pytest.mark.slow
async def test_a_server_that_is_never_ready_is_given_up() -> None:
    with pytest.raises(ServerFailed, match=r"fake: not ready after 1.5 s"):
        async with running("fake", UPSTREAM, ready_path="/never", ready_seconds=1.5):
            pass


@pytest.mark.slow
def test_servers_go_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        gone, _ = psutil.wait_procs([server], timeout=5)
    assert gone or server.status() == psutil.STATUS_ZOMBIE


def test_a_free_port_can_be_asked_for_again_and_again() -> None:
    assert all(1024 <= free_port() <= 65535 for _ in range(20))


def test_nearhit_is_this_environments_own() -> None:
    program, *arguments = nearhit_server(Path("x.yaml"))(81)
    assert program.endswith("/nearhit")
    assert arguments == ["serve", "--config", "x.yaml", "--host", "127.0.0.1", "--port", "81"]
