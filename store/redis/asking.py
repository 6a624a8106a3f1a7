"""Asking the other replicas for what each keeps in memory only: a serving event, say.

A question goes into a short stream that every replica reads, and each answers into a list that
expires: with what it has, or with nothing. Nobody writes anything down before somebody asks. A
question names a tenant, and who answers looks under exactly that tenant: what another tenant was
served cannot be asked for. Who does not answer in time is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any

from store.errors import StoreUnavailable
from store.redis.appending import THOUGH_FULL
from store.redis.codec import position_of, stream_id
from store.redis.connection import RedisConnection
from store.redis.exchange import reply_to
from store.redis.keys import Keys
from store.redis.stopping import stop

ASK_SECONDS = 0.3  # that somebody waits for the others, all together
AT_ONCE = 8  # questions of this process
KEPT = 1_000  # questions in the stream; older ones are not waited for any more
KEPT_SECONDS = 10  # that questions and answers are kept
BLOCK_MS = 500
RETRY_SECONDS = 0.5
MAX_BYTES = 256 * 1024  # of an answer; a longer one is not given

# Both though Redis is full: feedback stops wrong answers, which needs no room to speak of.
QUESTION = f"""{THOUGH_FULL}
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HKEYS', KEYS[2])
"""
ANSWER = f"""{THOUGH_FULL}
redis.call('RPUSH', KEYS[1], ARGV[1])
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

Have = Callable[[str, str], bytes | None]  # tenant, name -> what this replica has

log = logging.getLogger(__name__)


class Asking:
    """This process' questions and its answers to others'. Belongs to one event loop."""

    def __init__(
        self,
        connection: RedisConnection,
        keys: Keys,
        origin: str,
        *,
        seconds: float = ASK_SECONDS,
    ) -> None:
        """`origin` is this replica's name; `seconds` bound a question as a whole."""
        self._connection = connection
        self._keys = keys
        self._origin = origin
        self._seconds = seconds
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._closing = False
        self._answering: asyncio.Task[None] | None = None

    async def start(self, have: Have) -> None:
        """Answer others from now on with what `have` returns; raise StoreUnavailable."""
        stream = self._keys.asked
        found: Any = await self._connection.ask(lambda r: r.xrevrange(stream, count=1))
        after = position_of(found[0][0]) if found else 0
        self._answering = asyncio.create_task(
            self._answer_for_ever(have, after), name="nearhit-asking"
        )

    async def ask(self, tenant: str, name: str) -> bytes | None:
        """Return what another replica has of a tenant under a name; None if none says so in time.

        Raises StoreUnavailable.
        """
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                return await self._connection.ask(lambda r: self._ask(r, tenant, name))
        except TimeoutError:
            return None

    async def aclose(self) -> None:
        """Answer nobody any more."""
        self._closing = True
        if self._answering is not None:
            await stop(self._answering)

    async def _ask(self, client: Any, tenant: str, name: str) -> bytes | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds * 0.9  # that the connection is not cut off in a reply
        replies = self._keys.answers(uuid.uuid4().hex)
        names = (self._keys.asked, self._keys.replicas)
        question = ("tenant", tenant, "name", name, "replies", replies, "origin", self._origin)
        known = await reply_to(client, "EVAL", QUESTION, 2, *names, KEPT, KEPT_SECONDS, *question)
        others = set(known) - {self._origin.encode()}
        while others and (left := until - loop.time()) > 0:
            popped = await client.blpop([replies], timeout=left)
            if popped is None:
                break
            who, _, answer = popped[1].partition(b" ")
            if answer:
                return bytes(answer)
            others.discard(who)
        return None

    async def _answer_for_ever(self, have: Have, after: int) -> None:
        stream = self._keys.asked

        async def read(client: Any) -> Any:
            return await client.xread({stream: stream_id(after)}, count=KEPT, block=BLOCK_MS)

        while not self._closing:  # a client that is cut off may swallow a cancellation
            try:
                found = await self._connection.ask(read)
                for number, question in found[0][1] if found else ():
                    after = position_of(number)
                    await self._answer(have, question)
            except StoreUnavailable as error:
                log.warning("other replicas' questions cannot be read: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("answering other replicas failed")
                await asyncio.sleep(RETRY_SECONDS)

    async def _answer(self, have: Have, question: dict[bytes, bytes]) -> None:
        told = {key.decode(): value.decode() for key, value in question.items()}
        if told["origin"] == self._origin:
            return
        answer = have(told["tenant"], told["name"]) or b""
        if len(answer) > MAX_BYTES:
            answer = b""
        replies = told["replies"]

        said = self._origin.encode() + b" " + answer
        await self._connection.ask(
            lambda r: reply_to(r, "EVAL", ANSWER, 1, replies, said, KEPT_SECONDS)
        )
