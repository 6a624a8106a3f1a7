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
from typing import Any

import orjson

from proxy.fleet import UpstreamSpec
from proxy.headers import Credential, credential_headers
from proxy.provider_answer import ChatStream, WholeAnswer, tidy_chat
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
    try:
        litellm: Any = importlib.import_module("litellm")
    except ImportError as error:
        raise UpstreamUnavailable(
            'upstreams with a `provider` need litellm: pip install "nearhit[providers]"'
        ) from error
    litellm.drop_params = False
    litellm.modify_params = False
    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.user_url_validation = True  # no image URL of a client's reaches our own network
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    return litellm


async def load() -> None:
    """Import litellm, which takes seconds, beside the event loop. Raise UpstreamUnavailable."""
    global _litellm
    if _litellm is None:
        _litellm = await asyncio.to_thread(_import)


async def aclose() -> None:
    """Close the connections that litellm keeps."""
    if _litellm is not None:
        await _litellm.close_litellm_async_clients()


def _is_native(spec: UpstreamSpec, path: str) -> bool:
    return spec.provider == "anthropic" and _ANTHROPIC_PATH.match(path) is not None


def native(
    spec: UpstreamSpec, path: str, headers: Headers, credential: Credential
) -> tuple[str, Headers] | None:
    """Return the base URL and the headers of a call that needs no translation, or None."""
    if not _is_native(spec, path):
        return None
    key = credential.key(spec.api_key)
    own = [("x-api-key", key)] if key is not None else credential_headers(credential, None)
    if not any(name == "anthropic-version" for name, _ in headers):
        own.append(("anthropic-version", _ANTHROPIC_VERSION))
    return (spec.base_url or _ANTHROPIC_URL).removesuffix("/v1") + "/v1", headers + own


def serves(spec: UpstreamSpec, path: str) -> bool:
    """Whether an upstream is asked at all for a path as in /chat/completions?a=b."""
    route = path.partition("?")[0]
    return spec.provider is None or route in _ROUTES or _is_native(spec, path)


async def send(spec: UpstreamSpec, path: str, raw: object, credential: Credential) -> Source:
    """Have a provider answer a request in OpenAI's wire. Raise an UpstreamError if it cannot.

    `path` is as in /chat/completions, `raw` the body's bytes. The provider's own errors come back
    as an answer with their status.
    """
    route = path.partition("?")[0]
    if route not in _ROUTES:
        return _refuse(spec, 404, f"does not serve /v1{route}", "route_not_supported")
    function, fields = _ROUTES[route]
    try:
        body = orjson.loads(raw) if isinstance(raw, bytes) else None
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return _refuse(spec, 400, "takes a JSON object with a model", "invalid_json")
    for name in body.keys() - fields - _BOOKKEEPING:
        return _refuse(spec, 400, f"takes no {name!r}", "unknown_field", name)
    asked = {name: value for name, value in body.items() if name in fields}
    streamed = asked.get("stream") is True
    if function == "acompletion":
        asked["_skip_mcp_handler"] = True  # it would ask for packages that we have no use for
    elif function == "atext_completion":
        # Its streams do not tell whether they were cut: have it whole, and make events of that.
        asked.pop("stream", None)
        options = asked.pop("stream_options", None) or {}
    try:
        answer = await _call(spec, function, body["model"], asked, credential)
    except Exception as error:
        return _refusal(spec, error)
    if function == "acompletion":
        return ChatStream(spec.name, answer) if streamed else WholeAnswer.of(tidy_chat(answer))
    if function == "atext_completion" and streamed:
        return WholeAnswer.of_events(answer, usage=options.get("include_usage") is True)
    return WholeAnswer.of(answer.model_dump(exclude_none=True))


async def _call(
    spec: UpstreamSpec, function: str, model: str, asked: dict[str, Json], credential: Credential
) -> Any:
    await load()
    sent = credential_headers(credential, spec.api_key)
    async with asyncio.timeout(spec.connect_timeout + spec.first_byte_timeout):
        return await getattr(_litellm, function)(
            model=model,
            custom_llm_provider=spec.provider,
            api_base=spec.base_url,
            api_key=sent[0][1].removeprefix("Bearer ") if sent else None,
            timeout=spec.first_byte_timeout,
            num_retries=0,
            max_retries=0,
            **asked,
        )


def _refuse(
    spec: UpstreamSpec, status: int, what: str, code: str, param: str | None = None
) -> Source:
    message = f"upstream {spec.name} ({spec.provider}) {what}"
    return WholeAnswer.of_error(status, message, "invalid_request_error", code, param)


# -- errors


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
    return WholeAnswer.of_error(status, message, kind, retry_after=headers.get("retry-after"))


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
