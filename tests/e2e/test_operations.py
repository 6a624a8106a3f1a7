"""What an operator sees and does: health, metrics, and getting rid of one wrong answer."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from proxy.cli import app
from tests.e2e.conftest import Ask, Stage
from tests.harness import ProxyProcess, digest

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
ROLES = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme"},
        {"sha256": digest("zeta"), "tenant": "zeta"},
        {"sha256": digest("root"), "role": "admin"},
        {"sha256": digest("eyes"), "role": "viewer"},
    ]
}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def fetch(stage: Stage, url: str, method: str = "GET", **request: Any) -> tuple[int, Any]:
    async with stage.http.request(method, url, **request) as answer:
        return answer.status, json.loads(await answer.read())


async def test_health_and_readiness_need_no_key(stage: Stage) -> None:
    proxy = await stage.proxy(auth=ROLES)
    assert await fetch(stage, f"{proxy.url}/health") == (200, {"status": "ok"})
    ready = {"ok": ["encoder", "index", "store"], "failing": {}}
    assert await fetch(stage, f"{proxy.url}/ready") == (200, ready)


async def test_metrics_count_what_happened_under_configured_labels_only(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=ROLES)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION, model="some-model")
    await ask(client, QUESTION, model="some-model")
    await ask(client, REPHRASED, model="some-model")
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        text = await answer.text()
    for line in (
        'nearhit_lookups_total{category="default",verdict="hit"} 2.0',
        'nearhit_lookups_total{category="default",verdict="miss"} 1.0',
        'nearhit_admissions_total{category="default",outcome="stored"} 1.0',
        'nearhit_entries{category="default"} 1.0',
        'nearhit_upstream_request_duration_seconds_count{code="200",model="other"} 1.0',
    ):
        assert line in text
    assert "some-model" not in text
    assert "acme" not in text


async def test_one_wrong_answer_is_found_and_deleted_and_never_served_again(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=ROLES)
    client = stage.openai(proxy, "acme")
    wrong = await ask(client, QUESTION)
    entry = (await ask(client, QUESTION)).headers["x-nearhit-entry"]
    admin = f"{proxy.url}/admin/api"
    status, page = await fetch(stage, f"{admin}/entries?q=kettle", headers=bearer("eyes"))
    assert (status, [row["id"] for row in page["entries"]]) == (200, [entry])
    _, shown = await fetch(stage, f"{admin}/entries/{entry}", headers=bearer("eyes"))
    assert wrong.text in shown["answer"]
    gone = await fetch(stage, f"{admin}/entries/{entry}", "DELETE", headers=bearer("root"))
    assert gone == (200, {"deleted": entry})
    for question in (REPHRASED, QUESTION):
        assert (await ask(client, question)).text != wrong.text
    status, _ = await fetch(stage, f"{admin}/entries/nope", "DELETE", headers=bearer("root"))
    assert status == 404


async def test_a_purge_counts_first_and_takes_only_what_it_selects(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=ROLES)
    acme, zeta = stage.openai(proxy, "acme"), stage.openai(proxy, "zeta")
    await ask(acme, QUESTION, headers={"X-Nearhit-Tags": "kettles, shop"})
    await ask(zeta, QUESTION)

    async def purge(**selector: Any) -> Any:
        url = f"{proxy.url}/admin/api/purge"
        return (await fetch(stage, url, "POST", json=selector, headers=bearer("root")))[1]

    assert await purge(tag="shop", dry_run=True) == {"matched": 1, "purged": 0}
    assert (await ask(acme, QUESTION)).hit
    assert await purge(tag="shop") == {"matched": 1, "purged": 1}
    assert not (await ask(acme, QUESTION)).hit
    assert (await ask(zeta, QUESTION)).hit
    gone = await purge(tenant="zeta")
    assert gone == {"matched": 1, "purged": 1, "pairs": 0, "quarantined": 0}
    assert not (await ask(zeta, QUESTION)).hit
    assert (await purge(tag="x", all=True))["error"]["message"].startswith("body: give one of")
    assert (await purge())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("key", "method", "status"),
    [
        ("acme", "GET", 403),
        ("eyes", "GET", 200),
        ("eyes", "POST", 403),
        ("root", "POST", 200),
        ("nobody", "GET", 401),
        ("", "GET", 401),
    ],
)
async def test_admin_takes_an_admin_key_and_reading_a_viewers(
    stage: Stage, key: str, method: str, status: int
) -> None:
    proxy = await stage.proxy(auth=ROLES)
    path = "entries" if method == "GET" else "purge"
    found, body = await fetch(
        stage,
        f"{proxy.url}/admin/api/{path}",
        method,
        headers=bearer(key) if key else {},
        **({"json": {"all": True}} if method == "POST" else {}),
    )
    assert found == status
    if status >= 400:
        assert body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
async def test_without_keys_admin_answers_no_foreign_page(
    stage: Stage, headers: dict[str, str]
) -> None:
    proxy = await stage.proxy()
    url = f"{proxy.url}/admin/api/entries"
    assert (await fetch(stage, url))[0] == 200
    assert (await fetch(stage, url, headers=headers))[0] == 403


async def test_what_is_refused_keeps_its_connection_and_leaves_no_traceback(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await stage.proxy(auth=ROLES)
    asked = [("GET", "/admin/api/overview", "nobody"), ("GET", "/admin/api/overview", "acme")]
    asked.append(("POST", "/nearhit/feedback", "nobody"))
    async with one_connection(caplog) as http:
        for method, path, key in asked:
            for _ in range(3):
                verdict = {"response_id": "x", "verdict": "right"} if method == "POST" else None
                async with http.request(
                    method, f"{proxy.url}{path}", json=verdict, headers=bearer(key)
                ) as answer:
                    assert answer.status == (403 if key == "acme" else 401)
                    assert "error" in await answer.json()
    assert "Exception" not in caplog.text


async def test_a_store_that_fails_is_one_line_in_the_log_and_a_503(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await stage.proxy(auth=ROLES)
    with sqlite3.connect(stage.data_dir / "nearhit.sqlite") as connection:
        connection.execute("ALTER TABLE usage RENAME TO usage_away")
    connection.close()
    async with one_connection(caplog) as http:
        for _ in range(3):
            url = f"{proxy.url}/admin/api/usage"
            async with http.get(url, headers=bearer("eyes")) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (503, "store_unavailable")
                assert "no such table" not in error["message"]
    assert "GET /admin/api/usage failed: " in caplog.text and "no such table" in caplog.text
    assert "Exception" not in caplog.text


@asynccontextmanager
async def one_connection(caplog: pytest.LogCaptureFixture) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client whose requests must all go over one connection, and have the server's log."""
    made = 0

    async def count(*_: Any) -> None:
        nonlocal made
        made += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count)
    server = logging.getLogger("uvicorn.error")  # which hands its lines to no other logger here
    server.addHandler(caplog.handler)
    try:
        async with aiohttp.ClientSession(trace_configs=[trace]) as http:
            yield http
    finally:
        server.removeHandler(caplog.handler)
    assert made == 1


async def test_an_admin_key_calls_no_models(stage: Stage) -> None:
    proxy = await stage.proxy(auth=ROLES)
    status, _ = await fetch(stage, f"{proxy.base_url}/models", headers=bearer("root"))
    assert status == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nowhere", 404), ("/admin/api/entries?limit=0", 400), ("/admin/api/entries?cursor=x", 400)],
)
async def test_every_error_is_an_envelope(stage: Stage, path: str, status: int) -> None:
    proxy = await stage.proxy()
    found, body = await fetch(stage, f"{proxy.url}{path}")
    assert found == status
    assert body["error"].keys() == {"message", "type", "param", "code"}


def config_for(process: ProxyProcess, stage: Stage, file: Path) -> None:
    file.write_text(
        f"data_dir: {stage.data_dir}\nserver: {{port: {process.port}}}\n"
        f"upstreams: [{{name: fake, base_url: '{stage.upstream.base_url}'}}]\n"
    )


async def test_the_command_line_purges_a_running_server(stage: Stage, ask: Ask) -> None:
    config = stage.data_dir.parent / "nearhit.yaml"
    process = ProxyProcess("--config", str(config), start=False)
    config_for(process, stage, config)
    process.start()
    try:
        await process.ready()
        client = stage.openai(process.proxy)
        await ask(client, QUESTION)
        assert (await ask(client, REPHRASED)).hit
        purge = ["entries", "purge", "--all", "--config", str(config)]
        done = await asyncio.to_thread(CliRunner().invoke, app, purge)
        assert (done.exit_code, done.stdout) == (0, "1 matched, 1 purged\n")
        assert not (await ask(client, REPHRASED)).hit
    finally:
        process.close()


async def test_of_two_servers_the_one_that_has_the_directory_is_purged(
    stage: Stage, ask: Ask
) -> None:
    place = stage.data_dir.parent
    servers = [ProxyProcess("--config", str(place / f"{name}.yaml"), start=False) for name in "ab"]
    first, second = servers
    for name in "ab":  # both configurations name the first one's port; --port has the last word
        (place / f"{name}.yaml").write_text(
            f"data_dir: {place / name}\nserver: {{port: {first.port}}}\n"
            f"upstreams: [{{name: fake, base_url: '{stage.upstream.base_url}'}}]\n"
        )

    async def command(*words: str) -> Any:
        config = ["--config", str(place / "b.yaml")]
        return await asyncio.to_thread(CliRunner().invoke, app, [*words, *config])

    try:
        for server in servers:
            server.start()
        for server in servers:
            await server.ready()
            await ask(stage.openai(server.proxy), QUESTION)
        done = await command("entries", "purge", "--all")
        assert (done.exit_code, done.stdout) == (0, "1 matched, 1 purged\n")
        assert (await ask(stage.openai(first.proxy), QUESTION)).hit
        assert not (await ask(stage.openai(second.proxy), QUESTION)).hit
        second.kill()
        for words in (("checkpoints", "list"), ("replay",)):
            done = await command(*words)
            assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
            assert "does not answer" in done.stderr
        done = await command("entries", "purge", "--all")  # nobody has the directory now
        assert (done.exit_code, done.stdout) == (0, "1 matched, 1 purged\n")
        assert (await ask(stage.openai(first.proxy), QUESTION)).hit
    finally:
        for server in servers:
            server.close()
