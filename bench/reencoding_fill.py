"""A store full of entries whose questions are ours, as if they had been asked and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from bench.fake_upstream import CHAT
from bench.population import Population
from bench.processes import Server
from bench.questions import REWORDED, Subject, stored_question, subjects
from bench.stand import bench_categories, chat_body
from embed.batcher import Batcher
from embed.encoder import Encoder, Vector
from proxy.auth import Caller
from proxy.calibrated import LiveScore
from proxy.call import Call, CallReader, Request
from proxy.encoding import Encoding
from proxy.prototypes import digest_of
from proxy.rules import InForce, Rules
from proxy.wire import WIRES
from store.documents.sqlite import SqliteDocuments
from store.entry import Entry
from store.policy import DEFAULT_CATEGORY, PolicyBook
from store.policy_file import parse_policies

ENCODED_AT_ONCE, PUT_AT_ONCE = 64, 256
# Questions about the same subjects that another answer belongs to.
OTHERS = (
    "How long does it take to {verb} a {noun} in {place}?",
    "What does it cost to {verb} a {noun} in {place}?",
    "Which company will {verb} a {noun} in {place}?",
    "Am I allowed to {verb} a {noun} in {place}?",
)


@dataclass
class Filled:
    """What was stored, and what may be asked of it."""

    hot: Sequence[str]  # stored questions, asked again word for word
    rewordings: Sequence[str]
    texts: dict[str, str]  # question by id
    encoder: Encoder
    vectors: dict[str, Vector] = field(default_factory=dict)  # by text

    async def cosine(self, question: str, id: str) -> float:
        """Return how near a question is to a stored one; NaN for an id that is none."""
        if id not in self.texts:
            return float("nan")
        return float(await self._vector(question) @ await self._vector(self.texts[id]))

    async def _vector(self, text: str) -> Vector:
        if text not in self.vectors:
            self.vectors[text] = (await self.encoder.encode([text]))[0]
        return self.vectors[text]


def policies() -> list[dict[str, Any]]:
    """Return the starter policies, alike: what is a rewording hits by its cosine."""
    return [{**each, "hit_threshold": 0.85, "error_budget": None} for each in bench_categories()]


def write_config(folder: Path, upstream: Server) -> Path:
    """Write the configuration: defaults in everything that costs time."""
    (folder / "policies.yaml").write_text(yaml.safe_dump({"categories": policies()}))
    config = {
        "data_dir": str(folder / "data"),
        "upstreams": [{"name": "fake", "base_url": f"{upstream.origin}/v1", "models": ["*"]}],
        "policies": str(folder / "policies.yaml"),
        "lookup_gate": False,  # the fake upstream answers in no time: looking up never pays
        "snapshots": {"every": 0},
    }
    (folder / "nearhit.yaml").write_text(yaml.safe_dump(config))
    return folder / "nearhit.yaml"


def questions(entries: int) -> Iterator[tuple[str, Subject]]:
    """Yield distinct questions, those whose rewordings are asked first."""
    every = subjects()
    for subject in every:
        yield stored_question(subject), subject
    for template in OTHERS:
        for subject in every:
            yield template.format(**subject._asdict()), subject


async def fill(directory: Path, entries: int, asked: int, encoder: Encoder) -> Filled:
    """Store so many entries in a data directory that nobody serves.

    The first `asked` have the encoder's vectors, the others drawn ones: a search cannot tell, and
    when they are re-encoded, their texts are encoded like any.
    """
    book = parse_policies({"categories": policies()}, "bench")
    stored = [text for text, _ in questions(entries)][:entries]
    if len(stored) < entries:
        raise ValueError(f"there are {len(stored)} questions of our own, not {entries}")
    near = subjects()[:asked]
    rewordings = [
        template.format(**subject._asdict()) for template in REWORDED[:4] for subject in near
    ]
    filled = Filled(stored[:asked], rewordings, {}, encoder)
    for start in range(0, asked, ENCODED_AT_ONCE):
        part = stored[start : start + ENCODED_AT_ONCE]
        filled.vectors |= dict(zip(part, await encoder.encode(part), strict=True))
    drawn = Population().vectors(entries)
    reader = _reader(book, encoder)
    documents = SqliteDocuments.open(directory)
    classifier = digest_of(book, encoder.checkpoint)
    for start in range(0, entries, PUT_AT_ONCE):
        batch = []
        for number in range(start, min(start + PUT_AT_ONCE, entries)):
            text = stored[number]
            vector = filled.vectors.get(text, drawn[number].astype(np.float32))
            entry = _entry(_call(reader, text), vector, encoder.checkpoint, classifier)
            filled.texts[entry.id] = text
            batch.append(entry)
        await asyncio.gather(*map(documents.put, batch))
    await documents.aclose()
    return filled


def _reader(book: PolicyBook, encoder: Encoder) -> CallReader:
    encoding = Encoding.of(encoder, Batcher(encoder), LiveScore(None))
    return CallReader(InForce(Rules(book=book, encoding=encoding)), {}, lambda model: "fake")


def _call(reader: CallReader, question: str) -> Call:
    headers = [(b"content-type", b"application/json")]
    request = Request(
        raw=chat_body(question).encode(),
        header_list=headers,
        headers=dict(headers),
        query_string=b"",
        request_id="bench",
    )
    call = reader.read(WIRES[CHAT], request, Caller(tenant="default"))
    call.place(DEFAULT_CATEGORY)
    return call


def _entry(call: Call, vector: Vector, checkpoint: str, classifier: str) -> Entry:
    told = {
        "id": f"chatcmpl-{call.id}",
        "object": "chat.completion",
        "created": 1,
        "model": call.model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"About {call.question.text}"},
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
    }
    return Entry(
        id=call.id,
        key=call.partition,
        tenant=call.caller.tenant,
        category=DEFAULT_CATEGORY,
        classifier=classifier,
        route=call.wire.path,
        model=call.model,
        query=call.question.text,
        tags=(),
        created_at=datetime.now(UTC),
        content_type="application/json",
        body=orjson.dumps(told),
        checkpoint=checkpoint,
        vector=vector,
        cost=1.0,
    )
