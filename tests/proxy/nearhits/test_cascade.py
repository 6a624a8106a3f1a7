"""An answer of which the small model was not sure goes to nobody, and no probability does."""

from __future__ import annotations

import asyncio
from math import log
from typing import Any

import orjson
import pytest

from icl.confidence import TOKENS, Confidence
from proxy.answer import Answer, Streamed
from proxy.auth import Keyring
from proxy.nearhits import cascade
from proxy.nearhits.asking import Asking, Unfit
from proxy.nearhits.cascade import Unsure
from proxy.upstream import Upstreams
from proxy.upstream_errors import UpstreamError
from proxy.wire.sse import SseReader, payloads
from tests.fake_upstream import FakeUpstream, Script
from tests.proxy.nearhits.calls import call_of
from tests.proxy.nearhits.test_asking import CLIENT, PATIENCE, as_asked, spec, whole

LONG = " ".join(f"word{n}" for n in range(3 * TOKENS))


class Asked:
    """One answer of a small model, looked at before it goes out."""

    def __init__(self, floor: float = 0.5) -> None:
        self.floor = floor
        self.seen: list[Confidence] = []
        self.told: list[Any] = []
        self.sent: Any = None  # what the engine was asked

    def check(self, confidence: Confidence) -> bool:
        self.seen.append(confidence)
        return confidence.least >= self.floor

    async def answer(self, script: Script, *, stream: bool, **body: Any) -> tuple[Answer, bytes]:
        async with FakeUpstream() as upstream:
            upstream.default = script
            async with Upstreams([spec("a", "*", upstream)]) as upstreams:
                call = call_of(headers=CLIENT, body={"stream": True, **body} if stream else body)
                answer = await Asking(upstreams, Keyring(())).ask(
                    call,
                    "small",
                    {**call.body, "model": "small"},
                    lambda raw: self.told.append(orjson.loads(raw)),
                    self.check,
                    patience=PATIENCE,
                )
                body_ = await whole(answer)
            self.sent = upstream.calls[0].body
        return answer, body_


def text_of(body: bytes) -> str:
    found = [each for each in payloads(SseReader().feed(body)) if each and each["choices"]]
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in found)


def said(answer: Any) -> Any:
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["jumped", LONG])
async def test_a_sure_answer_goes_out_without_its_probabilities(stream: bool, text: str) -> None:
    here = Asked()
    answer, body = await here.answer(Script(text=text, logprob=log(0.9)), stream=stream)
    assert here.seen == [pytest.approx((0.9, 0.9))]
    assert here.sent["logprobs"] is True
    assert b"logprob" not in body
    assert (text_of(body) if stream else said(orjson.loads(body))) == text
    assert isinstance(answer.body, Streamed) is stream
    assert said(here.told[0]) == text


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unsure_answer_does_not(stream: bool) -> None:
    here = Asked()
    with pytest.raises(Unsure) as refused:
        await here.answer(Script(text="jumped", logprob=log(0.4)), stream=stream)
    assert refused.value.confidence == pytest.approx((0.4, 0.4))
    assert said(orjson.loads(refused.value.whole or b"")) == "jumped"
    assert b"logprob" not in (refused.value.whole or b"")
    assert here.told == []


async def test_of_a_long_stream_only_the_beginning_is_waited_for() -> None:
    """The engine goes on for ever; the answer is there as soon as enough has come."""
    here = Asked()
    async with FakeUpstream() as upstream:
        upstream.default = Script(text="on and ", endless=True, logprob=log(0.9))
        async with Upstreams([spec("a", "*", upstream)]) as upstreams:
            call = call_of(headers=CLIENT, body={"stream": True})
            answer = await Asking(upstreams, Keyring(())).ask(
                call, "small", as_asked(call), lambda raw: None, here.check, patience=PATIENCE
            )
            assert isinstance(answer.body, Streamed)
            async with answer.body as streamed:
                first = await anext(streamed.chunks)
    assert TOKENS <= first.count(b'"content"') < 2 * TOKENS
    assert here.seen == [pytest.approx((0.9, 0.9))]


async def test_of_a_long_stream_that_is_not_sent_the_rest_is_not_known() -> None:
    with pytest.raises(Unsure) as refused:
        await Asked().answer(Script(text=LONG, token_delay=0.001, logprob=log(0.1)), stream=True)
    assert refused.value.whole is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_tells_no_probabilities_is_unfit_and_the_log_says_why(
    stream: bool,
) -> None:
    here = Asked()
    with pytest.raises(Unfit, match="cascade"):
        await here.answer(Script(text="jumped", logprob=None), stream=stream)
    assert here.seen == []


async def test_an_engine_that_tells_none_is_not_waited_for_to_the_end() -> None:
    """It would go on for ever."""
    async with asyncio.timeout(10):
        with pytest.raises(Unfit, match="cascade"):
            await Asked().answer(Script(text="on and ", endless=True, logprob=None), stream=True)


async def test_no_more_than_a_mebibyte_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "_MOST", 10_000)
    short, long = "word " * 5, "x" * 10_000
    _, body = await Asked().answer(Script(text=short, logprob=log(0.9)), stream=True)
    assert text_of(body) == short
    with pytest.raises(Unfit):
        await Asked().answer(Script(text=long, logprob=log(0.9)), stream=True)


@pytest.mark.parametrize(
    "badly",
    [
        {"error_after": 3},
        {"end_after": 3},
        {"cut_after": 3},
        {"finish_reason": "length"},
        {"finish_reason": "content_filter"},
    ],
)
async def test_a_stream_that_ends_badly_while_it_is_held_back_is_never_seen(
    badly: dict[str, Any],
) -> None:
    script = Script(text="one two three four", logprob=log(0.95), token_delay=0.02, **badly)
    with pytest.raises((UpstreamError, Unfit)):
        await Asked().answer(script, stream=True)


async def test_a_stream_cut_anywhere_is_read_the_same() -> None:
    bodies = set[str]()
    for fragment in (0, 1, 7, 100):
        script = Script(text="one two three", fragment=fragment, logprob=log(0.8))
        _, body = await Asked().answer(script, stream=True)
        bodies.add(text_of(body))
        assert body.endswith(b"data: [DONE]\n\n")
    assert bodies == {"one two three"}


async def test_json_that_was_asked_for_is_looked_at_before_the_confidence() -> None:
    here = Asked()
    with pytest.raises(Unfit):
        await here.answer(
            Script(text="jumped", logprob=log(0.9)),
            stream=False,
            response_format={"type": "json_object"},
        )
    assert here.seen == []
