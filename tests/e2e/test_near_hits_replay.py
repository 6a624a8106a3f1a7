"""`nearhit replay`: the running server answers poor examples anew, and shows the better answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app
from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_feedback import KEYS, send
from tests.e2e.test_near_hits import FIRST, NEAR_HIT, OPEN, PAIR, SECOND, ask_large, metric
from tests.fake_upstream import Call, Script
from tests.harness import Proxy

JUDGE = {"model": "judge"}


def improving(stage: Stage) -> list[Call]:
    """Have the large model do better the second time, and a judge see that; return all calls."""
    calls: list[Call] = []

    def choose(call: Call) -> Script | None:
        calls.append(call)
        said = call.body["messages"][-1]["content"]
        if call.body["model"] == "small":
            return Script(text="jumped")
        if call.body["model"] == "judge":
            return Script(text=_verdict(said))
        asked_before = sum(each.body["messages"][-1]["content"] == FIRST for each in calls) > 1
        return Script(text="it strolled" if asked_before else "it walked")

    stage.upstream.choose = choose
    return calls


def _verdict(compared: str) -> str:
    if "it walked" not in compared or "it strolled" not in compared:
        return "SCORE: 0"
    return f"SCORE: {-2 if compared.index('it walked') < compared.index('it strolled') else 2}"


async def helped_badly(stage: Stage, ask: Ask, proxy: Proxy) -> None:
    """Show the first question's answer four times, and then have clients complain of each."""
    await ask_large(ask, stage, proxy, FIRST)
    asked = [SECOND.replace("jump", f"j{number}mp") for number in range(4)]
    served = [await ask_large(ask, stage, proxy, text) for text in asked]
    for near in served:
        assert near.status == NEAR_HIT
        assert await send(stage, proxy, "acme", near.headers["x-request-id"], "wrong") == 202


async def replay(
    stage: Stage, proxy: Proxy, *arguments: str, key: str | None = "root", **config: Any
) -> Result:
    """Run the command as an operator would, beside the server."""
    file = Path(stage.data_dir) / "operator.yaml"
    whole = {
        "data_dir": str(stage.data_dir),
        "server": {"port": proxy.port},
        "upstreams": [{"name": "fake", "base_url": stage.upstream.base_url}],
    }
    file.write_text(yaml.safe_dump({**whole, **config}))
    command = ["replay", "--config", str(file), *arguments]
    environ = {"NEARHIT_ADMIN_KEY": key}
    return await asyncio.to_thread(CliRunner().invoke, app, command, env=environ)


async def test_the_better_answer_is_shown_and_the_stored_one_still_replayed(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR, judge=JUDGE)
    calls = improving(stage)
    await helped_badly(stage, ask, proxy)

    before = len(calls)
    dry = await replay(stage, proxy, "--dry-run", "--json")
    assert dry.exit_code == 0, dry.stderr
    (example,) = json.loads(dry.stdout)["examples"]
    assert (example["query"], example["replays"]) == (FIRST, 0)
    listed = await replay(stage, proxy, "--dry-run")
    assert listed.stdout.startswith(example["id"]) and FIRST in listed.stdout
    assert listed.stderr.strip() == "1 would be replayed"
    assert len(calls) == before

    done = await replay(stage, proxy, "--json")
    assert done.exit_code == 0, done.stderr
    expected = {"planned": 1, "replayed": 1, "improved": 1, "skipped": 0, "failed": 0}
    assert json.loads(done.stdout.splitlines()[-1]) == expected
    assert await metric(stage, proxy, 'nearhit_example_replays_total{outcome="improved"}') == 1

    near, number = None, 0
    while near is None or near.status != NEAR_HIT:  # now and then a higher threshold is tried
        number += 1
        assert number < 40
        near = await ask_large(ask, stage, proxy, SECOND.replace("jump", f"hop{number}"))
    shown = [message["content"] for message in calls[-1].body["messages"]]
    assert "it strolled" in shown and "it walked" not in shown
    hit = await ask_large(ask, stage, proxy, FIRST)
    assert (hit.hit, hit.text) == (True, "it walked")

    nothing = await replay(stage, proxy)  # it has not helped badly since
    assert nothing.stdout.splitlines()[-1].startswith("0 planned, 0 replayed")


@pytest.mark.parametrize("more", [{}, {"offload": PAIR}, {"judge": JUDGE}])
@pytest.mark.parametrize("dry", [True, False])
async def test_where_nobody_judges_the_command_says_why_it_cannot(
    stage: Stage, more: dict[str, Any], dry: bool
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, **more)
    done = await replay(stage, proxy, *(["--dry-run"] if dry else []))
    assert done.exit_code == 1
    assert "examples are replayed where `offload` and `judge` are configured" in done.stderr
    assert "Traceback" not in done.output


async def test_without_the_admin_s_key_it_says_what_to_set(stage: Stage) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR, judge=JUDGE)
    for key in (None, "acme"):
        done = await replay(stage, proxy, key=key)
        assert done.exit_code == 1
        assert "set NEARHIT_ADMIN_KEY" in done.stderr


async def test_without_a_server_it_says_where_one_should_be(stage: Stage) -> None:
    stage.data_dir.mkdir(parents=True)
    done = await replay(stage, Proxy(9))
    assert done.exit_code == 1
    assert f"no server has left its address in {stage.data_dir}" in done.stderr


async def test_a_budget_that_is_spent_replays_nothing(stage: Stage, ask: Ask) -> None:
    judge = {**JUDGE, "max_cost_per_hour": 0.0}
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR, judge=judge)
    calls = improving(stage)
    await helped_badly(stage, ask, proxy)
    before = len(calls)
    done = await replay(stage, proxy)
    assert "1 planned, 0 replayed" in done.stdout
    assert len(calls) == before
