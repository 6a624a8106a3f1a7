"""Policies over the admin API: the next request obeys, and the change survives or is undone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app
from tests.e2e.conftest import Ask, Stage
from tests.harness import Proxy, ProxyProcess, digest, policies, proxy_running, settings_for

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
ROOT = {"Authorization": "Bearer root"}
EYES = {"Authorization": "Bearer eyes"}
KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme"},
        {"sha256": digest("root"), "role": "admin"},
        {"sha256": digest("eyes"), "role": "viewer"},
    ]
}


async def call(
    stage: Stage, proxy: Proxy, method: str, path: str, body: Any = None, key: Any = ROOT
) -> tuple[int, Any]:
    url = f"{proxy.url}/admin/api{path}"
    async with stage.http.request(method, url, json=body, headers=key) as answer:
        return answer.status, json.loads(await answer.read())


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it has happened, 10 seconds at the most."""
    for _ in range(200):
        if await happened():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


async def test_a_new_threshold_holds_for_the_very_next_request(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy({"name": "default"}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert (await ask(client, REPHRASED)).hit
    status, policy = await call(
        stage, proxy, "PUT", "/categories/default", {"hit_threshold": 0.9999}
    )
    assert (status, policy["hit_threshold"]) == (200, 0.9999)
    assert not (await ask(client, "How could I descale my kettle with vinegar?")).hit
    assert (await ask(client, QUESTION)).hit


async def test_a_shorter_ttl_holds_for_what_is_already_stored(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy({"name": "default"}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert (await ask(client, QUESTION)).hit
    await call(stage, proxy, "PUT", "/categories/default", {"ttl": 0})
    assert (await ask(client, QUESTION)).status in ("nearhit; fwd=stale", "nearhit; fwd=miss")


async def test_what_get_gives_may_be_put_back(stage: Stage) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq", "ttl": "2h"}, auth=KEYS)
    status, before = await call(stage, proxy, "GET", "/categories/faq")
    assert status == 200
    assert before["effective"]["hit_threshold"] == before["hit_threshold"]
    assert await call(stage, proxy, "PUT", "/categories/faq", before) == (200, before)
    _, listed = await call(stage, proxy, "GET", "/categories")
    assert [row["name"] for row in listed["categories"]] == ["default", "faq"]
    assert listed["next"] is None


async def test_absent_keys_take_their_defaults(stage: Stage) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq", "ttl": "2h"}, auth=KEYS)
    _, after = await call(stage, proxy, "PUT", "/categories/faq", {"mode": "exact"})
    assert (after["mode"], after["ttl"]) == ("exact", "1d")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"hit_threshold": 2}, "hit_threshold: 2 is not allowed; allowed: a number from -1 to 1"),
        ({"hit_treshold": 0.9}, "hit_treshold: unknown key"),
        ({"hit_threshold": 0.8, "near_threshold": 0.9}, "near_threshold: 0.9 is not allowed"),
        ({"name": "other"}, "name: 'other' is not allowed"),
        ({"match": [{"regex": "(a"}]}, "an RE2 expression"),
        ({"description": "\ud83d"}, "description: '\\ud83d' is not allowed"),
        ({"match": [{"header": {"x-team\ud83d": "blue"}}]}, "half a surrogate pair"),
        ({"\ud83d": 1}, "\\ud83d: unknown key"),
        ([], "body"),
    ],
)
async def test_a_bad_policy_is_refused_and_nothing_changes(
    stage: Stage, body: Any, told: str
) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq"}, auth=KEYS)
    before = await call(stage, proxy, "GET", "/categories/faq")
    status, error = await call(stage, proxy, "PUT", "/categories/faq", body)
    assert status == 400
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert told in error["error"]["message"]
    assert await call(stage, proxy, "GET", "/categories/faq") == before
    _, versions = await call(stage, proxy, "GET", "/policies/versions")
    assert len(versions["versions"]) == 1


async def test_a_deleted_category_is_gone_with_what_it_holds(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq"}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION, headers={"X-Nearhit-Category": "faq"})
    assert await call(stage, proxy, "DELETE", "/categories/faq") == (200, {"deleted": "faq"})
    assert not (await ask(client, QUESTION)).hit
    assert (await call(stage, proxy, "GET", "/categories/faq"))[0] == 404
    assert (await call(stage, proxy, "DELETE", "/categories/faq"))[0] == 404
    status, error = await call(stage, proxy, "DELETE", "/categories/default")
    assert status == 400
    assert "every request needs a category" in error["error"]["message"]


async def test_a_change_is_in_the_audit_trail_and_can_be_rolled_back(stage: Stage) -> None:
    proxy = await stage.proxy({"name": "default", "hit_threshold": 0.91}, auth=KEYS)
    await call(stage, proxy, "PUT", "/categories/default", {"hit_threshold": 0.95})
    _, audit = await call(stage, proxy, "GET", "/audit?limit=1", key=EYES)
    row = audit["audit"][0]
    assert row["who"] == f"key {digest('root')[:12]}"
    assert (row["action"], row["category"]) == ("policy.put", "default")
    assert row["before"]["hit_threshold"] == 0.91
    assert row["after"]["hit_threshold"] == 0.95
    assert audit["next"] is not None
    _, versions = await call(stage, proxy, "GET", "/policies/versions")
    assert [v["version"] for v in versions["versions"]] == [2, 1]
    assert await call(stage, proxy, "POST", "/policies/rollback", {"version": 1}) == (
        200,
        {"version": 3},
    )
    _, policy = await call(stage, proxy, "GET", "/categories/default")
    assert policy["hit_threshold"] == 0.91
    assert (await call(stage, proxy, "POST", "/policies/rollback", {"version": 99}))[0] == 404


async def test_a_viewer_reads_and_changes_nothing(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    for path in ("/overview", "/categories", "/audit", "/pairs", "/policies/versions", "/entries"):
        assert (await call(stage, proxy, "GET", path, key=EYES))[0] == 200
        client = {"Authorization": "Bearer acme"}
        assert (await call(stage, proxy, "GET", path, key=client))[0] == 403
        assert (await call(stage, proxy, "GET", path, key={}))[0] == 401
    for method, path in (
        ("PUT", "/categories/default"),
        ("DELETE", "/categories/default"),
        ("POST", "/policies/rollback"),
        ("POST", "/purge"),
        ("POST", "/entries/x/quarantine"),
        ("POST", "/entries/x/approve"),
    ):
        assert (await call(stage, proxy, method, path, {}, key=EYES))[0] == 403


async def test_a_quarantined_entry_is_served_to_nobody_until_it_is_released(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    text = (await ask(client, QUESTION)).text
    entry = (await ask(client, QUESTION)).headers["x-nearhit-entry"]
    status, told = await call(stage, proxy, "POST", f"/entries/{entry}/quarantine", {})
    assert (status, told["quarantined_for"]) == (200, ["everybody"])
    for question in (QUESTION, REPHRASED, QUESTION):
        assert (await ask(client, question)).text != text
    _, shown = await call(stage, proxy, "GET", f"/entries/{entry}")
    assert shown["quarantined_for"] == ["everybody"]
    await call(stage, proxy, "POST", f"/entries/{entry}/quarantine", {"lift": True})
    assert (await ask(client, QUESTION)).text == text
    assert (await call(stage, proxy, "POST", "/entries/nope/quarantine", {}))[0] == 404


async def test_a_purge_by_meaning_takes_what_is_alike_in_every_partition(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, {"role": "system", "content": "Be brief."}, REPHRASED)
    await ask(client, "Where do swifts spend the winter?")
    wanted = {"similar_to": "descaling a kettle with vinegar", "threshold": 0.7}
    assert await call(stage, proxy, "POST", "/purge", {**wanted, "dry_run": True}) == (
        200,
        {"matched": 2, "purged": 0},
    )
    assert (await ask(client, QUESTION)).hit
    assert (await call(stage, proxy, "POST", "/purge", wanted))[1] == {"matched": 2, "purged": 2}
    assert not (await ask(client, QUESTION)).hit
    assert (await ask(client, "Where do swifts spend the winter?")).hit
    status, error = await call(stage, proxy, "POST", "/purge", {"threshold": 0.5, "all": True})
    assert status == 400
    assert "similar_to" in error["error"]["message"]


async def test_what_means_the_same_is_the_same_with_and_without_a_server(
    stage: Stage, ask: Ask
) -> None:
    settings = settings_for(stage.data_dir, stage.upstream.base_url, auth=KEYS)
    book = policies({"name": "default", "error_budget": 0.02})
    wanted = {"similar_to": QUESTION, "dry_run": True}
    long = "descaling a kettle with vinegar " * 200
    async with proxy_running(settings, book) as proxy:
        client = stage.openai(proxy, "acme")
        for number, text in enumerate((QUESTION, REPHRASED, "How do I clean my kettle?")):
            await ask(client, {"role": "system", "content": f"You are {number}."}, text)
        counted = await call(stage, proxy, "POST", "/purge", wanted)
        assert counted == (200, {"matched": 2, "purged": 0})
        status, refused = await call(stage, proxy, "POST", "/purge", {"similar_to": long})
        assert (status, refused["error"]["code"]) == (400, "text_unreadable")
        lower = await call(stage, proxy, "POST", "/purge", {**wanted, "threshold": 0.6})
        assert lower[1]["matched"] == 3

    async def command(text: str) -> Result:
        words = ("entries", "purge", "--similar-to", text, "--dry-run")
        config = ("--config", str(stage.data_dir / "nearhit.yaml"))
        return await asyncio.to_thread(CliRunner().invoke, app, [*words, *config])

    assert (await command(QUESTION)).stdout == "2 matched, 0 purged\n"
    unread = await command(long)
    assert (unread.exit_code, unread.stdout) == (1, "")
    assert unread.stderr.startswith("nearhit: --similar-to: the encoder cannot read this text who")
    assert unread.stderr.count("\n") == 1


async def test_the_overview_counts_what_happened(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    for _ in range(3):
        await ask(client, QUESTION)
    _, seen = await call(stage, proxy, "GET", "/overview", key=EYES)
    assert seen["lookups"] == {"hit": 2, "miss": 1}
    assert seen["hit_rate"] == pytest.approx(2 / 3, abs=1e-3)
    assert seen["entries"] == 1
    assert seen["upstreams"][0]["name"] == "fake"


async def test_an_edit_survives_kill_9_and_outlives_the_file_it_was_made_over(
    stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(yaml.safe_dump({"categories": [{"name": "default", "hit_threshold": 0.91}]}))
    settings_for(stage.data_dir, stage.upstream.base_url, policies=str(file))
    config = str(stage.data_dir / "nearhit.yaml")
    first = ProxyProcess("--config", config)
    try:
        await first.ready()
        put = ("PUT", "/categories/default", {"hit_threshold": 0.97})
        assert (await call(stage, first.proxy, *put))[0] == 200
        first.kill()
        second = ProxyProcess("--config", config)
        try:
            await second.ready()
            _, policy = await call(stage, second.proxy, "GET", "/categories/default")
            assert policy["hit_threshold"] == 0.97
            _, audit = await call(stage, second.proxy, "GET", "/audit")
            assert audit["audit"][0]["action"] == "policy.put"
        finally:
            second.close()
    finally:
        first.close()
    assert "0.91" in file.read_text()


async def test_a_changed_file_is_taken_while_serving_and_a_bad_one_is_refused_whole(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "policies.yaml"

    def write(*categories: dict[str, Any]) -> None:
        file.write_text(yaml.safe_dump({"categories": list(categories)}))

    write({"name": "default", "hit_threshold": 0.91})
    settings = settings_for(stage.data_dir, stage.upstream.base_url, auth=KEYS)
    async with proxy_running(settings, policies_file=file) as proxy:

        async def threshold_is(expected: float) -> bool:
            _, policy = await call(stage, proxy, "GET", "/categories/default")
            return bool(policy["hit_threshold"] == expected)

        async def logged(words: str) -> bool:
            return words in caplog.text

        write({"name": "default", "hit_threshold": 0.95}, {"name": "faq"})
        await until(lambda: threshold_is(0.95))
        write({"name": "default", "hit_threshold": 0.5}, {"name": "faq", "mode": "fuzzy"})
        await until(lambda: logged("allowed: semantic | exact | off"))
        assert await threshold_is(0.95)
        _, versions = await call(stage, proxy, "GET", "/policies/versions")
        assert [v["source"] for v in versions["versions"]] == ["file", "file"]


async def test_sighup_makes_the_server_look_at_its_file_and_go_on(
    stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("categories: [{name: default, hit_threshold: 0.91}]")
    settings_for(stage.data_dir, stage.upstream.base_url, policies=str(file))
    server = ProxyProcess("--config", str(stage.data_dir / "nearhit.yaml"))
    try:
        await server.ready()
        file.write_text("categories: [{name: default, hit_threshold: 0.96}]")
        server.hang_up()

        async def taken() -> bool:
            _, policy = await call(stage, server.proxy, "GET", "/categories/default")
            return bool(policy["hit_threshold"] == 0.96)

        await until(taken)
        assert server.stop() == 0
    finally:
        server.close()


async def test_what_is_stopped_is_listed_and_can_be_lifted_though_its_entry_is_gone(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy({"name": "default", "scope": "shared"}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    entry = (await ask(client, QUESTION)).headers["x-nearhit-entry"]
    await call(stage, proxy, "POST", f"/entries/{entry}/quarantine", {})
    _, listed = await call(stage, proxy, "GET", "/quarantine")
    assert sorted(row["stops"] for row in listed["quarantined"]) == ["entry", "request"]
    assert entry in [row["id"] for row in listed["quarantined"]]
    assert (await call(stage, proxy, "GET", "/quarantine?gone=true"))[1]["quarantined"] == []
    await call(stage, proxy, "DELETE", f"/entries/{entry}")
    _, listed = await call(stage, proxy, "GET", "/quarantine?gone=true&limit=1", key=EYES)
    (first,) = listed["quarantined"]
    after = f"/quarantine?gone=true&cursor={listed['next']}"
    (second,) = (await call(stage, proxy, "GET", after))[1]["quarantined"]
    for row in (first, second):
        assert (row["quarantined_for"], row["stops"]) == (["everybody"], "gone")
        await call(stage, proxy, "POST", f"/entries/{row['id']}/quarantine", {"lift": True})
    assert (await call(stage, proxy, "GET", "/quarantine"))[1] == {"quarantined": [], "next": None}
