"""Upstreams that do not speak OpenAI's wire: through litellm, imported only once one is used.

litellm translates chat completions, completions and embeddings. Its own retries, telemetry,
dropping of parameters and look-ups over the network are off, and only the fields that OpenAI's
API documents are handed to it: its functions take addresses and keys by keyword too, and those
are not the client's to choose. Anthropic's own wire needs no translation and goes to an Anthropic
upstream as it is. Any other route is a 404.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import re
from collections.abc import Callable
from typing import Any

import orjson

from proxy.fleet import UpstreamSpec
from proxy.headers import Credential, credential_headers
from proxy.upstream_answer import Source
from proxy.upstream_errors import (
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnavailable,
)

Json = Any
Headers = list[tuple[str, str]]

_ANTHROPIC_URL = "https://api.anthropic.com/v1"
_ANTHROPIC_PATH = re.compile(r"/messages(/|\?|$)")
_ANTHROPIC_VERSION = "2023-06-01"

_SAMPLING = "temperature top_p n stream stream_options stop max_tokens seed user logit_bias"
_SAMPLING += " presence_penalty frequency_penalty logprobs"
_CHAT = "messages tools tool_choice parallel_tool_calls functions function_call response_format"
_CHAT += " max_completion_tokens top_logprobs reasoning_effort verbosity modalities audio"
_CHAT += " prediction service_tier prompt_cache_key safety_identifier web_search_options thinking"
_COMPLETIONS = "prompt suffix echo best_of"

# What a client may ask of each route, and the litellm function that answers it.
_ROUTES: dict[str, tuple[str, frozenset[str]]] = {
    "/chat/completions": ("acompletion", frozenset(f"{_SAMPLING} {_CHAT}".split())),
    "/completions": ("atext_completion", frozenset(f"{_SAMPLING} {_COMPLETIONS}".split())),
    "/embeddings": ("aembedding", frozenset("input dimensions encoding_format user".split())),
}
_BOOKKEEPING = frozenset(["model", "metadata", "store"])  # changes no answer, is OpenAI's own
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}

_litellm: Any = None


def _import() -> Any:
    for name in ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS", "AUTOROUTER_PRESETS"):
        os.environ[f"LITELLM_LOCAL_{name}"] = "True"
    litellm: Any = importlib.import_module("litellm")
    litellm.drop_params = False
    litellm.modify_params = False
    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.user_url_validation = True  # no image URL of a client's reaches our own network
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    return litellm


async def load() -> None:
    """Import litellm, which takes seconds, without stopping the event loop."""
    global _litellm
    if _litellm is None:
        _litellm = await asyncio.to_thread(_import)


async def aclose() -> None:
    """Close the connections that litellm keeps."""
    if _litellm is not None:
        await _litellm.close_litellm_async_clients()


def native(
    spec: UpstreamSpec, path: str, headers: Headers, credential: Credential
) -> tuple[str, Headers] | None:
    """Return the base URL and the headers of a call that needs no translation, or None."""
    if spec.provider != "anthropic" or _ANTHROPIC_PATH.match(path) is None:
        return None
    key = credential.key(spec.api_key)
    own = [("x-api-key", key)] if key is not None else credential_headers(credential, None)
    if not any(name == "anthropic-version" for name, _ in headers):
        own.append(("anthropic-version", _ANTHROPIC_VERSION))
    return (spec.base_url or _ANTHROPIC_URL).removesuffix("/v1") + "/v1", headers + own


async def send(spec: UpstreamSpec, path: str, raw: object, credential: Credential) -> Source:
    """Have a provider answer a request in OpenAI's wire. Raise an UpstreamError if it cannot.

    `path` is as in /chat/completions, `raw` the body's bytes. The provider's own errors come back
    as an answer with their status.
    """
    await load()
    route = path.partition("?")[0]
    if route not in _ROUTES:
        message = f"upstream {spec.name} ({spec.provider}) does not serve /v1{route}"
        return _Whole(404, _envelope(message, "invalid_request_error", "route_not_supported"))
    function, fields = _ROUTES[route]
    body = orjson.loads(raw) if isinstance(raw, bytes) else {}
    for name in body.keys() - fields - _BOOKKEEPING:
        message = f"upstream {spec.name} ({spec.provider}) takes no {name!r}"
        return _Whole(400, _envelope(message, "invalid_request_error", "unknown_field", name))
    asked = {name: value for name, value in body.items() if name in fields}
    if function == "acompletion":
        asked["_skip_mcp_handler"] = True  # it would ask for packages that we have no use for
    try:
        async with asyncio.timeout(spec.connect_timeout + spec.first_byte_timeout):
            answer = await getattr(_litellm, function)(
                model=body["model"],
                custom_llm_provider=spec.provider,
                api_base=spec.base_url,
                api_key=credential.key(spec.api_key) or _key_of(credential),
                timeout=spec.first_byte_timeout,
                num_retries=0,
                max_retries=0,
                **asked,
            )
    except Exception as error:
        return _refusal(spec, error)
    if asked.get("stream") is True and function != "aembedding":
        return _Stream(spec, answer, _TIDY[function])
    return _Whole(200, orjson.dumps(_TIDY[function](answer.model_dump(exclude_none=True))))


def _key_of(credential: Credential) -> str | None:
    sent = credential_headers(credential, None)
    return sent[0][1].removeprefix("Bearer ") if sent else None


# -- answers


class _Whole:
    """An answer that is all there."""

    def __init__(self, status: int, body: bytes, retry_after: str | None = None) -> None:
        self.status = status
        self.headers = [(b"content-type", b"application/json")]
        if retry_after is not None:
            self.headers.append((b"retry-after", retry_after.encode()))
        self._body = body

    def arrived(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def ended(self) -> bool:
        return not self._body

    async def more(self) -> bytes:
        return b""

    async def aclose(self) -> None:
        self._body = b""


class _Stream:
    """litellm's stream as SSE."""

    def __init__(self, spec: UpstreamSpec, stream: Any, tidy: Callable[[Json], Json]) -> None:
        self.status = 200
        self.headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        self._name = spec.name
        self._stream = stream
        self._tidy = tidy
        # The wrapper of a text completion has the one that knows the provider's finish inside.
        self._inner = (
            stream if hasattr(stream, "received_finish_reason") else stream.completion_stream
        )
        self._ended = False

    def arrived(self) -> bytes:
        return b""

    def ended(self) -> bool:
        return self._ended

    async def more(self) -> bytes:
        if self._ended:
            return b""
        async for chunk in self._stream:
            event = self._tidy(chunk.model_dump(exclude_none=True))
            # litellm ends a stream that broke off with a "stop" of its own making.
            if any(choice["finish_reason"] for choice in event["choices"]):
                if self._inner.received_finish_reason is None:
                    raise UpstreamBroken(f"upstream {self._name}: the answer broke off")
            return b"data: " + orjson.dumps(event) + b"\n\n"
        self._ended = True
        return b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        self._ended = True
        provider = self._inner.completion_stream
        lines = getattr(provider, "streaming_response", None)
        await self._inner.aclose()
        # litellm's own close does not reach the connection of every provider.
        for part in (provider, lines):
            if part is not None and hasattr(part, "aclose"):
                await part.aclose()


def _tidy_chat(answer: Json) -> Json:
    """Put back the keys that OpenAI always has and that were None."""
    for choice in answer["choices"]:
        choice.setdefault("finish_reason", None)
        if "message" in choice:
            choice["message"].setdefault("content", None)
    if answer["object"] == "chat.completion.chunk" and "usage" in answer:
        answer["choices"] = []
    return answer


def _tidy_completion(answer: Json) -> Json:
    for choice in answer["choices"]:
        choice.setdefault("finish_reason", None)
        choice["text"] = choice.get("text") or ""
    if not answer.get("usage", {}).get("total_tokens"):
        answer.pop("usage", None)
    return answer


_TIDY: dict[str, Callable[[Json], Json]] = {
    "acompletion": _tidy_chat,
    "atext_completion": _tidy_completion,
    "aembedding": lambda answer: answer,
}


# -- errors


def _envelope(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _refusal(spec: UpstreamSpec, error: Exception) -> Source:
    """Return a provider's error as an answer; raise what is no answer of a provider's at all."""
    causes = _causes(error)
    names = {type(cause).__name__ for cause in causes}
    name = f"upstream {spec.name}"
    if "ConnectTimeout" in names or "ConnectionTimeoutError" in names:
        seconds = spec.connect_timeout
        raise UpstreamTimeout(
            f"{name}: no connection within {seconds:g} s", not_sent=True
        ) from None
    if "ConnectError" in names or "ClientConnectorError" in names:
        raise UpstreamUnavailable(f"{name}: no connection") from None
    if names & {"TimeoutError", "ReadTimeout", "Timeout"}:
        seconds = spec.first_byte_timeout
        raise UpstreamTimeout(f"{name}: no answer within {seconds:g} s") from None
    statuses = [status for cause in causes if (status := getattr(cause, "status_code", None))]
    if "ReadError" in names or not statuses or min(statuses) < 400:
        raise UpstreamBroken(f"{name}: its answer is not readable") from None
    status = statuses[0]
    message, kind = _provider_message(error, spec)
    kind = kind or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    headers = getattr(error, "litellm_response_headers", None) or {}
    return _Whole(status, _envelope(message, kind), headers.get("retry-after"))


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _provider_message(error: Exception, spec: UpstreamSpec) -> tuple[str, str | None]:
    """Return what the provider said, and the type that it gave, freed of litellm's wrapping."""
    text = str(getattr(error, "message", error))
    start = text.find("{")
    if start >= 0:
        try:
            told = json.JSONDecoder().raw_decode(text[start:])[0].get("error")
        except ValueError:
            told = None
        if isinstance(told, dict) and isinstance(told.get("message"), str):
            return told["message"], str(told["type"]) if told.get("type") else None
    text = re.sub(r"^(litellm\.\w+: )+", "", text).split("\n")[0].split(". To drop these")[0]
    if spec.base_url is not None:
        text = text.replace(spec.base_url, spec.name)
    return text[:500], None
