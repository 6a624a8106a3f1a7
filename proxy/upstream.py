"""The way upstream: retries before the first byte, and other upstreams when a group cannot answer.

What is tried again, and only while nothing of an answer has been handed on and the body can be
sent twice: connections that could not be made, 429 with a Retry-After of at most 10 s, and 502,
503 and 504. Another replica is preferred. What the last try brings is passed on as it is, unless
the group has fallbacks and it was one of these, any 429, or a timeout: then the fallbacks are asked
in their order, and what the first group brought is passed on only if none of them can answer
either. A group whose replicas are all ejected is asked after the others. Only calls that name a
model go elsewhere: any other may be about an object that is kept at one upstream.

One case more: a connection that idled in the pool may have been closed by the server just as we
wrote to it. That is tried again once, at once, where the upstream was last used between
STALE_AFTER and KEEP_ALIVE seconds ago: servers close idle connections after 2 s at the earliest,
so a younger one that breaks is a server that failed on this very request, which may have reached
a model and is not sent twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from proxy import providers
from proxy.balance import pick
from proxy.fleet import Fleet, Group, Member, UpstreamSpec
from proxy.headers import NO_CREDENTIAL, Credential, credential_headers
from proxy.hops import Try, begin_try
from proxy.model_list import ModelList
from proxy.retry import UNABLE, backoff, pause_after
from proxy.upstream_answer import CallFacts, Source, Turn, UpstreamAnswer
from proxy.upstream_errors import (
    ModelUnknown,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.upstream_http import KEEP_ALIVE, Connections, UpstreamCall

__all__ = [
    "CallFacts",
    "Credential",
    "Group",
    "ModelUnknown",
    "UpstreamAnswer",
    "UpstreamBroken",
    "UpstreamCall",
    "UpstreamError",
    "UpstreamSpec",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "Upstreams",
]

STALE_AFTER = 2.0
_LARGEST_LIST = 4 * 1024 * 1024
Brought = UpstreamAnswer | UpstreamError


class Upstreams:
    """All configured upstreams, as an async context manager that owns their connections."""

    def __init__(
        self,
        specs: Sequence[UpstreamSpec],
        *,
        on_call: Callable[[CallFacts], None] = lambda facts: None,
    ) -> None:
        self.fleet = Fleet(specs)
        self._on_call = on_call
        self._connections = Connections(specs)
        self._model_list = ModelList(self.fleet, self._ask_models)
        self._translates = any(spec.provider for spec in specs)

    async def __aenter__(self) -> Self:
        if self._translates:
            await providers.load()
        self._connections.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._model_list.aclose()
        await self._connections.aclose()
        await providers.aclose()

    def route(self, model: str | None) -> Group:
        """Return the replicas that serve a model (None: the default ones); raise ModelUnknown."""
        return self.fleet.route(model)

    def group_name(self, model: str | None) -> str:
        """Return the name of the group that serves a model; raise ModelUnknown."""
        return self.fleet.route(model).name

    @property
    def groups(self) -> Sequence[Group]:
        """All groups, as configured."""
        return self.fleet.groups

    async def models(self, credential: Credential = NO_CREDENTIAL) -> dict[str, Any]:
        """Return OpenAI's list of all models that can be asked for, at most 30 s old."""
        models: dict[str, Any] = await self._model_list.get(credential)
        return models

    async def _ask_models(self, member: Member, credential: Credential) -> bytes:
        if member.spec.provider is not None:
            return b'{"data": []}'
        call = UpstreamCall(method="GET", path="/models", headers=[], credential=credential)
        async with await self._once(None, member, call) as answer:
            if answer.status != 200:
                raise UpstreamBroken(f"upstream {member.name}: {answer.status} for its model list")
            return await answer.read(_LARGEST_LIST)

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        """Send a call; return its answer once the head is there. Raise an UpstreamError."""
        first = self.fleet.route(call.about if call.model is None else call.model)
        if first.fallbacks and call.model is not None and call.repeatable:
            others = [group for group in first.fallbacks if _serves(group, call)]
            return await self._open_any(first, others, call)
        return await self._ask(first, call, elsewhere=False)

    async def _open_any(
        self, first: Group, others: Sequence[Group], call: UpstreamCall
    ) -> UpstreamAnswer:
        left = [first, *others]
        told: Brought  # by the first group, which is always asked
        async with AsyncExitStack() as stack:  # closes that, unless it is passed on
            while left:
                now = time.monotonic()
                group = next((each for each in left if not each.resting(now)), left[0])
                left.remove(group)
                brought = await self._brought(group, call, elsewhere=bool(left))
                if not _is_unable(brought) or (group is first and not left):
                    return _passed_on(brought)
                if group is first:
                    told = brought
                    if isinstance(told, UpstreamAnswer):
                        told.set_aside()
                        await stack.enter_async_context(told)
                elif isinstance(brought, UpstreamAnswer):
                    await brought.discard()
            stack.pop_all()
        return _passed_on(told)

    async def _brought(self, group: Group, call: UpstreamCall, *, elsewhere: bool) -> Brought:
        try:
            return await self._ask(group, call, elsewhere=elsewhere)
        except UpstreamError as error:
            return error

    async def _ask(self, group: Group, call: UpstreamCall, *, elsewhere: bool) -> UpstreamAnswer:
        """Have one group answer; if there is an `elsewhere`, not waiting for ejected replicas."""
        tries = 1 + (group.max_retries if call.repeatable else 0)
        used: list[Member] = []
        attempt = 0
        while True:
            member = pick(group.members, time.monotonic(), avoid=used)
            last = attempt + 1 >= tries
            try:
                answer = await self._try(group, member, call)
            except UpstreamError as error:
                if last or not error.not_sent or (elsewhere and group.resting(time.monotonic())):
                    raise
                pause = backoff(attempt, random.random())
            else:
                last = last or (elsewhere and group.resting(time.monotonic()))
                asked = None if last else _pause_after(answer, attempt)
                if asked is None:
                    return answer
                pause = asked
                await answer.discard()
            used.append(member)
            if all(other in used for other in group.members):
                await asyncio.sleep(pause)
            attempt += 1

    async def _try(self, group: Group, member: Member, call: UpstreamCall) -> UpstreamAnswer:
        idle = time.monotonic() - member.last_released
        try:
            return await self._once(group, member, call)
        except UpstreamBroken as error:
            may_be_stale = error.no_answer and STALE_AFTER <= idle <= KEEP_ALIVE
            if not may_be_stale or not call.repeatable:
                raise
        return await self._once(group, member, call)

    async def _once(
        self, group: Group | None, member: Member, call: UpstreamCall
    ) -> UpstreamAnswer:
        # How long an upload takes says nothing of the load, nor does a look at a file.
        timed = group if call.repeatable and call.model is not None else None
        on_call, span = self._on_call, begin_try(member.name, call.path, call.model)
        if span is not None:
            on_call = _ending(span, on_call)
            call = replace(call, headers=span.headers(call.headers))
        turn = Turn(timed, member, call.model, on_call)
        try:
            source = await self._send(member.spec, call)
        except BaseException as error:
            turn.fail(error)
            raise
        return UpstreamAnswer(source, turn)

    async def _send(self, spec: UpstreamSpec, call: UpstreamCall) -> Source:
        if spec.provider is None:
            own = credential_headers(call.credential, spec.api_key)
            return await self._connections.send(spec, call, spec.base_url, call.headers + own)
        native = providers.native(spec, call.path, call.headers, call.credential)
        if native is not None:
            return await self._connections.send(spec, call, *native)
        return await providers.send(spec, call.path, call.body, call.credential)


def _ending(span: Try, on_call: Callable[[CallFacts], None]) -> Callable[[CallFacts], None]:
    def ended(facts: CallFacts) -> None:
        span.ended(status=facts.status, outcome=facts.outcome)
        on_call(facts)

    return ended


def _serves(group: Group, call: UpstreamCall) -> bool:
    return all(providers.serves(member.spec, call.path) for member in group.members)


def _is_unable(brought: Brought) -> bool:
    """Whether this leaves the call to the fallbacks."""
    return brought.unable if isinstance(brought, UpstreamError) else brought.status in UNABLE


def _passed_on(brought: Brought) -> UpstreamAnswer:
    if isinstance(brought, UpstreamError):
        raise brought
    return brought


def _pause_after(answer: UpstreamAnswer, attempt: int) -> float | None:
    if answer.status < 429:
        return None
    asked = [value for name, value in answer.headers if name.lower() == b"retry-after"]
    retry_after = asked[0] if asked else None
    now = datetime.now(UTC)
    return pause_after(answer.status, retry_after, attempt, jitter=random.random(), now=now)
