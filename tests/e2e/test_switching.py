"""Changing the checkpoint of a proxy that serves: nothing is lost, and nothing is mixed up."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from embed.errors import EncoderFailed
from proxy import sides
from proxy.calibrated import LiveScore
from proxy.checkpoints.exchange import Edit, Exchange
from proxy.policy_editor import Edited
from proxy.reencoding import BATCH
from proxy.switching import Switch, SwitchRefused
from store.documents.sqlite import SqliteDocuments
from store.policy import PolicyBook
from tests.fake_upstream import FakeUpstream, Script
from tests.harness import Proxy, policies, proxy_running, settings_for
from tests.word_encoder import WordEncoder, cosine, vector_of

OLD, NEW, NEWEST = "words-1", "words-2", "words-3"
QUESTION = "how long do you boil a brown egg"
AGAIN = "how long should you boil a brown egg"
THRESHOLD = 0.75
FISH = ("which fish swims in the harbour", "what does a herring eat")
LAX = {"hit_threshold": THRESHOLD, "context_threshold": 0.85}
BOOK = policies({"name": "default", **LAX}, {"name": "fish", "examples": list(FISH), **LAX})


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(sides, "GRACE", 0.05)


@dataclass
class Answer:
    status: str
    similarity: float | None
    category: str
    text: str

    @property
    def is_semantic(self) -> bool:
        return self.status.endswith("detail=semantic")


class Ground:
    """A proxy on one data directory that can be started again, with encoders by checkpoint."""

    def __init__(self, directory: Path, upstream: FakeUpstream) -> None:
        self.directory = directory
        self.upstream = upstream
        self.opened: list[WordEncoder] = []
        self.fails: set[str] = set()

    @asynccontextmanager
    async def proxy(self, book: PolicyBook = BOOK, seconds: float = 0) -> AsyncIterator[Asker]:
        settings = settings_for(
            self.directory,
            self.upstream.base_url,
            encoder={"reencoding_share": 1.0},
            lookup_gate=False,
        )
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(
                proxy_running(
                    settings,
                    book,
                    encoder=self.encoder(OLD, seconds=seconds),
                    promoted=self._promoted,
                )
            )
            http = await stack.enter_async_context(aiohttp.ClientSession())
            yield Asker(proxy, http)

    def encoder(self, checkpoint: str, **how: Any) -> WordEncoder:
        self.opened.append(WordEncoder(checkpoint, **how))
        return self.opened[-1]

    async def _promoted(self, name: str) -> WordEncoder:
        if name in self.fails:
            raise EncoderFailed(f"{name} is gone")
        return self.encoder(name)

    async def rows(self) -> dict[str, tuple[str, Any]]:
        """Return every stored question's checkpoint and vector, of a proxy that has ended."""
        documents = SqliteDocuments.open(self.directory, read_only=True)
        found = {}
        async for batch in documents.load_all(100):
            for stored in batch:
                found[stored.held.query] = (stored.checkpoint, stored.vector)
        await documents.aclose()
        return found


@dataclass
class Asker:
    proxy: Proxy
    http: aiohttp.ClientSession

    @property
    def switch(self) -> Switch:
        assert self.proxy.app is not None
        return self.proxy.app.switch

    async def ask(self, *turns: str, store: bool = True) -> Answer:
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]
        url = f"{self.proxy.base_url}/chat/completions"
        body = {"model": "m", "messages": messages}
        headers = {"authorization": "Bearer k"} | ({} if store else {"cache-control": "no-store"})
        async with self.http.post(url, json=body, headers=headers) as got:
            told = json.loads(await got.read())
            similarity = got.headers.get("x-nearhit-similarity")
            return Answer(
                got.headers["cache-status"],
                None if similarity is None else float(similarity),
                got.headers.get("x-nearhit-category", ""),
                told["choices"][0]["message"]["content"],
            )

    async def stored(self, *turns: str) -> None:
        """Ask, and wait until the answer is a hit."""
        hit = "nearhit; hit"
        await self.until(lambda answer: answer.status.startswith(hit), *turns, store=True)

    async def promote(self, encoder: WordEncoder, edit: Edit | None = None) -> None:
        await self.switch.stage(encoder, lambda done, of: None)
        await self.swap(encoder, edit)

    async def swap(self, encoder: WordEncoder, edit: Edit | None = None) -> None:
        score = LiveScore(None)
        await self.switch.swap(
            Exchange(encoder=encoder, score=score, edit=edit or kept, who="ops", note="")
        )

    async def until(
        self, holds: Callable[[Answer], bool], *turns: str, store: bool = False
    ) -> Answer:
        async with asyncio.timeout(20):
            while not holds(answer := await self.ask(*turns, store=store)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return answer


def kept(book: PolicyBook) -> Edited:
    return book, ("checkpoint.promote", None, None, None)


def raised(book: PolicyBook) -> Edited:
    changed = {name: replace(p, hit_threshold=0.8) for name, p in book.policies.items()}
    return PolicyBook(changed), ("checkpoint.promote", None, None, {"checkpoint": NEW})


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with FakeUpstream() as upstream:
        yield Ground(tmp_path / "data", upstream)


async def test_entries_are_found_by_meaning_before_during_and_after(ground: Ground) -> None:
    async with ground.proxy() as one:
        await one.stored(QUESTION)
        before = await one.ask(AGAIN)
        assert before.is_semantic
        assert before.similarity == pytest.approx(cosine(OLD, QUESTION, AGAIN), abs=1e-3)
        new = ground.encoder(NEW)
        await one.switch.stage(new, lambda done, of: None)
        assert (one.switch.active, one.switch.staging) == (OLD, NEW)
        assert (await one.ask(AGAIN)).similarity == before.similarity
        await one.swap(new)
        assert (one.switch.active, one.switch.former, one.switch.staging) == (NEW, OLD, "")
        after = await one.ask(AGAIN)
        assert after.is_semantic
        assert after.text == before.text
        assert after.similarity == pytest.approx(cosine(NEW, QUESTION, AGAIN), abs=1e-3)
        assert after.similarity != before.similarity
        assert (await one.ask(QUESTION)).status.endswith("detail=exact")


async def test_what_is_asked_in_the_middle_of_staging_is_found_afterwards(ground: Ground) -> None:
    async with ground.proxy() as one:
        for number in range(20):
            await one.stored(f"where is shelf number {number} of the long store room")
        new = ground.encoder(NEW, seconds=0.02)
        staging = asyncio.create_task(one.switch.stage(new, lambda done, of: None))
        await asyncio.sleep(0.02)
        await one.stored(QUESTION)
        await staging
        await one.stored("what is the name of the old grey cat")  # staged, not yet swapped
        await one.swap(new)
        assert (await one.ask(AGAIN)).is_semantic
        assert (await one.ask("what is the name of that old grey cat")).is_semantic


async def test_one_goes_back_at_once_and_what_came_since_follows(ground: Ground) -> None:
    async with ground.proxy() as one:
        await one.stored(QUESTION)
        await one.promote(ground.encoder(NEW))
        await one.stored("what is the name of the old grey cat")
        await one.switch.rollback(kept, "ops")
        assert (one.switch.active, one.switch.former) == (OLD, NEW)
        back = await one.ask(AGAIN)
        assert back.similarity == pytest.approx(cosine(OLD, QUESTION, AGAIN), abs=1e-3)
        await one.until(lambda a: a.is_semantic, "what is the name of that old grey cat")
        await one.switch.rollback(kept, "ops")  # and forth again
        assert one.switch.active == NEW
        assert (await one.ask(AGAIN)).similarity == pytest.approx(
            cosine(NEW, QUESTION, AGAIN), abs=1e-3
        )


async def test_a_restart_serves_by_the_checkpoint_that_was_in_force(ground: Ground) -> None:
    async with ground.proxy() as one:
        await one.stored(QUESTION)
        await one.promote(ground.encoder(NEW), raised)
        await one.stored("what is the name of the old grey cat")
    ground.opened.clear()
    for _ in range(2):  # from a snapshot, and then from the documents
        async with ground.proxy() as one:
            assert (one.switch.active, one.switch.former) == (NEW, OLD)
            found = await one.ask(AGAIN)
            assert found.similarity == pytest.approx(cosine(NEW, QUESTION, AGAIN), abs=1e-3)
            assert (await one.ask("what is the name of that old grey cat")).is_semantic
            await one.switch.rollback(kept, "ops")
            await one.until(
                lambda a: a.similarity == pytest.approx(cosine(OLD, QUESTION, AGAIN), abs=1e-3),
                AGAIN,
            )
            await one.switch.rollback(kept, "ops")
        for snapshot in (ground.directory / "snapshots").iterdir():
            (snapshot / "manifest").unlink()
    encoded = [text for each in ground.opened for text in each.encoded]
    assert encoded.count(QUESTION) == 0  # it is in a row or in a file, for either


async def test_a_staging_that_was_cut_off_goes_on_where_it_was(ground: Ground) -> None:
    questions = [f"where is shelf number {n} of the long store room" for n in range(40)]
    async with ground.proxy() as one:
        for question in questions:
            await one.stored(question)
        new = ground.encoder(NEW, seconds=0.03)
        staging = asyncio.create_task(one.switch.stage(new, lambda done, of: None))
        while len(new.encoded) < 16:  # noqa: ASYNC110 - an encoder tells nobody
            await asyncio.sleep(0.005)
        staging.cancel()
        await asyncio.wait([staging])
        assert len(new.encoded) < 40
    async with ground.proxy() as one:
        assert (one.switch.active, one.switch.staging) == (OLD, NEW)
        rest = ground.encoder(NEW)
        await one.promote(rest)
        encoded = [text for text in (*new.encoded, *rest.encoded) if text in questions]
        # Each of them once, but for the batch under way: it may be lost on its way to the file.
        assert set(encoded) == set(questions) and len(encoded) <= len(questions) + BATCH
        assert (await one.ask("where is that shelf number 7 of the long store room")).is_semantic


async def test_follow_ups_are_compared_within_one_checkpoint(ground: Ground) -> None:
    first = "how do I take care of a lemon tree in a pot"
    first_again = "how should I take care of a lemon tree in a pot"
    async with ground.proxy() as one:
        await one.stored(first, "Lemon trees like sun.", QUESTION)
        dialogue = (first_again, "Lemon trees like sun.", AGAIN)
        assert (await one.ask(*dialogue)).is_semantic
        await one.promote(ground.encoder(NEW))
        assert (await one.ask(*dialogue)).is_semantic
        other = ("how do I take care of a cat in a basket", "Lemon trees like sun.", AGAIN)
        assert not (await one.ask(*other)).status.startswith("nearhit; hit")


async def test_vectors_may_get_another_length(ground: Ground) -> None:
    async with ground.proxy() as one:
        await one.stored(QUESTION)
        await one.promote(ground.encoder(NEW, dimension=64))
        assert (await one.ask(AGAIN)).is_semantic
        await one.switch.rollback(kept, "ops")
        assert (await one.ask(AGAIN)).is_semantic


async def test_a_failing_encoder_leaves_everything_as_it_was(ground: Ground) -> None:
    async with ground.proxy() as one:
        await one.stored(QUESTION)
        new = ground.encoder(NEW)
        new.fails = True
        with pytest.raises(EncoderFailed):
            await one.switch.stage(new, lambda done, of: None)
        assert (one.switch.active, one.switch.staging, one.switch.former) == (OLD, "", "")
        with pytest.raises(SwitchRefused, match="not staged"):
            await one.swap(new)
        with pytest.raises(SwitchRefused, match="no former"):
            await one.switch.rollback(kept, "ops")
        assert (await one.ask(AGAIN)).is_semantic


async def test_an_encoder_that_is_not_staged_is_not_kept_in_memory(ground: Ground) -> None:
    async with ground.proxy() as one:
        again = ground.encoder(OLD)
        with pytest.raises(SwitchRefused, match="serves already"):
            await one.switch.stage(again, lambda done, of: None)

        new = ground.encoder(NEW)
        async with one.switch._turn:
            with pytest.raises(SwitchRefused, match="another switch"):
                await one.switch.stage(new, lambda done, of: None)
        assert again.closed and new.closed


async def test_a_third_checkpoint_takes_the_place_of_the_former(ground: Ground) -> None:
    async with ground.proxy() as one:
        await one.stored(QUESTION)
        await one.promote(second := ground.encoder(NEW))
        await one.promote(ground.encoder(NEWEST))
        assert (one.switch.active, one.switch.former) == (NEWEST, NEW)
        assert (await one.ask(AGAIN)).is_semantic
        await one.switch.rollback(kept, "ops")
        assert (await one.ask(AGAIN)).similarity == pytest.approx(
            cosine(NEW, QUESTION, AGAIN), abs=1e-3
        )
        assert not second.closed
    files = list((ground.directory / "checkpoints" / "vectors").iterdir())
    assert len(files) == 2


async def test_no_request_sees_two_checkpoints(ground: Ground) -> None:
    """Hammer a proxy while its checkpoint changes again and again: every answer is of one.

    A vector of the other would be far from everything: no hit, or another similarity, or
    another category, or a stored vector that is not what its checkpoint makes of its question.
    """
    rng = random.Random(7)
    numbers = itertools.count()
    asked = fresh = 0
    stop = asyncio.Event()
    async with ground.proxy(seconds=0.003) as one:
        await one.stored(QUESTION)
        await one.stored(FISH[0])

        async def hammer() -> None:
            nonlocal asked, fresh
            while not stop.is_set():
                if rng.random() < 0.3:
                    ground.upstream.play(Script(delay=rng.uniform(0, 0.03)))
                    answer = await one.ask(
                        f"which fish swims in box {next(numbers)} of the harbour"
                    )
                    assert answer.category == "fish"
                    fresh += 1
                    continue
                answer = await one.ask(AGAIN)
                asked += 1
                assert answer.category == "default"
                assert answer.is_semantic
                assert f"{answer.similarity:.4f}" in expected

        expected = {f"{cosine(each, QUESTION, AGAIN):.4f}" for each in (OLD, NEW)}
        hammers = [asyncio.create_task(hammer()) for _ in range(8)]
        new = ground.encoder(NEW, seconds=0.002)
        await one.promote(new, kept)
        switches = 1
        async with asyncio.timeout(30):
            while switches < 6 or asked < 100 or fresh < 30:
                await asyncio.sleep(0.1)
                await one.switch.rollback(kept, "ops")
                switches += 1
        stop.set()
        await asyncio.gather(*hammers)
    rows = await ground.rows()
    assert {checkpoint for checkpoint, _ in rows.values()} == {OLD, NEW}
    for query, (checkpoint, vector) in rows.items():
        np.testing.assert_allclose(vector, vector_of(checkpoint, query), atol=1e-6)
