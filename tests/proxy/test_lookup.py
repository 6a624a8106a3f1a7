"""Whatever happened before, what is served is live, unquarantined, and the caller's to see.

And it was asked in the same dialogue: of the same depth, with the same answers, and questions that
mean the same.

A naive model looks at every answer that a long random sequence of asking, storing, waiting,
changing policies, quarantining and removing gets, and at what each of them may have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from embed.batcher import Batcher
from embed.encoder import T, Vector, Vectors
from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.lookup import Searcher
from proxy.metrics import Metrics
from proxy.nearest import Nearest
from proxy.outcome import Lookup, Outcome, skip_reason
from proxy.rules import InForce, Rules
from proxy.turns import TurnEncoder
from proxy.wire.chat import ChatWire
from store.cache import Cache
from store.economics import Economics
from store.entry import Admission, Entry, EntryId, Held
from store.eviction import Quota
from store.flight import Flights
from store.index import PartitionedIndex
from store.journal import Mark
from store.membership import Alone
from store.policy import Mode, Policy, PolicyBook, Scope
from store.quarantine import EVERYBODY, Quarantine, names_of
from tests.encodings import encoding_of
from tests.entries import DIMENSION, NOON, near
from tests.fakes_documents import MemoryDocuments

CHAT = ChatWire()
CATEGORIES = ("default", "faq", "prices")
TENANTS = ("harbour", "airport")
USERS = ("", "ann", "bob")
# Cosine of each question to the first, so that some are alike; no guard tells them apart.
COSINES = {"When do ferries leave?": 1.0, "When do the ferries leave?": 0.97, "Ferries leave?": 0.9}
# Cosine of what was said earlier to the first; a guard tells the last from the others.
EARLIER = {
    "Tell me about the harbour.": 1.0,
    "Tell me of the harbour.": 0.96,
    "Talk of harbours, please.": 0.88,
    "Tell me about harbour 7.": 0.99,
}
ANSWERS = ("It is old.", "It is new.")
WIDE = "w" * 101  # earlier text that is wider than the encoder's window


class KnownEncoder:
    """Knows three questions, and four that come before them."""

    checkpoint = "known"
    dimension = DIMENSION
    max_tokens = 100

    def fits(self, text: str) -> bool:
        return text != WIDE

    def first_window(self, text: str) -> str | None:
        return text

    async def encode(self, texts: Any) -> Vectors:
        assert WIDE not in texts
        return np.stack(
            [near(2, EARLIER[t]) if t in EARLIER else near(0, COSINES[t]) for t in texts]
        )

    async def aclose(self) -> None: ...


class ThreadedKnownEncoder(KnownEncoder):
    """The same, but the thread goes on with the vector."""

    async def encode_and(self, text: str, work: Callable[[Vector], T]) -> tuple[Vectors, T]:
        await asyncio.sleep(0.002)
        vectors = await self.encode([text])
        return vectors, work(vectors[0])


policies = st.builds(
    Policy,
    name=st.just("x"),
    mode=st.sampled_from([Mode.SEMANTIC, Mode.SEMANTIC, Mode.EXACT, Mode.OFF]),
    hit_threshold=st.sampled_from([0.85, 0.95, 0.999]),
    near_threshold=st.just(0.5),
    context_threshold=st.sampled_from([0.8, 0.9, 0.98]),
    ttl=st.sampled_from([5, 60, 600]).map(lambda minutes: timedelta(minutes=minutes)),
    quota=st.builds(Quota, st.integers(1, 4), st.sampled_from([2000, 10_000])),
    scope=st.sampled_from(Scope),
)


Past = tuple[str, ...]  # what a user and an assistant said in turns
said_before = st.sampled_from([*sorted(EARLIER), WIDE])
pasts = st.lists(st.tuples(said_before, st.sampled_from(ANSWERS)), max_size=2).map(
    lambda turns: tuple(text for turn in turns for text in turn)
)
asks = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from(USERS),
    st.sampled_from(CATEGORIES),
    st.sampled_from(sorted(COSINES)),
    st.just(()) | pasts,
)


def means_the_same(one: str, other: str, threshold: float) -> bool:
    """Whether two earlier texts may stand for each other, by a rule of the model's own."""
    if one == other:
        return True
    if WIDE in (one, other) or ("7" in one) != ("7" in other):
        return False
    cosine = float(near(2, EARLIER[one]) @ near(2, EARLIER[other]))
    return cosine >= threshold - 1e-6


class Serving(RuleBasedStateMachine):
    """The searcher over a real cache, against what each entry is known to be."""

    encoder: KnownEncoder = KnownEncoder()
    remembered = 4096  # vectors

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = NOON
        self.entries: dict[EntryId, Entry] = {}  # as they were stored last
        self.pasts: dict[EntryId, Past] = {}
        self.stopped: set[tuple[EntryId, str]] = set()

    @initialize()
    def build(self) -> None:
        self.run(self._build())

    async def _build(self) -> None:
        scopes = zip(CATEGORIES, (Scope.TENANT, Scope.USER, Scope.SHARED), strict=True)
        quota = Quota(4, 10_000)
        book = PolicyBook({n: Policy(name=n, scope=s, quota=quota) for n, s in scopes})
        documents = MemoryDocuments()
        self.cache = await Cache.open(
            documents,
            index=PartitionedIndex(DIMENSION),
            shares=book.shares,
            checkpoint="known",
        )
        self.quarantine = await Quarantine.open(documents.records)
        self.batcher = Batcher(self.encoder, memo_size=self.remembered)
        self.batcher.start()
        encoding = encoding_of(self.encoder, self.batcher)
        self.in_force = InForce(Rules(book=book, encoding=encoding))
        self.turns = TurnEncoder(encoding)
        metrics = Metrics(CATEGORIES, [])
        nearest = Nearest(
            cache=self.cache,
            quarantine=self.quarantine,
            in_force=self.in_force,
            point=lambda category, budget: 1.0,
            metrics=metrics,
            clock=lambda: self.now,
            max_wait=5,
        )
        self.searcher = Searcher(
            cache=self.cache,
            quarantine=self.quarantine,
            flights=Flights(),
            nearest=nearest,
            economics=Economics(),
            metrics=metrics,
            clock=lambda: self.now,
            max_wait=5,
            membership=Alone(Mark("", 0)),
        )
        self.reader = CallReader(self.in_force, {}, lambda model: "fake")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def call(self, tenant: str, user: str, category: str, question: str, past: Past) -> Call:
        messages = [
            {"role": "assistant" if n % 2 else "user", "content": text}
            for n, text in enumerate((*past, question))
        ]
        body = {"model": "m", "messages": messages, "user": user}
        headers = [(b"x-nearhit-category", category.encode())]
        request = Request(
            raw=orjson.dumps(body),
            header_list=headers,
            headers=dict(headers),
            query_string=b"",
            request_id="r",
        )
        return self.reader.read(
            CHAT, request, Caller(tenant=tenant, categories=frozenset(CATEGORIES))
        )

    @rule(asked=st.lists(asks, min_size=4, max_size=12))
    def ask(self, asked: list[tuple[str, str, str, str, Past]]) -> None:
        for each in asked:
            self.ask_once(*each)

    @rule(
        category=st.sampled_from(CATEGORIES),
        question=st.sampled_from(sorted(COSINES)),
        turns=st.lists(
            st.tuples(said_before, said_before, st.sampled_from(ANSWERS)), min_size=1, max_size=2
        ),
    )
    def follow_up(self, category: str, question: str, turns: list[tuple[str, str, str]]) -> None:
        """The same question in dialogues that differ in what the user said before."""
        for version in (0, 1, 0):
            past = tuple(text for turn in turns for text in (turn[version], turn[2]))
            self.ask_once("harbour", "ann", category, question, past)

    def ask_once(self, tenant: str, user: str, category: str, question: str, past: Past) -> None:
        call = self.call(tenant, user, category, question, past)
        lookup: Lookup = self.run(self.searcher.find(call))
        if lookup.outcome is Outcome.HIT:
            assert lookup.found is not None
            self.check_served(call, lookup.found.held, lookup.found.similarity)
            self.check_past(call, lookup.found.held, past)
        else:
            self.check_not_owed(call)
            if lookup.near is not None:
                self.check_near(call, lookup.near.held)
            if lookup.storable:
                self.store(call, lookup, past)

    def check_near(self, call: Call, held: Held) -> None:
        """What an answer is compared with must be what only cosine or score kept from a hit."""
        assert held.earlier == call.question.earlier
        assert held.tenant == call.caller.tenant or held.approved
        assert not {(held.id, call.caller.tenant), (held.id, EVERYBODY)} & self.stopped
        book = self.in_force.rules.book
        for category in (call.category, self.entries[held.id].category):
            assert self.now - self.entries[held.id].created_at <= book[category].ttl

    def check_past(self, call: Call, held: Held, past: Past) -> None:
        stored, book = self.pasts[held.id], self.in_force.rules.book
        own, asked = book[self.entries[held.id].category], book[call.category]
        threshold = max(own.context_threshold, asked.context_threshold)
        assert len(stored) == len(past)
        assert stored[1::2] == past[1::2]  # what the assistant said
        for one, other in zip(stored[::2], past[::2], strict=True):
            assert means_the_same(one, other, threshold)

    def check_served(self, call: Call, held: Held, similarity: float) -> None:
        entry, book = self.entries[held.id], self.in_force.rules.book
        own, asked = book[entry.category], book[call.category]
        assert skip_reason(call) is None
        for policy in (own, asked):
            assert self.now - entry.created_at <= policy.ttl
            assert policy.mode is not Mode.OFF
            assert policy.scope is asked.scope
            if similarity < 1.0 or entry.query != call.question.text:
                assert policy.mode is Mode.SEMANTIC
                assert COSINES[entry.query] and similarity >= policy.hit_threshold - 1e-6
        if entry.tenant != call.caller.tenant:
            assert asked.scope is Scope.SHARED
            assert held.approved
            twins = {(entry.shared_key, call.caller.tenant), (entry.shared_key, EVERYBODY)}
            assert not twins & self.stopped
        if asked.scope is Scope.USER:
            assert entry.user == call.user != ""
        assert (held.id, call.caller.tenant) not in self.stopped
        assert (held.id, EVERYBODY) not in self.stopped

    def check_not_owed(self, call: Call) -> None:
        """A request whose own answer is held, live and allowed must not be forwarded."""
        entry, held = self.entries.get(call.id), self.cache.exact(call.id)
        if entry is None or held is None or skip_reason(call) is not None:
            return
        book = self.in_force.rules.book
        own, asked = book[entry.category], book[call.category]
        kept = {(call.id, call.caller.tenant), (call.id, EVERYBODY)} & self.stopped
        live = self.now - entry.created_at <= min(own.ttl, asked.ttl)
        allowed = own.scope is asked.scope and own.mode is not Mode.OFF
        assert kept or not live or not allowed

    def store(self, call: Call, lookup: Lookup, past: Past) -> None:
        earlier = call.question.earlier
        assert earlier == past[::2]
        entry = Entry(
            id=call.id,
            key=call.partition,
            tenant=call.caller.tenant,
            user=call.user,
            category=call.category,
            route="/v1/chat/completions",
            model="m",
            query=call.question.text,
            tags=(),
            created_at=self.now,
            content_type="application/json",
            body=b'{"answer": "at nine"}',
            checkpoint="known",
            vector=lookup.vector,
            shared_key=call.shared_key,
            earlier=earlier,
            earlier_vectors=self.run(self.turns.encode(earlier))
            if lookup.vector is not None
            else (),
        )
        if self.run(self.cache.admit(entry)) is Admission.STORED:
            self.entries[call.id] = entry
            self.pasts[call.id] = past

    @rule(category=st.sampled_from(CATEGORIES), policy=policies)
    def change_policy(self, category: str, policy: Policy) -> None:
        changed = {f: getattr(policy, f) for f in Policy.__dataclass_fields__} | {"name": category}
        book = self.in_force.rules.book
        policies = {**book.policies, category: Policy(**changed)}
        self.in_force.rules = replace(self.in_force.rules, book=PolicyBook(policies))
        self.cache.set_shares(self.in_force.rules.book.shares)
        self.run(self.cache.shrink())

    @rule(minutes=st.sampled_from([1, 4, 30, 90]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(number=st.integers(0, 10), tenant=st.sampled_from([*TENANTS, EVERYBODY]))
    def stop(self, number: int, tenant: str) -> None:
        if self.entries:
            id = sorted(self.entries)[number % len(self.entries)]
            for name in names_of(id, self.entries[id].shared_key):
                self.run(self.quarantine.add(name, tenant, self.now, "wrong"))
                self.stopped.add((name, tenant))

    @rule(number=st.integers(0, 10))
    def lift(self, number: int) -> None:
        if self.entries:
            id = sorted(self.entries)[number % len(self.entries)]
            names = names_of(id, self.entries[id].shared_key)
            for name in names:
                self.run(self.quarantine.lift(name))
            self.stopped = {pair for pair in self.stopped if pair[0] not in names}

    @rule()
    def approve(self) -> None:
        self.run(self.cache.approve([e.id for e in self.entries.values() if e.shared_key]))

    @rule(number=st.integers(0, 10))
    def remove(self, number: int) -> None:
        if self.entries:
            id = sorted(self.entries)[number % len(self.entries)]
            self.run(self.cache.remove([id]))
            assert self.cache.exact(id) is None

    @invariant()
    def nothing_is_over_the_capacity(self) -> None:
        if hasattr(self, "cache"):
            facts = self.cache.facts()
            shares = self.in_force.rules.book.shares.values()
            assert sum(facts.entries.values()) <= sum(s.quota.entries for s in shares)
            assert sum(facts.bytes.values()) <= sum(s.quota.bytes for s in shares)

    def teardown(self) -> None:
        if hasattr(self, "batcher"):
            self.run(self.batcher.aclose())
            self.run(self.cache.aclose())
        self.loop.close()


TestServing = Serving.TestCase
TestServing.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


class ServingAhead(Serving):
    """The same where the vector's thread searches before the category is known."""

    encoder = ThreadedKnownEncoder()
    remembered = 0


TestServingAhead = ServingAhead.TestCase
TestServingAhead.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
