"""Floors: the least that a server of this kind costs here, measured in the same run.

`python -m bench.floors echo|passthrough|canned --port P`, with `--encode`, `--upstream URL` or
`--answer FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import cast

import aiohttp
import orjson
import uvloop

from bench.fake_upstream import App, Receive, Scope, Send, answer_json, read_body, serve
from embed.checkpoint import Checkpoint, bundled_checkpoint_dir
from embed.encoder import Encoder
from embed.onnx_encoder import OnnxEncoder

ECHO = orjson.dumps({"answer": "x" * 1000})
BATCH = 32
ANSWER_HEADERS = ("content-type", "content-length", "content-encoding", "cache-control")


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    """The bare ASGI echo: parse the body, answer 1 KB."""
    orjson.loads(await read_body(receive))
    await answer_json(send, ECHO)


def passthrough(upstream: str) -> App:
    """Return the bare aiohttp pass-through to an upstream's origin, as http://127.0.0.1:9000."""
    sessions: list[aiohttp.ClientSession] = []

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        if not sessions:
            connector = aiohttp.TCPConnector(limit=0)
            sessions.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        body = await read_body(receive)
        headers = {"content-type": "application/json"}
        async with sessions[0].request(
            scope["method"], upstream + scope["path"], data=body, headers=headers
        ) as answer:
            kept = [
                (name.encode(), answer.headers[name].encode())
                for name in ANSWER_HEADERS
                if name in answer.headers
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            await send({"type": "http.response.body", "body": await answer.read()})

    return forward


def encoding(inner: App, encoder: Encoder) -> App:
    """Return an app that first encodes the last message's text, then does what `inner` does.

    Around the echo it is the least that a hit by meaning can cost, around the pass-through the
    least of a miss: one encoding, and none of a cache's work. A processor that did not run our code
    for the milliseconds of an encoding has to fetch it anew, which no loaded floor shows.
    """

    async def encode_first(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        await encoder.encode([orjson.loads(body)["messages"][-1]["content"]])

        async def again() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        await inner(scope, again, send)

    return encode_first


class Canned(asyncio.Protocol):
    """Answers every request, one at a time, with the same bytes: the generator's ceiling."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= content_length(head):
            self._received = b""
            self._transport.write(self._answer)


def content_length(head: bytes) -> int:
    """Return the Content-Length of a message's head; 0 without one."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


async def serve_canned(answer: bytes, port: int) -> None:
    """Serve the same bytes to everybody until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Canned(answer), "127.0.0.1", port)
    await server.serve_forever()


async def encode_singly(encoder: Encoder, texts: Sequence[str]) -> float:
    """Return the median time in ms of encoding one text."""
    times = []
    for text in texts:
        started = time.perf_counter()
        await encoder.encode([text])
        times.append(time.perf_counter() - started)
    return median(times) * 1000


async def encode_batches(encoder: Encoder, texts: Sequence[str]) -> float:
    """Return texts/s in batches of 32, one after the other; a last short batch is left out."""
    whole = len(texts) - len(texts) % BATCH
    started = time.perf_counter()
    for start in range(0, whole, BATCH):
        await encoder.encode(texts[start : start + BATCH])
    return whole / (time.perf_counter() - started)


def main() -> None:
    """Read the command line and serve one floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("floor", choices=("echo", "passthrough", "canned"))
    parser.add_argument("--encode", action="store_true", help="encode each text first")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", help="origin that passthrough forwards to")
    parser.add_argument("--answer", type=Path, help="file with canned's whole HTTP response")
    given = parser.parse_args()
    if given.floor == "canned":
        if given.answer is None:
            parser.error("canned needs --answer")
        uvloop.run(serve_canned(given.answer.read_bytes(), given.port))
    elif given.floor == "passthrough":
        if given.upstream is None:
            parser.error("passthrough needs --upstream")
        serve(_first_encoded(passthrough(given.upstream), given.encode), given.port)
    else:
        serve(_first_encoded(echo, given.encode), given.port)


def _first_encoded(app: App, wanted: bool) -> App:
    return encoding(app, OnnxEncoder(Checkpoint.load(bundled_checkpoint_dir()))) if wanted else app


if __name__ == "__main__":
    main()
