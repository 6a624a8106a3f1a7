"""GET /v1/models: what is configured by name, and what the upstreams report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import orjson

from proxy.fleet import Fleet, Member, is_pattern
from proxy.headers import Credential
from proxy.upstream_errors import ModelUnknown

Json = Any
Ask = Callable[[Member, Credential], Awaitable[bytes]]  # GET /models of one upstream

log = logging.getLogger(__name__)

_FRESH = 30.0  # seconds
_TIMEOUT = 3.0  # seconds for all upstreams together
_CALLERS = 64  # whose lists are kept


class ModelList:
    """The list, asked for at most every 30 seconds a credential."""

    def __init__(self, fleet: Fleet, ask: Ask) -> None:
        self._fleet = fleet
        self._ask = ask
        self._lists: OrderedDict[bytes, tuple[float, asyncio.Task[Json]]] = OrderedDict()

    async def get(self, credential: Credential) -> Json:
        """Return OpenAI's list object. An upstream that fails or is slow adds nothing."""
        caller = _caller(credential)
        now = time.monotonic()
        asked, task = self._lists.get(caller, (float("-inf"), None))
        if task is None or task.cancelled() or now - asked > _FRESH:
            task = asyncio.create_task(self._collect(credential))
            self._lists[caller] = (now, task)
            self._lists.move_to_end(caller)
            if len(self._lists) > _CALLERS:
                self._lists.popitem(last=False)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Give up what is being asked for."""
        tasks = [task for _, task in self._lists.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _collect(self, credential: Credential) -> Json:
        members = [member for group in self._fleet.groups for member in group.members]
        asking = [asyncio.create_task(self._reported(each, credential)) for each in members]
        try:
            await asyncio.wait(asking, timeout=_TIMEOUT)
        finally:
            for task in asking:
                task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        models: dict[str, Json] = {}
        for member, task in zip(members, asking, strict=True):
            for name in member.spec.models:
                if not is_pattern(name):
                    model = {"id": name, "object": "model", "created": 0}
                    models.setdefault(name, model | {"owned_by": member.name})
            for model in [] if task.cancelled() else task.result():
                models[model["id"]] = model
        return {"object": "list", "data": list(models.values())}

    async def _reported(self, member: Member, credential: Credential) -> list[Json]:
        """Return the models that an upstream reports and that calls for them would reach it by."""
        try:
            body = await self._ask(member, credential)
            data = orjson.loads(body)["data"]
            return [model for model in data if self._serves(member, model["id"])]
        except Exception as error:
            log.warning("upstream %s gives no model list: %s", member.name, error)
            return []

    def _serves(self, member: Member, model: str) -> bool:
        try:
            return member in self._fleet.route(model).members
        except ModelUnknown:
            return False


def _caller(credential: Credential) -> bytes:
    """Digest what decides which list a caller gets: with keys configured, not its own headers."""
    own = () if credential.keys_configured else credential.headers
    return sha256(repr((own, credential.tenant_key)).encode()).digest()
