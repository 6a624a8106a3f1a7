"""The small models as the benchmark runs them, and how they and the proxy are asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from bench.nearhits.tasks import Item
from bench.stand import StandFailed, say
from proxy.demo_fleet import LARGE, SMALL, DemoFleet

# A bare reply is enough for all tasks, and both models were measured with it.
SAMPLING: Mapping[str, Any] = {"temperature": 0, "stop": ["\n"]}
MOST_TOKENS = 10
BARE_TOKENS = 16  # without examples these models are verbose, which must not cost them the answer
SMALL_MODELS = (SMALL.name, LARGE.name)  # both are small here: the large one is the oracle
ANSWER_LIMIT = 900.0  # seconds; in the overload of the stream minutes are waited for

Turn = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and how it came."""

    text: str
    cache_status: str
    model: str
    seconds: float
    prompt_tokens: int
    request_id: str = ""
    tokens_read: int = 0  # of the prompt, beyond what the engine had of an earlier one

    @property
    def near_hit(self) -> bool:
        """Whether the proxy says that a small model answered."""
        return "detail=near-hit" in self.cache_status


@asynccontextmanager
async def small_models() -> AsyncIterator[Mapping[str, str]]:
    """Serve both models with plain question/answer turns, one thread each; yield their base URLs.

    The instruct model's own turns cost it 50 tokens and some answers when it is shown examples.
    """
    fleet = (replace(SMALL, turns="question-answer"), replace(LARGE, needed=True))
    async with DemoFleet(fleet, progress=say) as served:
        yield dict(served.urls)


def turns(question: str, examples: Sequence[Item] = ()) -> list[Turn]:
    """Return the messages that ask a question, after some examples."""
    messages: list[Turn] = []
    for example in examples:
        messages.append({"role": "user", "content": example.question})
        messages.append({"role": "assistant", "content": example.answer})
    return [*messages, {"role": "user", "content": question}]


async def ask(
    session: aiohttp.ClientSession,
    base_url: str,
    model: str,
    messages: Sequence[Turn],
    headers: Mapping[str, str] | None = None,
    most: int = MOST_TOKENS,
) -> Reply:
    """Return the answer to a chat; raise StandFailed on another status than 200."""
    body = {"model": model, "messages": list(messages), "max_tokens": most, **SAMPLING}
    started = time.perf_counter()
    limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT)
    url = base_url + "/chat/completions"
    async with session.post(url, json=body, headers=headers, timeout=limit) as answer:
        said = await answer.read()
        if answer.status != 200:
            raise StandFailed(f"{url} answered {answer.status}: {said[:300]!r}")
        data = await answer.json()
    return Reply(
        text=data["choices"][0]["message"]["content"] or "",
        cache_status=answer.headers.get("cache-status", ""),
        model=data["model"],
        seconds=time.perf_counter() - started,
        prompt_tokens=data.get("usage", {}).get("prompt_tokens", 0),
        request_id=answer.headers.get("x-request-id", ""),
        tokens_read=data.get("timings", {}).get("prompt_n", 0),
    )


async def ask_each(
    base_url: str,
    model: str,
    questions: Sequence[Sequence[Turn]],
    what: str,
    headers: Mapping[str, str] | None = None,
    at_once: int = 1,
    most: int = MOST_TOKENS,
) -> list[Reply]:
    """Return the answers to many chats in their order, with a progress line every ten seconds."""
    replies: list[Reply | None] = [None] * len(questions)
    left = iter(range(len(questions)))
    told = time.monotonic()
    done = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal told, done
        for index in left:
            replies[index] = await ask(session, base_url, model, questions[index], headers, most)
            done += 1
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"{what}: {done} of {len(questions)}")

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as workers:
        for _ in range(at_once):
            workers.create_task(work(session))
    return [reply for reply in replies if reply is not None]
