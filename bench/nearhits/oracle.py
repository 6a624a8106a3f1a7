"""The large model's place: an upstream that knows the reference answers, at a set pace.

`python -m bench.nearhits.oracle --port 9000 --answers FILE --places 2 --service-ms 2000`: FILE is a
JSON object of answers by question. A question that it does not know is an error 404, so that
nothing is measured by accident. It answers for whatever model it is called; a judge's calls too,
if their last message is a known question. GET /service and POST /service {"slowdown": 2} tell and
set its pace; GET /calls counts the calls by model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from bench.fake_upstream import (
    CHAT,
    MODELS,
    Pace,
    Receive,
    Scope,
    Send,
    answer_json,
    answer_stream,
    chunks,
    completion,
    model_list,
    read_body,
    serve,
)
from bench.service import Capacity, Service

UNKNOWN = {
    "message": "the oracle has no answer to this",
    "type": "invalid_request_error",
    "param": None,
    "code": "unknown_question",
}


class Oracle:
    """The ASGI application."""

    def __init__(self, answers: Mapping[str, str], service: Service | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self._answers = answers
        self._service = service
        self._ids = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        body = await read_body(receive)
        if path == "/calls":
            await answer_json(send, orjson.dumps(dict(self.calls)))
        elif path == "/service" and self._service is not None:
            if body:
                self._service.slow_down(orjson.loads(body)["slowdown"])
            await answer_json(send, orjson.dumps(self._service.facts()))
        elif path == MODELS:
            await answer_json(send, orjson.dumps(model_list()))
        elif path == CHAT:
            await self._chat(orjson.loads(body), send)
        else:
            await answer_json(send, orjson.dumps({"error": UNKNOWN}), status=404)

    async def _chat(self, request: Mapping[str, Any], send: Send) -> None:
        model = str(request.get("model"))
        self.calls[model] += 1
        text = self._answers.get(str(request["messages"][-1]["content"]))
        if text is None:
            await answer_json(send, orjson.dumps({"error": UNKNOWN}), status=404)
            return
        if self._service is not None:
            await self._service.serve()
        answer_id = f"chatcmpl-oracle-{next(self._ids)}"
        pace = Pace(tokens=max(1, len(text.split())))
        if request.get("stream"):
            await answer_stream(send, _each(chunks(answer_id, model, pace, False, text)))
        else:
            await answer_json(send, orjson.dumps(completion(answer_id, model, pace, text)))


async def _each(events: list[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        await asyncio.sleep(0)
        yield event


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answers", type=Path, required=True, help="JSON: answer by question")
    parser.add_argument("--places", type=int, help="answers that are served at once")
    parser.add_argument("--service-ms", type=float, default=2000.0, help="of one answer in a place")
    given = parser.parse_args()
    service = None
    if given.places is not None:
        service = Service(Capacity(given.places, given.service_ms / 1000))
    serve(Oracle(json.loads(given.answers.read_text()), service), given.port)


if __name__ == "__main__":
    main()
