"""The large model's place: an upstream that knows the reference answers, at a set pace.

`python -m bench.nearhits.oracle --port 9000 --answers FILE --places 2 --service-ms 2000`: FILE is a
JSON object of answers by question. A question that it does not know is an error 404, so that
nothing is measured by accident. It answers for whatever model it is called. Asked which of two
answers is better (icl/quality.py), it says the one that is the reference; a judge's calls take no
place. GET /service and POST /service {"slowdown": 2} tell and set its pace; GET /calls counts the
calls by model; POST /wrong true has it give other questions' answers until it is told false.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
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

JUDGED = re.compile(
    r"<<(QUESTION|ANSWER A|ANSWER B) (?P<mark>\S+)>>\n(.*?)\n<<END (?P=mark)>>", re.DOTALL
)
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
        self._others = dict(
            zip(answers, [*answers.values()][1:] + [*answers.values()][:1], strict=True)
        )
        self._service = service
        self._ids = itertools.count(1)
        self._wrong = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        body = await read_body(receive)
        if path == "/calls":
            await answer_json(send, orjson.dumps(dict(self.calls)))
        elif path == "/service" and self._service is not None:
            if body:
                self._service.slow_down(orjson.loads(body)["slowdown"])
            await answer_json(send, orjson.dumps(self._service.facts()))
        elif path == "/wrong":
            self._wrong = bool(orjson.loads(body))
            await answer_json(send, body)
        elif path == MODELS:
            await answer_json(send, orjson.dumps(model_list()))
        elif path == CHAT:
            await self._chat(orjson.loads(body), send)
        else:
            await answer_json(send, orjson.dumps({"error": UNKNOWN}), status=404)

    async def _chat(self, request: Mapping[str, Any], send: Send) -> None:
        model = str(request.get("model"))
        self.calls[model] += 1
        question = str(request["messages"][-1]["content"])
        verdict = judged(question, self._answers)
        text = verdict or (self._others if self._wrong else self._answers).get(question)
        if text is None:
            await answer_json(send, orjson.dumps({"error": UNKNOWN}), status=404)
            return
        if self._service is not None and verdict is None:
            await self._service.serve()
        answer_id = f"chatcmpl-oracle-{next(self._ids)}"
        pace = Pace(tokens=max(1, len(text.split())))
        if request.get("stream"):
            await answer_stream(send, _each(chunks(answer_id, model, pace, False, text)))
        else:
            await answer_json(send, orjson.dumps(completion(answer_id, model, pace, text)))


def judged(text: str, answers: Mapping[str, str]) -> str | None:
    """Return the verdict on two answers that a judge is shown; None if this asks for none."""
    parts = {name: said.strip() for name, _, said in JUDGED.findall(text)}
    known = answers.get(parts.get("QUESTION", ""))
    if known is None or len(parts) < 3:
        return None
    right = [parts[name].casefold() == known.casefold() for name in ("ANSWER A", "ANSWER B")]
    return f"SCORE: {3 * (right[0] - right[1])}"


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
