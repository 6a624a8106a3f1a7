"""A fast OpenAI-shaped upstream with settable delays, which counts what reaches it.

`python -m bench.fake_upstream --port 9000 --first-token-ms 50 --token-ms 10`; GET /calls tells the
number of calls by path.

With `--places 4 --service-ms 150` it has a limited rate of service, so that latency rises with
the requests in flight: GET /service tells how it does, POST /service {"slowdown": 2.5} slows it
down and up again. With `--echo` an answer's text is the question, which tells whose answer it is.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import uvicorn

from bench.service import Capacity, Service

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
DIMENSION = 384
CREATED = 1_700_000_000
KEEP_ALIVE = 120  # seconds: longer than any pool here keeps a connection, so none breaks on reuse
WORD = "measured-in-one-run-only "  # one token of the answer; 32 of them make a body of about 1 KB
OTHER_ANSWER = orjson.dumps({"object": "other", "note": WORD * 40})


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly the upstream talks, in seconds, and how much."""

    first_token: float = 0.0
    token: float = 0.0
    tokens: int = 32

    def __post_init__(self) -> None:
        if self.first_token < 0 or self.token < 0 or self.tokens < 1:
            raise ValueError(f"delays must be >= 0 and tokens >= 1, not {self}")


class FakeUpstream:
    """The ASGI application."""

    def __init__(self, pace: Pace, service: Service | None = None, *, echo: bool = False) -> None:
        self.calls: Counter[str] = Counter()
        self._pace = pace
        self._service = service
        self._echo = echo
        self._ids = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        body = await read_body(receive)
        if path == "/calls":
            answer = {"total": self.calls.total(), "paths": dict(self.calls)}
            await answer_json(send, orjson.dumps(answer))
        elif path == "/service" and self._service is not None:
            await self._steer(self._service, body, send)
        elif not path.startswith("/v1/"):
            await answer_json(send, b'{"error":{"message":"no such path"}}', status=404)
        else:
            self.calls[path if path in (CHAT, EMBEDDINGS, MODELS) else "other"] += 1
            await self._answer(path, body, send)

    async def _answer(self, path: str, body: bytes, send: Send) -> None:
        if path == MODELS:
            await answer_json(send, orjson.dumps(model_list()))
        elif path == EMBEDDINGS:
            await answer_json(send, orjson.dumps(embeddings(orjson.loads(body))))
        elif path == CHAT:
            await self._chat(orjson.loads(body), send)
        else:
            await answer_json(send, OTHER_ANSWER)

    async def _steer(self, service: Service, body: bytes, send: Send) -> None:
        try:
            if body:
                service.slow_down(orjson.loads(body)["slowdown"])
        except (ValueError, KeyError, TypeError) as error:
            await answer_json(send, orjson.dumps({"error": {"message": str(error)}}), status=400)
            return
        await answer_json(send, orjson.dumps(service.facts()))

    async def _chat(self, request: dict[str, Any], send: Send) -> None:
        answer_id = f"chatcmpl-{next(self._ids)}"
        model = str(request.get("model", "fake"))
        text = str(request["messages"][-1]["content"]) if self._echo else None
        if self._service is not None:
            await self._service.serve()
        if request.get("stream"):
            options = request.get("stream_options") or {}
            usage = bool(options.get("include_usage"))
            await answer_stream(
                send, self._paced(chunks(answer_id, model, self._pace, usage, text))
            )
            return
        delay = self._pace.first_token + self._pace.token * self._pace.tokens
        if delay:
            await asyncio.sleep(delay)
        await answer_json(send, orjson.dumps(completion(answer_id, model, self._pace, text)))

    async def _paced(self, events: list[bytes]) -> AsyncIterator[bytes]:
        if not (self._pace.first_token or self._pace.token):
            yield b"".join(events)
            return
        delay = self._pace.first_token
        for event in events:
            if delay:
                await asyncio.sleep(delay)
            yield event
            delay = self._pace.token


def completion(answer_id: str, model: str, pace: Pace, text: str | None = None) -> dict[str, Any]:
    """Return a chat completion of `pace.tokens` tokens, or of the given text."""
    content = WORD * pace.tokens if text is None else text
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        "usage": _usage(pace),
        "system_fingerprint": "fp_fake",
    }


def chunks(
    answer_id: str, model: str, pace: Pace, include_usage: bool, text: str | None = None
) -> list[bytes]:
    """Return the same answer as server-sent events, the closing [DONE] included."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += (
        [({"content": WORD}, None)] * pace.tokens if text is None else [({"content": text}, None)]
    )
    deltas.append(({}, "stop"))
    head = {
        "id": answer_id,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "system_fingerprint": "fp_fake",
    }
    bodies: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    if include_usage:
        bodies.append({**head, "choices": [], "usage": _usage(pace)})
    return [b"data: " + orjson.dumps(body) + b"\n\n" for body in bodies] + [b"data: [DONE]\n\n"]


def embeddings(request: dict[str, Any]) -> dict[str, Any]:
    """Return one vector of DIMENSION floats a text: the same for the same text, nothing more."""
    texts = request["input"]
    texts = [texts] if isinstance(texts, str) else texts
    vectors = [_vector(str(text)) for text in texts]
    as_text = request.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode()
            if as_text
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "data": data, "model": request.get("model", "fake"), "usage": usage}


def model_list() -> dict[str, Any]:
    """Return the one model that /v1/models lists."""
    model = {"id": "fake", "object": "model", "created": CREATED, "owned_by": "bench"}
    return {"object": "list", "data": [model]}


def _usage(pace: Pace) -> dict[str, int]:
    return {
        "prompt_tokens": 20,
        "completion_tokens": pace.tokens,
        "total_tokens": 20 + pace.tokens,
    }


def _vector(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


async def read_body(receive: Receive) -> bytes:
    """Return the whole request body."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


async def answer_json(send: Send, body: bytes, status: int = 200) -> None:
    """Send one JSON answer."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_stream(send: Send, events: AsyncIterator[bytes]) -> None:
    """Send server-sent events as they come."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for event in events:
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def serve(app: App, port: int) -> None:
    """Serve an application on loopback with uvicorn at its fastest, until SIGTERM."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
        access_log=False,
        log_level="warning",
    )


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first-token-ms", type=float, default=0.0)
    parser.add_argument("--token-ms", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=Pace().tokens)
    parser.add_argument("--places", type=int, help="answers that are served at once")
    parser.add_argument("--service-ms", type=float, default=150.0, help="of one answer in a place")
    parser.add_argument("--echo", action="store_true", help="answer with the question's text")
    given = parser.parse_args()
    pace = Pace(given.first_token_ms / 1000, given.token_ms / 1000, given.tokens)
    service = None
    if given.places is not None:
        service = Service(Capacity(given.places, given.service_ms / 1000))
    serve(FakeUpstream(pace, service, echo=given.echo), given.port)


if __name__ == "__main__":
    main()
