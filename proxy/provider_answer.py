"""What litellm answers, in OpenAI's wire."""

from __future__ import annotations

from typing import Any, Self

import orjson

from proxy.upstream_errors import UpstreamBroken

Json = Any

_JSON = b"application/json"
_SSE = b"text/event-stream; charset=utf-8"
_DONE = b"data: [DONE]\n\n"


def _event(data: Json) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


class WholeAnswer:
    """An answer that is all there."""

    def __init__(self, status: int, body: bytes, content_type: bytes = _JSON) -> None:
        self.status = status
        self.headers = [(b"content-type", content_type)]
        self._body = body

    @classmethod
    def of(cls, answer: Json) -> Self:
        """Return a good answer in JSON."""
        return cls(200, orjson.dumps(answer))

    @classmethod
    def of_events(cls, completion: Any, *, usage: bool) -> Self:
        """Return a text completion as the stream that it might have been."""
        chunk = completion.model_dump(exclude_none=True)
        spent = chunk.pop("usage", None)
        events = _event(chunk)
        if usage:
            events += _event(chunk | {"choices": [], "usage": spent})
        return cls(200, events + _DONE, _SSE)

    @classmethod
    def of_error(
        cls,
        status: int,
        message: str,
        kind: str,
        code: str | None = None,
        param: str | None = None,
        *,
        retry_after: str | None = None,
    ) -> Self:
        """Return an error in OpenAI's envelope."""
        error = {"message": message, "type": kind, "param": param, "code": code}
        answer = cls(status, orjson.dumps({"error": error}))
        if retry_after is not None:
            answer.headers.append((b"retry-after", retry_after.encode("latin-1", "replace")))
        return answer

    def arrived(self) -> bytes:
        """Return the body, once."""
        body, self._body = self._body, b""
        return body

    def complete(self) -> bool:
        """Return True."""
        return True

    def ended(self) -> bool:
        """Whether the body was taken."""
        return not self._body

    async def more(self) -> bytes:
        """Return b"": there is nothing to wait for."""
        return b""

    async def aclose(self) -> None:
        """Forget the body."""
        self._body = b""


class ChatStream:
    """litellm's stream of a chat completion as SSE."""

    def __init__(self, upstream: str, stream: Any) -> None:
        self.status = 200
        self.headers = [(b"content-type", _SSE)]
        self._upstream = upstream
        self._stream = stream
        self._ended = False

    def arrived(self) -> bytes:
        """Return b"": every event has to be waited for."""
        return b""

    def complete(self) -> bool:
        """Return False: every event has to be waited for."""
        return False

    def ended(self) -> bool:
        """Whether the last event was taken."""
        return self._ended

    async def more(self) -> bytes:
        """Return the next event; raise UpstreamBroken if the provider's stream broke off."""
        if self._ended:
            return b""
        async for chunk in self._stream:
            event = tidy_chat(chunk)
            finished = any(choice["finish_reason"] for choice in event["choices"])
            # litellm ends a stream that broke off with a "stop" of its own making.
            if finished and self._stream.received_finish_reason is None:
                raise UpstreamBroken(f"upstream {self._upstream}: the answer broke off")
            return _event(event)
        self._ended = True
        return _DONE

    async def aclose(self) -> None:
        """Drop the provider's connection."""
        self._ended = True
        provider = self._stream.completion_stream
        lines = getattr(provider, "streaming_response", None)
        await self._stream.aclose()
        # litellm's own close does not reach the connection of every provider.
        for part in (provider, lines):
            if part is not None and hasattr(part, "aclose"):
                await part.aclose()


def tidy_chat(answer: Any) -> Json:
    """Return a chat completion, or a chunk of one, with the keys that OpenAI's always have."""
    tidy = answer.model_dump(exclude_none=True)
    for choice in tidy["choices"]:
        choice.setdefault("finish_reason", None)
        if "message" in choice:
            choice["message"].setdefault("content", None)
    if tidy["object"] == "chat.completion.chunk" and "usage" in tidy:
        tidy["choices"] = []
    return tidy
