"""Several worker processes of one host behind one port, on a real Redis."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from proxy.cli import app
from proxy.whereabouts import FILE
from tests.e2e.ground import chat, fresh_question
from tests.fake_upstream import FakeUpstream
from tests.harness import ProxyProcess, digest
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.serial]
ADMIN = {"Authorization": "Bearer root"}
ROUNDS = 24  # requests on connections of their own: both workers get some


@dataclass
class Host:
    """A host with two workers, and clients that connect anew for every request."""

    upstream: FakeUpstream
    process: ProxyProcess
    http: aiohttp.ClientSession
    policies: Path

    @property
    def url(self) -> str:
        return self.process.proxy.url

    async def ask(self, question: str) -> tuple[int, str]:
        status, told, _ = await chat(self.http, self.process.proxy, question, key="acme")
        return status, told

    async def lookups(self) -> dict[str, int]:
        """Return how many requests each worker has looked up."""
        async with self.http.get(f"{self.url}/metrics") as answer:
            assert answer.status == 200
            lines = (await answer.text()).splitlines()
        found: dict[str, int] = {}
        for line in lines:
            if line.startswith("nearhit_build_info{"):
                found.setdefault(_worker(line), 0)
            if line.startswith("nearhit_lookups_total{"):
                found[_worker(line)] = found.get(_worker(line), 0) + int(float(line.split()[-1]))
        return found

    async def until_all_serve(self) -> None:
        async with asyncio.timeout(60):
            serving = 0
            while serving < 2:
                await asyncio.sleep(0.2)  # what starts needs the processor more than we do
                serving = len(await self.lookups())

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


def _worker(line: str) -> str:
    return line.partition('worker="')[2].partition('"')[0]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with AsyncExitStack() as stack:
        redis = RedisServer(tmp_path / "redis").start()
        stack.callback(redis.stop)
        upstream = await stack.enter_async_context(FakeUpstream())
        connector = aiohttp.TCPConnector(force_close=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        policies = tmp_path / "policies.yaml"
        policies.write_text("categories: [{name: default}]\n")
        config = tmp_path / "nearhit.yaml"
        keys = [
            {"sha256": digest("acme"), "tenant": "acme"},
            {"sha256": digest("root"), "role": "admin"},
        ]
        whole = {
            "server": {"workers": 2},
            "data_dir": str(tmp_path / "data"),
            "documents": redis.url,
            "redis": {"request_timeout": "1s"},  # machines that run tests are busy
            "upstreams": [{"name": "fake", "base_url": upstream.base_url}],
            "policies": str(policies),
            "auth": {"keys": keys},
        }
        config.write_text(yaml.safe_dump(whole))
        process = ProxyProcess("--config", str(config))
        stack.callback(process.close)
        await process.ready()
        host = Host(upstream, process, http, policies)
        await host.until_all_serve()
        yield host


async def test_two_workers_share_the_requests_and_what_is_stored_and_end_together(
    host: Host,
) -> None:
    question = fresh_question()
    assert (await host.ask(question))[1] == "nearhit; fwd=miss"
    await asyncio.sleep(1)  # within which a put on one replica hits on another
    for _ in range(ROUNDS):
        assert "detail=exact" in (await host.ask(question))[1]
    lookups = await host.lookups()
    assert sum(lookups.values()) == ROUNDS + 1
    assert min(lookups.values()) > 0
    assert len(host.upstream.calls) == 1
    async with host.http.post(
        f"{host.url}/admin/api/purge", json={"all": True}, headers=ADMIN
    ) as answer:
        assert answer.status == 200
    await host.ask(question)
    assert len(host.upstream.calls) == 2  # whichever was asked, it does not hit
    listed = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["checkpoints", "list", "--json", "--config", str(host.policies.parent / "nearhit.yaml")],
        env={"NEARHIT_ADMIN_KEY": "root"},
    )
    assert "active" in listed.stdout, listed.stderr  # whichever worker was asked
    workers = host.workers()
    assert len(workers) == 2
    assert host.process.stop() == 0
    assert not (host.policies.parent / "data" / FILE).exists()
    assert not any(worker.is_running() for worker in workers)
    words = host.process.last_words()
    assert words.count("nearhit is ready") == 1
    assert "Traceback" not in words


async def test_a_killed_worker_is_survived_and_comes_back(host: Host) -> None:
    before = host.workers()
    before[0].kill()
    before[0].wait(10)
    for _ in range(ROUNDS):
        assert (await host.ask(fresh_question()))[0] == 200
    await host.until_all_serve()
    for _ in range(ROUNDS):
        assert (await host.ask(fresh_question()))[0] == 200
    assert min((await host.lookups()).values()) > 0
    assert host.process.stop(signal.SIGINT) == 0
    assert "was killed by SIGKILL: starting it again" in host.process.last_words()


async def test_one_change_of_the_policies_file_is_one_version(host: Host) -> None:
    host.policies.write_text("categories: [{name: default}, {name: prices}]\n")
    host.process.hang_up()
    async with asyncio.timeout(30):
        seen = 0
        while seen < ROUNDS:  # whichever is asked
            seen = seen + 1 if "prices" in await _categories(host) else 0
    async with host.http.get(f"{host.url}/admin/api/policies/versions", headers=ADMIN) as answer:
        assert len((await answer.json())["versions"]) == 2


async def _categories(host: Host) -> list[str]:
    async with host.http.get(f"{host.url}/admin/api/categories", headers=ADMIN) as answer:
        return [category["name"] for category in (await answer.json())["categories"]]


async def test_workers_end_when_their_parent_is_killed(host: Host) -> None:
    workers = host.workers()
    assert len(workers) == 2
    host.process.kill()
    assert (await asyncio.to_thread(psutil.wait_procs, workers, 30))[1] == []
