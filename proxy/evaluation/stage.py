"""The real decision path with nobody around it: no socket, no upstream, no data of anybody's.

Everything is built by the composition root's own constructors; what differs is only what would
make a run depend on the machine: the documents lie in a folder that is thrown away, the gate that
watches how long lookups take stays open, and a text may wait for its vector.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import orjson

from embed.encoder import Encoder
from proxy.admission import Admitter
from proxy.answer import JSON_TYPE
from proxy.auth import Caller
from proxy.call import Call, CallReader, HeaderList, Request
from proxy.documents_root import alone
from proxy.encoders import open_encoder
from proxy.evaluation.ahead import EncodedAhead
from proxy.evaluation.jsonl import Asked
from proxy.head import Head
from proxy.outcome import Lookup, Outcome
from proxy.parts import Parts
from proxy.parts_root import build_parts, prototypes_builder
from proxy.requests_root import Clock, build_admitter, build_reader, build_searcher
from proxy.settings import Settings
from proxy.upkeep import utc_now
from proxy.wire import WIRES
from store.documents.sqlite import SqliteDocuments
from store.entry import EntryId
from store.policy_history import Seed

Progress = Callable[[str], None]

STORED_AT_ONCE = 64
SLOW_ANSWER = 1.0  # seconds that an answer is said to have taken
PATIENCE = 600.0  # seconds for a vector
_FRESH: HeaderList = [(b"cache-control", b"no-cache")]  # placed and encoded, but not looked up
_CHAT = WIRES["/v1/chat/completions"]
_HEAD = Head(200, [], [], JSON_TYPE, None)
_ANSWER = {
    "id": "chatcmpl-evaluation",
    "object": "chat.completion",
    "created": 0,
    "model": "evaluation",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "An answer."},
            "finish_reason": "stop",
        }
    ],
}
_BODY = orjson.dumps(_ANSWER)


class Finder(Protocol):
    """Whoever decides what a call may be served: the proxy's Searcher."""

    async def find(self, call: Call) -> Lookup:
        """Tell the category, then look the exact key up, then the meaning."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What asking came to."""

    call: Call
    lookup: Lookup

    @property
    def hit(self) -> bool:
        """Whether a stored answer would be served."""
        return self.lookup.outcome is Outcome.HIT and self.lookup.found is not None

    @property
    def exact(self) -> bool:
        """Whether what was found is the answer to this very request."""
        found = self.lookup.found
        if found is None:
            return False
        twin = self.call.shared_key
        return found.held.id == self.call.id or (twin != "" and found.held.shared_key == twin)


@dataclass(slots=True, kw_only=True)
class Stage:
    """A cache that questions are stored in and asked of."""

    parts: Parts
    reader: CallReader
    searcher: Finder
    admitter: Admitter
    prepare: Callable[[Iterable[str]], Awaitable[None]]  # encode texts ahead, with progress
    # Which question each stored entry answers.
    stored: dict[EntryId, Asked] = field(default_factory=dict)

    async def ask(self, question: Asked, finder: Finder | None = None) -> Reply:
        """Ask; nothing is stored. `finder` decides in place of the stage's own."""
        call = self._call(question, [])
        return Reply(call, await (finder or self.searcher).find(call))

    async def keep(self, question: Asked, reply: Reply) -> bool:
        """Store an answer to what was asked, if policy lets it be stored; return whether it is."""
        call, lookup = reply.call, reply.lookup
        if not lookup.storable:
            return False
        now = self.admitter.now()
        outcome = await self.admitter.admit(call, lookup, _HEAD, _BODY, _ANSWER, SLOW_ANSWER, now)
        if outcome != "stored":
            return False
        self.stored[call.id] = question
        return True

    async def fill(self, questions: Sequence[Asked], on_progress: Progress) -> int:
        """Store an answer to each question, whatever is stored; return how many are held."""
        for start in range(0, len(questions), STORED_AT_ONCE):
            part = questions[start : start + STORED_AT_ONCE]
            await asyncio.gather(*map(self._fill_one, part))
            on_progress(f"stored {start + len(part)} of {len(questions)} questions")
        return sum(self.parts.cache.exact(id) is not None for id in self.stored)

    def question(self, reply: Reply) -> Asked:
        """Return the question whose answer a hit would be served."""
        assert reply.lookup.found is not None
        return self.stored[reply.lookup.found.held.id]

    async def _fill_one(self, question: Asked) -> None:
        call = self._call(question, _FRESH)
        await self.keep(question, Reply(call, await self.searcher.find(call)))

    def _call(self, question: Asked, headers: HeaderList) -> Call:
        roles = ("user", "assistant")
        turns = [*question.context, question.text]
        messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
        request = Request(
            raw=orjson.dumps({"model": "evaluation", "messages": messages}),
            header_list=headers,
            headers=dict(headers),
            query_string=b"",
            request_id="evaluation",
        )
        return self.reader.read(_CHAT, request, Caller(tenant="default"))


@asynccontextmanager
async def open_stage(
    settings: Settings,
    seed: Seed,
    environ: Mapping[str, str],
    on_progress: Progress,
    *,
    clock: Clock = utc_now,
    encoder: Encoder | None = None,
) -> AsyncIterator[Stage]:
    """Build the decision path under these settings and the seed's policies.

    `encoder` takes the place of the configured one, and is closed like it. Raises StoreUnavailable,
    EmbedError or OSError when a part cannot start.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="nearhit-eval-"))
        settings = _alone(settings, Path(folder))
        if encoder is None:
            encoder = await open_encoder(settings.encoder, environ, on_progress)
        ahead = EncodedAhead(encoder)
        stack.push_async_callback(ahead.aclose)
        documents = SqliteDocuments.open(settings.data_dir)
        stack.push_async_callback(documents.aclose)
        shelves = await alone(documents)
        parts = await build_parts(settings, environ, seed.book, shelves, ahead, stack, on_progress)
        rules = parts.in_force.rules
        build = prototypes_builder(settings.data_dir)
        parts.in_force.rules = replace(rules, prototypes=await build(rules.book, rules.encoding))

        async def prepare(texts: Iterable[str]) -> None:
            await ahead.prepare(texts, on_progress)

        yield Stage(
            parts=parts,
            reader=build_reader(parts),
            searcher=build_searcher(parts, clock),
            admitter=build_admitter(parts, clock),
            prepare=prepare,
        )


def _alone(settings: Settings, folder: Path) -> Settings:
    """Return the settings with nothing in them that a run could touch or be slowed down by."""
    encoder = settings.encoder.model_copy(update={"max_wait": PATIENCE})
    changed = {
        "data_dir": folder,
        "upstreams": [],
        "judge": None,
        "lookup_gate": False,
        "encoder": encoder,
        "dashboard": settings.dashboard.model_copy(update={"enabled": False}),
    }
    return settings.model_copy(update=changed)
