"""Identical questions asked at once: one call upstream, whoever hangs up, fails or stays silent."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from tests.e2e.conftest import Stage
from tests.e2e.ground import MISS, Ground, chat, fresh_question, standing
from tests.fake_upstream import Call, Script
from tests.harness import digest

shared_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with standing(tmp_path_factory.mktemp("data")) as ground:
        yield ground


async def begun(ground: Ground, question: str, **more: Any) -> tuple[aiohttp.ClientResponse, bytes]:
    """Ask for a stream; return it with its first bytes."""
    asked = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": True}
    url = f"{ground.proxy.base_url}/chat/completions"
    headers = {"Authorization": "Bearer sk-test"}
    answer = await ground.http.post(url, json=asked | more, headers=headers)
    return answer, await answer.content.readany()


@shared_loop
async def test_a_hang_up_cancels_the_upstream_call(ground: Ground) -> None:
    for stream in (True, False):
        cancelled, asked = ground.upstream.cancelled, len(ground.upstream.calls)
        if stream:
            ground.upstream.play(Script(endless=True, token_delay=0.01))
            answer, _ = await begun(ground, fresh_question())
            answer.close()
        else:
            ground.upstream.play(Script(delay=60))
            waiting = asyncio.create_task(ground.chat(fresh_question()))
            await ground.upstream.until(lambda: len(ground.upstream.calls) > asked)  # noqa: B023
            waiting.cancel()
        await ground.upstream.until(lambda: ground.upstream.cancelled == cancelled + 1)  # noqa: B023


@shared_loop
async def test_a_hang_up_cancels_nothing_that_somebody_else_waits_for(ground: Ground) -> None:
    question, before = fresh_question(), len(ground.upstream.calls)
    cancelled = ground.upstream.cancelled
    ground.upstream.release.clear()
    ground.upstream.play(Script(hold_after=3))
    leader, start = await begun(ground, question)
    follower, _ = await begun(ground, question)
    leader.close()
    waiting = asyncio.create_task(ground.chat(question))
    ground.upstream.release.set()
    rest = await follower.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert (await waiting)[0] == 200
    assert len(ground.upstream.calls) == before + 1
    assert ground.upstream.cancelled == cancelled
    assert await ground.hits(question)


@shared_loop
async def test_a_hundred_identical_streams_cost_one_call(ground: Ground) -> None:
    question, before = fresh_question(), len(ground.upstream.calls)
    ground.upstream.release.clear()
    ground.upstream.play(Script(text="word " * 40, hold_after=2))
    streams = await asyncio.gather(*[begun(ground, question) for _ in range(100)])
    ground.upstream.release.set()
    told = {start + await answer.read() for answer, start in streams}
    assert len(told) == 1
    assert told.pop().endswith(b"data: [DONE]\n\n")
    statuses = sorted(answer.headers["cache-status"] for answer, _ in streams)
    assert statuses == [MISS, *["nearhit; fwd=miss; collapsed"] * 99]
    assert len(ground.upstream.calls) == before + 1


@shared_loop
@pytest.mark.parametrize("first", [True, False], ids=["stream first", "JSON first"])
async def test_a_stream_and_a_json_answer_asked_at_once_cost_one_call(
    ground: Ground, first: bool
) -> None:
    question, before = fresh_question(), len(ground.upstream.calls)
    ground.upstream.play(Script(delay=0.3))
    leading = asyncio.create_task(ground.chat(question, stream=first))
    await ground.upstream.until(lambda: len(ground.upstream.calls) > before)
    following = await ground.chat(question, stream=not first)
    answers = {first: await leading, not first: following}
    assert {told[0] for told in answers.values()} == {200}
    assert following[1] == "nearhit; fwd=miss; collapsed"
    whole = orjson.loads(answers[False][2])
    events = [orjson.loads(e[6:]) for e in answers[True][2].split(b"\n\n") if e[6:7] == b"{"]
    parts = [choice["delta"].get("content") or "" for e in events for choice in e["choices"]]
    assert "".join(parts) == whole["choices"][0]["message"]["content"]
    assert {event["id"] for event in events} == {whole["id"]}
    assert "usage" in whole
    assert len(ground.upstream.calls) == before + 1


@shared_loop
async def test_who_joined_a_failing_call_is_told_the_same(ground: Ground) -> None:
    question, before = fresh_question(), len(ground.upstream.calls)
    body = b'{"error":"teapot"}'
    for script, expected in (
        (Script(delay=0.3, status=418, body=body), (418, body)),
        (Script(delay=0.3, drop=True), (502, None)),
    ):
        ground.upstream.play(script)
        asked = [ground.chat(question, stream=stream) for stream in (True, False, True, False)]
        answers = await asyncio.gather(*asked)
        assert {status for status, _, _ in answers} == {expected[0]}
        assert expected[1] is None or {told for _, _, told in answers} == {body}
    assert len(ground.upstream.calls) == before + 2


@shared_loop
@pytest.mark.parametrize("status", [400, 422])
async def test_who_joined_a_call_that_is_refused_for_what_only_its_leader_said_is_answered(
    ground: Ground, status: int
) -> None:
    def refuse(call: Call) -> Script:
        return Script(delay=0.3, status=status) if "metadata" in call.body else Script()

    question, asked = fresh_question(), len(ground.upstream.calls)
    ground.upstream.choose = refuse
    leading = [ground.chat(question, metadata={"a": 1}) for _ in range(3)]
    led = asyncio.gather(*leading)
    await ground.upstream.until(lambda: len(ground.upstream.calls) > asked)
    followed = await asyncio.gather(*[ground.chat(question, stream=s) for s in (False, True)])
    ground.upstream.choose = None
    assert [told for told, _, _ in await led] == [status] * 3
    assert [told for told, _, _ in followed] == [200] * 2
    assert len(ground.upstream.calls) <= asked + 3  # those who said the same were told the same


@shared_loop
async def test_an_encoded_answer_goes_to_those_who_asked_for_its_form(ground: Ground) -> None:
    question = fresh_question()
    packed = gzip.compress(b"data: [DONE]\n\n")
    ground.upstream.play(
        Script(
            delay=0.3,
            body=packed,
            content_type="text/event-stream",
            headers={"Content-Encoding": "gzip"},
        )
    )
    asked = len(ground.upstream.calls)
    leading = asyncio.create_task(ground.chat(question, stream=True))
    await ground.upstream.until(lambda: len(ground.upstream.calls) > asked)
    following = await ground.chat(question)
    assert (await leading)[2] == b"data: [DONE]\n\n"
    assert orjson.loads(following[2])["object"] == "chat.completion"


@shared_loop
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(body=b'{"ok": true}', delay=0.3), id="other JSON"),
        pytest.param(Script(body=b'{"error": {"message": "no"}}', delay=0.3), id="error with 200"),
        pytest.param(Script(finish_reason="length", delay=0.3), id="length"),
    ],
)
async def test_what_cannot_be_turned_into_a_stream_is_asked_for_again(
    ground: Ground, script: Script
) -> None:
    question, asked = fresh_question(), len(ground.upstream.calls)
    ground.upstream.play(script)
    leading = asyncio.create_task(ground.chat(question))
    await ground.upstream.until(lambda: len(ground.upstream.calls) > asked)
    status, cache, told = await ground.chat(question, stream=True)
    assert (status, cache) == (200, MISS)
    assert told.endswith(b"data: [DONE]\n\n")
    assert (await leading)[0] == 200
    assert len(ground.upstream.calls) == asked + 2


@pytest.mark.parametrize("script", [Script(delay=60), Script(hold_after=0)], ids=["head", "body"])
async def test_who_joined_a_silent_call_makes_one_of_its_own(stage: Stage, script: Script) -> None:
    proxy = await stage.proxy(flight={"patience": "200ms"})
    question = fresh_question()
    stage.upstream.play(script)
    leading = asyncio.create_task(chat(stage.http, proxy, question, stream=True))
    await stage.upstream.until(lambda: stage.upstream.open_now == 1)
    status, cache, told = await chat(stage.http, proxy, question, stream=True)
    assert (status, cache) == (200, MISS)
    assert told.endswith(b"data: [DONE]\n\n")
    assert not leading.done()
    leading.cancel()


async def test_two_tenants_identical_misses_cost_two_calls(stage: Stage) -> None:
    keys = [{"sha256": digest(name), "tenant": name} for name in ("one", "two")]
    proxy = await stage.proxy(auth={"keys": keys})
    question = fresh_question()
    stage.upstream.play(Script(hold_after=1), Script(hold_after=1))
    asking = [
        asyncio.create_task(chat(stage.http, proxy, question, key=key, stream=True))
        for key in ("one", "two", "one", "two")
    ]
    await stage.upstream.until(lambda: len(stage.upstream.calls) == 2)
    stage.upstream.release.set()
    one, two, also_one, also_two = [(await each)[2] for each in asking]
    assert one == also_one != two == also_two
    assert len(stage.upstream.calls) == 2
