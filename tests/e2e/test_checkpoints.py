"""The life of a checkpoint: judged, promoted, served and rolled back, with hits all the while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from embed.checkpoint import Checkpoint
from proxy.cli import app
from tests.checkpoints_made import LINEAGE, bundled, label, trained, worn
from tests.e2e.ground import chat
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, policies, proxy_running, settings_for

BOOK = policies({"name": "default", "hit_threshold": 0.95, "near_threshold": 0.9})
STORED = "How do I repair a torn umbrella at home?"
REWORDED = "How do I repair a torn umbrella at home please?"
SEMANTIC = "detail=semantic"
EXACT = "detail=exact"


@pytest.fixture(scope="module")
def worn_out(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return a checkpoint that is worse than the bundled one."""
    return worn(tmp_path_factory.mktemp("made") / "worn")


@pytest.fixture(scope="module")
def better(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return one that is as good as the bundled one, and better than the worn one."""
    return trained(tmp_path_factory.mktemp("made") / "better")


class Place:
    """A data directory with labelled pairs, a proxy on it, and the commands of its operator."""

    def __init__(self, directory: Path, upstream: FakeUpstream, configured: Checkpoint) -> None:
        self.directory = directory
        self.upstream = upstream
        self.encoder = {"checkpoint": str(configured.directory), "reencoding_share": 1.0}

    async def label(self, count: int = 210) -> None:
        """Have pairs that audits have labelled, as they would have come in."""
        await label(self.directory, count)

    @asynccontextmanager
    async def proxy(self) -> AsyncIterator[Operator]:
        settings = settings_for(
            self.directory,
            self.upstream.base_url,
            encoder=self.encoder,
            lookup_gate=False,
            checkpoints={"min_pairs": 20},
        )
        async with proxy_running(settings, BOOK) as proxy, aiohttp.ClientSession() as http:
            yield Operator(self, proxy, http)


class Operator:
    """Asks a proxy, and runs its commands."""

    def __init__(self, place: Place, proxy: Proxy, http: aiohttp.ClientSession) -> None:
        self._place = place
        self._proxy = proxy
        self._http = http

    async def ask(self, question: str) -> str:
        """Return the Cache-Status of a question, once its answer must be visible."""
        status = (await chat(self._http, self._proxy, question))[1]
        await asyncio.sleep(0.1)
        return status

    async def run(self, *arguments: str) -> Result:
        """Run `nearhit checkpoints` beside the server."""
        file = self._place.directory.parent / "operator.yaml"
        whole = {"data_dir": str(self._place.directory), "server": {"port": self._proxy.port}}
        file.write_text(yaml.safe_dump(whole))
        command = ["checkpoints", arguments[0], "--config", str(file), *arguments[1:]]
        return await asyncio.to_thread(CliRunner().invoke, app, command)

    async def admin(self, path: str) -> Any:
        async with self._http.get(f"{self._proxy.url}/admin/api/{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def listed(self) -> dict[str, dict[str, Any]]:
        """Return the checkpoints by id, as the command shows them."""
        shown = await self.run("list", "--json")
        assert shown.exit_code == 0, shown.stderr
        return {row["id"]: row for row in json.loads(shown.stdout)["checkpoints"]}

    async def audited(self, action: str) -> dict[str, Any]:
        """Return the newest row of the audit trail with this action."""
        rows = (await self.admin("audit"))["audit"]
        return next(row for row in rows if row["action"] == action)

    async def metric(self, name: str) -> list[str]:
        async with self._http.get(f"{self._proxy.url}/metrics") as answer:
            return [line for line in (await answer.text()).splitlines() if line.startswith(name)]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


async def test_a_better_checkpoint_is_promoted_serves_survives_a_restart_and_is_rolled_back(
    tmp_path: Path, upstream: FakeUpstream, worn_out: Checkpoint, better: Checkpoint
) -> None:
    place = Place(tmp_path / "data", upstream, worn_out)
    await place.label()
    async with place.proxy() as at:
        assert await at.ask(STORED) == "nearhit; fwd=miss"
        assert (await at.ask(REWORDED)).endswith(SEMANTIC)
        before = (await at.admin("categories/default"))["hit_threshold"]

        promoting = asyncio.create_task(at.run("promote", str(better.directory), "--json"))
        during = set()
        while not promoting.done():
            during |= {(await at.ask(STORED))[-len(EXACT) :], (await at.ask(REWORDED))[-15:]}
        assert during == {EXACT, SEMANTIC}, "hits all the while"
        done = await promoting
        assert done.exit_code == 0, done.stderr
        ended = json.loads(done.stdout)
        assert (ended["outcome"], ended["checkpoint"]) == ("promoted", better.id)
        assert "judging it by held-out pairs" in done.stderr

        listed = await at.listed()
        assert {id: row["state"] for id, row in listed.items()} == {
            worn_out.id: "former",
            better.id: "active",
        }
        row = listed[better.id]
        assert row["lineage"]["parent"] == LINEAGE.parent and row["verdict"]["passed"]
        overall = row["verdict"]["overall"]
        assert overall["candidate"]["f_beta"] > overall["running"]["f_beta"] + 0.05
        shown = (await at.run("list")).stdout
        assert f"{better.id}  active     passed: F0.5 0.9" in shown
        assert f"{worn_out.id}  former     as configured" in shown
        audited = await at.audited("checkpoint.promote")
        assert audited["who"] == "anonymous on loopback"
        assert audited["after"]["checkpoint"] == better.id
        assert audited["after"]["verdict"]["passed"] and not audited["after"]["forced"]
        named = f'nearhit_checkpoint_info{{checkpoint="{better.id}"}} 1.0'
        assert await at.metric("nearhit_checkpoint_info") == [named]
        counted = 'nearhit_promotions_total{outcome="promoted"} 1.0'
        assert counted in await at.metric("nearhit_promotions_total")
        refitted = (await at.admin("categories/default"))["hit_threshold"]
        assert refitted != before
        assert (await at.ask(STORED)).endswith(EXACT)
        assert (await at.ask(REWORDED)).endswith(SEMANTIC)

    async with place.proxy() as at:
        assert (await at.listed())[better.id]["state"] == "active"
        assert (await at.admin("categories/default"))["hit_threshold"] == refitted
        assert (await at.ask(REWORDED)).endswith(SEMANTIC)

        back = await at.run("rollback")
        assert (back.exit_code, back.stdout) == (0, f"{worn_out.id} serves now\n")
        assert (await at.admin("categories/default"))["hit_threshold"] == before
        assert (await at.ask(STORED)).endswith(EXACT)
        assert (await at.ask(REWORDED)).endswith(SEMANTIC)
        assert (await at.audited("checkpoint.rollback"))["after"] == {"checkpoint": worn_out.id}
        assert (await at.listed())[better.id]["state"] == "former"


async def test_a_worse_one_is_refused_for_the_reasons_shown_unless_it_is_forced(
    tmp_path: Path, upstream: FakeUpstream, worn_out: Checkpoint
) -> None:
    place = Place(tmp_path / "data", upstream, bundled())
    await place.label()
    async with place.proxy() as at:
        refused = await at.run("promote", str(worn_out.directory))
        assert refused.exit_code == 1
        assert refused.stdout == f"{worn_out.id} is refused\n"
        assert "  does not win overall: F0.5 0." in refused.stderr
        assert "  loses in default: F0.5 0." in refused.stderr
        row = (await at.listed())[worn_out.id]
        assert (row["state"], row["verdict"]["passed"]) == ("candidate", False)
        assert "does not win overall" in (await at.run("list")).stdout
        audited = await at.audited("checkpoint.refuse")
        assert audited["after"]["verdict"]["reasons"] == row["verdict"]["reasons"]

        forced = await at.run("promote", worn_out.id, "--force")
        assert (forced.exit_code, forced.stdout) == (0, f"{worn_out.id} serves now\n")
        assert (await at.audited("checkpoint.promote"))["after"]["forced"]
        assert "forced, though it does not win" in (await at.run("list")).stdout
        again = await at.run("promote", worn_out.id)
        assert again.exit_code == 1 and "serves already" in again.stderr


async def test_few_pairs_damage_and_nonsense_are_refused_in_a_line(
    tmp_path: Path, upstream: FakeUpstream, better: Checkpoint
) -> None:
    place = Place(tmp_path / "data", upstream, bundled())
    await place.label(20)
    async with place.proxy() as at:
        few = await at.run("promote", str(better.directory))
        assert few.exit_code == 1
        assert "too few held-out pairs: " in few.stderr
        weights = place.directory / "checkpoints" / better.id / "model.onnx"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        damaged = await at.run("promote", better.id, "--force")
        assert damaged.exit_code == 1 and "is damaged: model.onnx has SHA-256" in damaged.stderr
        row = (await at.listed())[better.id]
        assert row["state"] == "refused" and "is damaged" in row["fault"]
        for named, said in (
            (str(tmp_path), "holds no manifest.json"),
            ("unheard-of", "holds no manifest.json"),
        ):
            nonsense = await at.run("promote", named)
            assert nonsense.exit_code == 1 and said in nonsense.stderr
        back = await at.run("rollback")
        assert back.exit_code == 1 and "no checkpoint served before this one" in back.stderr
