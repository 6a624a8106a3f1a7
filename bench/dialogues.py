"""Dialogues from labelled sets, and a cache that is asked them through the proxy's own decision.

The sets are public and not part of this repository; their texts are read from a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from bench.pairs import Rows
from embed.batcher import Batcher
from embed.encoder import Encoder
from proxy.auth import Caller
from proxy.calibrated import LiveScore
from proxy.call import Call, CallReader, Request
from proxy.encoding import Encoding
from proxy.evaluation import jsonl
from proxy.evaluation.pair_rows import PairRow
from proxy.lookup import Searcher
from proxy.metrics import Metrics
from proxy.nearest import Nearest
from proxy.outcome import Outcome
from proxy.rules import InForce, Rules
from proxy.turns import TurnEncoder
from proxy.wire.chat import ChatWire
from store.cache import Cache
from store.documents.sqlite import SqliteDocuments
from store.economics import Economics
from store.entry import Entry, EntryId
from store.eviction import Quota, Share
from store.flight import Flights
from store.index import PartitionedIndex
from store.journal import Mark
from store.membership import Alone
from store.policy import DEFAULT_CATEGORY, PolicyBook
from store.quarantine import Quarantine

Dialogue = tuple[str, ...]  # what a user and an assistant said in turns, the user last
MEMO = 20_000  # texts: every one is encoded once, however often it is asked
TENANT = "everybody"
AMPLE = Quota(100_000, 2**32)
ASSISTANT = "Yes, I can help you with that. What would you like to know?"


class Asked(NamedTuple):
    """A dialogue whose answer is stored, one that is asked, and whether they may share it."""

    stored: Dialogue
    asked: Dialogue
    same: bool


def of_context(context: Sequence[str], question: str) -> Dialogue:
    """Return the dialogue of a row's context: an optional title, then user and assistant in turn.

    The context ends with an answer, so an odd number of texts begins with a title.
    """
    return (*context[len(context) % 2 :], question)


def follow_ups(rows: Rows, label: int) -> list[Asked]:
    """Return the rows of this label of `{"context1", "q1", "context2", "q2", "label"}`."""
    return [
        Asked(
            of_context(row["context1"], row["q1"]),
            of_context(row["context2"], row["q2"]),
            label == 1,
        )
        for row in rows
        if row["label"] == label
    ]


def rephrased(rows: Rows) -> list[Asked]:
    """Return the second turns of dialogues of which both turns have a duplicate.

    Stored is the original; asked are both duplicates, with the original's first answer.
    """
    found = []
    for row in rows:
        first, second = row["turns"][:2]
        if "user_duplicate" in first and "user_duplicate" in second:
            asked = (first["user_duplicate"], first["assistant"], second["user_duplicate"])
            found.append(Asked(second_turn(row), asked, True))
    return found


def second_turns(rows: Rows, name: str) -> list[PairRow]:
    """Return `rephrased` as labelled pairs, to be evaluated beside those of other sets.

    A dialogue that differs from an earlier one in its first question alone is the same one: the
    set has some twice. It is stored once.
    """
    pairs, known = [], dict[Dialogue, Dialogue]()
    for number, case in enumerate(rephrased(rows), 1):
        stored = known.setdefault(case.stored[1:], case.stored)
        one, other = (jsonl.Asked(each[:-1], each[-1]) for each in (stored, case.asked))
        pairs.append(PairRow(name, f"{name}:{number}", one, other, int(case.same)))
    return pairs


def second_turn(row: dict[str, Any]) -> Dialogue:
    """Return the dialogue of a row up to its second question."""
    first, second = row["turns"][:2]
    return first["user"], first["assistant"], second["user"]


def after_pairs(rows: Rows, name: str) -> list[Asked]:
    """Return dialogues that differ in their first question alone: the pairs of a set.

    The worst case: the answer between says nothing, and the question that follows is the same. It
    is numbered, so that each pair is a test of its own.
    """
    return [
        Asked(
            (row["q1"], f"{ASSISTANT} ({name} {number})", "Please tell me all about it."),
            (row["q2"], f"{ASSISTANT} ({name} {number})", "Please tell me all about it."),
            row["label"] == 1,
        )
        for number, row in enumerate(rows)
        if row["q1"] != row["q2"]
    ]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class DialogueCache:
    """A cache of dialogues; whoever asks it gets what the proxy would serve."""

    cache: Cache
    searcher: Searcher
    turns: TurnEncoder
    batcher: Batcher
    reader: CallReader
    in_force: InForce
    checkpoint: str
    stored: dict[EntryId, Dialogue]

    @classmethod
    async def open(
        cls, stack: AsyncExitStack, folder: Path, encoder: Encoder, book: PolicyBook
    ) -> Self:
        """Open an empty one in a folder; `stack` closes it."""
        documents = SqliteDocuments.open(folder)
        stack.push_async_callback(documents.aclose)
        index = PartitionedIndex(encoder.dimension)
        stack.push_async_callback(index.aclose)
        shares = {name: Share(AMPLE, 1.0) for name in book.names}
        cache = await Cache.open(
            documents, index=index, shares=shares, checkpoint=encoder.checkpoint
        )
        stack.push_async_callback(cache.aclose)
        batcher = await stack.enter_async_context(Batcher(encoder, memo_size=MEMO))
        encoding = Encoding.of(encoder, batcher, LiveScore(None))
        in_force = InForce(Rules(book=book, encoding=encoding))
        turns, quarantine = TurnEncoder(encoding), await Quarantine.open(documents.records)
        metrics = Metrics(book.names, [])
        nearest = Nearest(
            cache=cache,
            quarantine=quarantine,
            in_force=in_force,
            point=lambda category, budget: 0.0,
            metrics=metrics,
            clock=_now,
            max_wait=60,
        )
        searcher = Searcher(
            cache=cache,
            quarantine=quarantine,
            flights=Flights(),
            nearest=nearest,
            economics=Economics(gated=False),
            metrics=metrics,
            clock=_now,
            max_wait=60,
            membership=Alone(Mark("", 0)),
        )
        reader = CallReader(in_force, {}, lambda model: "none")
        return cls(cache, searcher, turns, batcher, reader, in_force, encoder.checkpoint, {})

    def rule(self, book: PolicyBook) -> None:
        """Put other policies in force."""
        self.in_force.rules = replace(self.in_force.rules, book=book)

    async def store(self, dialogue: Dialogue, tenant: str = TENANT) -> None:
        """Store an answer to the dialogue's last question, as an admission would."""
        call = self.call(dialogue, tenant)
        vector = await self.batcher.encode(call.question.text)
        entry = Entry(
            id=call.id,
            key=call.partition,
            tenant=call.caller.tenant,
            category=DEFAULT_CATEGORY,
            route=call.wire.path,
            model=call.model,
            query=call.question.text,
            tags=(),
            created_at=datetime.now(UTC),
            content_type="application/json",
            body=b"{}",
            checkpoint=self.checkpoint,
            vector=vector,
            earlier=call.question.earlier,
            earlier_vectors=await self.turns.encode(call.question.earlier),
        )
        await self.cache.admit(entry)
        self.stored[entry.id] = dialogue

    async def ask(self, dialogue: Dialogue, tenant: str = TENANT) -> Dialogue | None:
        """Return the dialogue whose stored answer would be served; None for none."""
        found = await self.searcher.find(self.call(dialogue, tenant))
        if found.outcome is not Outcome.HIT or found.found is None:
            return None
        return self.stored[found.found.held.id]

    def call(self, dialogue: Dialogue, tenant: str) -> Call:
        """Return the request that asks a dialogue's last question, in the category default."""
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(dialogue)]
        headers = [(b"x-nearhit-category", DEFAULT_CATEGORY.encode())]
        request = Request(
            raw=orjson.dumps({"model": "m", "messages": messages}),
            header_list=headers,
            headers=dict(headers),
            query_string=b"",
            request_id="bench",
        )
        return self.reader.read(ChatWire(), request, Caller(tenant=tenant))
