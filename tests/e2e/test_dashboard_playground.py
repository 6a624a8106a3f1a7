"""What an explanation says is what then happens, and asking for one leaves everything as it was."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from proxy import app as proxy_app
from proxy.call import CallReader
from proxy.explaining_root import build_explainer
from proxy.headers import BYPASS, MISS, NEAR_HIT
from proxy.parts import Parts
from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_dashboard import KEYS, browser, sign_in
from tests.e2e.test_near_hits import FIRST as WALK
from tests.e2e.test_near_hits import OPEN, PAIR, past
from tests.e2e.test_near_hits import SECOND as JUMP
from tests.harness import Proxy

KETTLE = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
LITRES = "How do I fill my kettle with 2 litres of water?"
BOOK = (
    {"name": "default"},
    {"name": "private", "mode": "off", "match": [{"regex": "my salary"}]},
    {"name": "prices", "mode": "exact"},
    {"name": "strict", "hit_threshold": 0.999},
    {"name": "budgeted", "error_budget": 0.05},
)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALLED = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [
    turn("user", KETTLE),
    turn("assistant", None, tool_calls=[CALLED]),
    turn("tool", "done", tool_call_id="1"),
]

# What is asked, with which headers and fields besides; the verdict, and what decided.
CASES: dict[str, tuple[Any, dict[str, str], dict[str, Any], str, str]] = {
    "the very same": (KETTLE, {}, {}, "hit", "exact"),
    "rephrased": (REPHRASED, {}, {}, "hit", "semantic"),
    "with a budget": (REPHRASED, {"X-Nearhit-Category": "budgeted"}, {}, "hit", "semantic"),
    "a number differs": (LITRES.replace("2", "5"), {}, {}, "miss", "guard"),
    "below the threshold": (
        REPHRASED,
        {"X-Nearhit-Category": "strict"},
        {},
        "miss",
        "threshold",
    ),
    "below its own": (REPHRASED, {"X-Nearhit-Threshold": "0.999"}, {}, "miss", "asked"),
    "something else": ("Which fish swims in the harbour?", {}, {}, "miss", "threshold"),
    "too warm": (KETTLE, {}, {"temperature": 1.7}, "bypass", "temperature"),
    "after a tool": (TOOLS, {}, {}, "bypass", "content"),
    "with a picture": ([turn("user", [IMAGE])], {}, {}, "bypass", "content"),
    "mode off": ("How high is my salary?", {}, {}, "bypass", "policy"),
    "mode exact": (REPHRASED, {"X-Nearhit-Category": "prices"}, {}, "miss", ""),
    "afresh": (KETTLE, {"Cache-Control": "no-cache"}, {}, "request", ""),
}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Parts]:
    """Return what the next proxy is made of, once it runs."""
    seen: list[Parts] = []

    def build(parts: Parts, reader: CallReader, searcher_of: Any) -> Any:
        seen.append(parts)
        return build_explainer(parts, reader, searcher_of)

    monkeypatch.setattr(proxy_app, "build_explainer", build)
    return seen


def messages_of(asked: Any) -> list[dict[str, Any]]:
    return [turn("user", asked)] if isinstance(asked, str) else asked


async def explain(stage: Stage, proxy: Proxy, key: str = "root", **asked: Any) -> tuple[int, Any]:
    url = f"{proxy.url}/admin/api/explain"
    headers = {"Authorization": f"Bearer {key}"}
    async with stage.http.post(url, json=asked, headers=headers) as answer:
        return answer.status, await answer.json()


def everything(parts: Parts) -> str:
    """Return all that a request might change, but for what the encoder and the processor did."""
    series = [
        line
        for line in parts.metrics.render().decode().splitlines()
        if not line.startswith(("#", "nearhit_encode_", "nearhit_process_", "process_"))
    ]
    near = parts.near_hits
    known = {
        "series": series,
        "events": len(parts.events),
        "economics": {str(key): str(worth) for key, worth in parts.economics.facts().items()},
        "cache": str(parts.cache.facts()),
        "lookups": len(parts.recent),
        "budgets": {n: parts.budgets.live.dump(n) for n in parts.in_force.rules.book.names},
        "router": near and near.learning.router.as_data(),
        "examples": near and near.learning.book.as_data(),
    }
    return json.dumps(known, indent=1)


async def settled(parts: Parts, stored: int) -> str:
    """Return everything once so many answers are stored, and nothing more has come for a while."""
    wanted = re.compile(r'nearhit_admissions_total\{.*outcome=\\"stored\\"\} ([\d.]+)')
    before = ""
    for _ in range(200):
        now = everything(parts)
        if now == before and sum(map(float, wanted.findall(now))) == stored:
            return now
        before = now
        await asyncio.sleep(0.03)
    raise TimeoutError(before)


async def test_what_is_explained_is_what_then_happens(
    stage: Stage, ask: Ask, built: list[Parts]
) -> None:
    proxy = await stage.proxy(*BOOK, auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in (KETTLE, LITRES):
        await ask(client, question)
    await ask(client, REPHRASED, headers={"Cache-Control": "no-store"})  # a lookup in economics
    for name, (asked, headers, more, verdict, why) in CASES.items():
        body = {"model": "gpt-4o-mini", "messages": messages_of(asked), **more}
        before, calls = await settled(built[0], 2), len(stage.upstream.calls)
        for _ in range(2):
            status, said = await explain(stage, proxy, body=body, tenant="acme", headers=headers)
            assert status == 200, (name, said)
        assert everything(built[0]) == before, name
        assert len(stage.upstream.calls) == calls
        assert said["verdict"] == verdict, (name, said)
        told = {said["tier"], said["bypass"], *(row["barrier"] for row in said["candidates"])}
        assert not why or why in told, (name, said)
        sent = {**headers, "Cache-Control": headers.get("Cache-Control", "no-store")}
        happened = await ask(client, *messages_of(asked), headers=sent, **more)
        if verdict == "hit":
            assert happened.status.endswith(f"detail={why}"), name
            assert said["answered_by"]["entry"] == happened.headers["x-nearhit-entry"]
            assert len(stage.upstream.calls) == calls
        else:
            assert said["answered_by"]["upstream"] == "fake"
            assert len(stage.upstream.calls) == calls + 1
            wanted = BYPASS[said["bypass"]] if verdict == "bypass" else MISS
            assert verdict == "request" or happened.status == wanted.decode(), name
        assert all(sentence.endswith(".") for sentence in said["sentences"])


async def test_the_small_model_that_the_router_favours_answers(
    stage: Stage, ask: Ask, built: list[Parts]
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR)
    past(stage)
    client = stage.openai(proxy, "acme")
    await ask(client, WALK, model="large")
    before = await settled(built[0], 1)
    body = {"model": "large", "messages": messages_of(JUMP)}
    _, said = await explain(stage, proxy, body=body, tenant="acme")
    assert everything(built[0]) == before
    assert said["verdict"] == "near-hit"
    assert said["answered_by"]["model"] == "small"
    assert [each["question"] for each in said["near_hit"]["examples"]] == [WALK]
    answered = await ask(client, JUMP, model="large")
    assert answered.status == NEAR_HIT.decode()
    _, said = await explain(stage, proxy, body=body, tenant="acme")
    assert said["near_hit"]["reason"] == "asked_again"


async def test_nearest_examples_and_rules_are_named(stage: Stage) -> None:
    fish = ["which fish swims in the harbour", "what does a herring eat"]
    kettle = ["how do I clean a kettle", "my kettle is full of lime"]
    proxy = await stage.proxy(
        {"name": "default"},
        {"name": "fish", "examples": fish},
        {"name": "kettles", "examples": kettle},
        {"name": "secret", "locked": True, "match": [{"regex": "password"}]},
        auth=KEYS,
    )

    async def category(text: str, **headers: str) -> Any:
        body = {"model": "m", "messages": messages_of(text)}
        said = (await explain(stage, proxy, body=body, tenant="acme", headers=headers))[1]
        return said["category"]

    told = await category("what do herrings eat")
    assert (told["name"], told["told_by"]) == ("fish", "examples")
    assert told["nearest"][0]["example"] == fish[1] and told["nearest"][0]["similarity"] > 0.7
    assert told["nearest"][1]["category"] == "kettles"
    told = await category("what do herrings eat", **{"X-Nearhit-Category": "kettles"})
    assert (told["name"], told["told_by"], told["nearest"]) == ("kettles", "header", [])
    told = await category("a password", **{"X-Nearhit-Category": "kettles"})
    assert (told["name"], told["told_by"]) == ("secret", "first_rule")
    assert (await category("integrate x squared"))["name"] == "default"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"body": {"messages": []}}, "model"),
    ({"body": {"model": "m", "messages": "no"}}, "messages"),
    ({"body": {}, "colour": "red"}, "colour"),
    ({"body": {"model": "m"}, "route": "/v1/nothing"}, "route"),
    (
        {"body": {"model": "m", "messages": messages_of("a")}, "headers": {"X-N": "\u2713"}},
        "headers",
    ),
    (
        {
            "body": {"model": "m", "messages": messages_of("a")},
            "headers": {"X-Nearhit-Category": "none"},
        },
        "unknown",
    ),
]


async def test_a_request_that_would_be_refused_is_refused_here_too(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    for asked, said in REFUSED:
        status, answer = await explain(stage, proxy, **asked)
        assert status == 400 and said in answer["error"]["message"], answer


async def test_whoever_may_only_look_may_ask_and_nobody_else(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    body = {"model": "m", "messages": messages_of(KETTLE)}
    for key, status in (("root", 200), ("eyes", 200), ("acme", 403), ("nobody", 401)):
        assert (await explain(stage, proxy, key, body=body))[0] == status
    session = browser(proxy, stage)
    await sign_in(session, "eyes")
    form = {"question": KETTLE, "model": "m"}
    async with session.post("/admin/playground", data=form) as answer:
        assert answer.status == 403  # a page of another origin
    headers = {"origin": proxy.url}
    async with session.post("/admin/playground", data=form, headers=headers) as answer:
        assert answer.status == 200
    async with session.post("/admin/api/purge", json={}, headers=headers) as answer:
        assert answer.status == 403


async def test_the_page_explains_and_keeps_what_was_typed(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(*BOOK, auth=KEYS)
    await ask(stage.openai(proxy, "acme"), KETTLE)
    session = browser(proxy, stage)
    await sign_in(session, "root")
    async with session.get("/admin/playground?question=What%20now") as answer:
        page = await answer.text()
        assert answer.status == 200 and "What now</textarea>" in page and "No question yet" in page
    headers = {"origin": proxy.url, "hx-request": "true"}
    form = {"question": REPHRASED, "model": "gpt-4o-mini", "tenant": "acme", "category": "default"}
    async with session.post("/admin/playground", data=form, headers=headers) as answer:
        part = await answer.text()
    assert "<html" not in part and f"{REPHRASED}</textarea>" in part
    (entry,) = set(re.findall(r"/admin/entries/([0-9a-f]{32})", part))
    assert (
        "The stored answer of gpt-4o-mini is served." in part and "<option selected>default" in part
    )
    form = {
        "question": "<script>x</script>",
        "model": "",
        "temperature": "hot",
        "system": "Be brief",
    }
    async with session.post("/admin/playground", data=form, headers=headers) as answer:
        part = await answer.text()
    assert answer.status == 400 and part.count('aria-invalid="true"') == 2
    assert "&lt;script&gt;" in part and "<script>x" not in part and "Be brief" in part
    assert entry not in part
