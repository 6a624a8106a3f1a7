"""Calls that no client asked for. They exist only where a judge is configured, and they are paid
for: each is counted into the judge's hourly budget, whatever it brings.

What the client asked is asked again as its own call would have gone: the same upstream, the same
credentials. A judge at the same upstream is asked with those too, one at another upstream only with
that upstream's own key. No key goes where its owner's calls do not, or pays for another tenant.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import orjson

from proxy.answer_text import Tokens, answer_text, tokens_used
from proxy.call import Call
from proxy.head import head_of
from proxy.headers import NO_CREDENTIAL, Credential, credential, headers_of_another, request_id
from proxy.spending import Spending
from proxy.upstream import UpstreamCall, Upstreams
from proxy.upstream_errors import UpstreamBroken
from proxy.wire import WIRES
from proxy.wire.base import Fields, Json

_LARGEST = 1024 * 1024  # bytes of an answer
CHAT = "/v1/chat/completions"
_STREAMING = ("stream", "stream_options")
_CHARACTERS = 3  # that a token has at the least, where an upstream does not count them


class SideCalls:
    """Asks upstreams on our own account."""

    def __init__(
        self,
        upstreams: Upstreams,
        spending: Spending,
        *,
        keys_configured: bool,
        on_cost: Callable[[float, Tokens], None] = lambda cost, tokens: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstreams = upstreams
        self.spending = spending
        self._keys_configured = keys_configured
        self._on_cost = on_cost
        self._monotonic = monotonic

    @property
    def exhausted(self) -> bool:
        """Whether the hour's budget is spent."""
        return self.spending.exhausted(self._monotonic())

    @property
    def spent(self) -> float:
        """What the last hour's calls have cost."""
        return self.spending.last_hour(self._monotonic())

    async def again(self, call: Call) -> str | None:
        """Ask what the client asked, as JSON; return the answer's text, None if it is no text.

        Raises an UpstreamError.
        """
        body = _as_json(call.request.raw)
        query = call.request.query_string.decode("ascii")
        path = call.wire.path + (f"?{query}" if query else "")
        headers = headers_of_another(call.request.header_list, request_id(None))
        whole = await self._ask(path, headers, body, call.model, self._credential(call))
        if call.wire.refuse(whole, store_tool_calls=False) is not None:
            return None
        return answer_text(call.wire.path, whole)

    async def instead(self, call: Call, model: str, body: Json) -> Fields | None:
        """Have another model answer a chat in the requested one's place, as JSON.

        Returns the answer; None if it is no whole one. Raises an UpstreamError.
        """
        body = {key: value for key, value in body.items() if key not in _STREAMING}
        sent = json.dumps(body).encode()
        whose = self._credential_for(call, model)
        whole = await self._ask(CHAT, _own_headers(), sent, model, whose)
        return whole if call.wire.refuse(whole, store_tool_calls=False) is None else None

    async def chat(self, call: Call | None, model: str, messages: Json) -> str | None:
        """Have a model answer a chat on account of this call, or of nobody's.

        Returns the answer's text; None if it is no text, or no whole one. Raises an UpstreamError.
        """
        whose = NO_CREDENTIAL if call is None else self._credential_for(call, model)
        body = orjson.dumps({"model": model, "messages": messages})
        whole = await self._ask(CHAT, _own_headers(), body, model, whose)
        if WIRES[CHAT].refuse(whole, store_tool_calls=False) is not None:
            return None
        return answer_text(CHAT, whole)

    def _credential_for(self, call: Call, model: str) -> Credential:
        groups = {self._upstreams.group_name(each) for each in (model, call.model)}
        return self._credential(call) if len(groups) == 1 else NO_CREDENTIAL

    def _credential(self, call: Call) -> Credential:
        return credential(
            call.request.header_list,
            tenant_key=call.caller.upstream_key,
            keys_configured=self._keys_configured,
        )

    async def _ask(
        self,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        model: str,
        whose: Credential,
    ) -> Fields:
        sent = UpstreamCall(
            method="POST",
            path=path.removeprefix("/v1"),
            headers=headers,
            body=body,
            model=model,
            credential=whose,
        )
        raw = b""
        whole: Json = None
        try:
            async with await self._upstreams.open(sent) as answer:
                head = head_of(answer)
                raw = await answer.read(_LARGEST)
            if not head.readable:
                raise UpstreamBroken(f"side call: the upstream answered {head.status}")
            whole = orjson.loads(raw)
        except ValueError as error:
            raise UpstreamBroken("side call: the answer is not JSON") from error
        finally:
            self._pay(model, whole, body, raw)
        if not isinstance(whole, dict):
            raise UpstreamBroken("side call: the answer is not an object")
        return whole

    def _pay(self, model: str, whole: Json, body: bytes, raw: bytes) -> None:
        used = tokens_used(whole) if isinstance(whole, dict) else None
        if used is None:
            used = Tokens(len(body) // _CHARACTERS, len(raw) // _CHARACTERS)
        cost = self.spending.cost(model, used)
        self.spending.spend(cost, self._monotonic())
        self._on_cost(cost, used)


def _own_headers() -> list[tuple[str, str]]:
    """Return the headers of a call of our own."""
    return [
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
        ("x-request-id", request_id(None)),
    ]


def _as_json(raw: bytes) -> bytes:
    """Return a request body that asks for the same as JSON."""
    body = json.loads(raw)  # keeps integers of any length as they were sent
    if not body.get("stream"):
        return raw
    for field in _STREAMING:
        body.pop(field, None)
    return json.dumps(body).encode()
