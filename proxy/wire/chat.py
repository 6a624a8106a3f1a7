"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.wire.answer import pieces
from proxy.wire.base import Fields, Json, Question, Tier
from proxy.wire.chunks import (
    assemble_chunks,
    refuse_choices,
    refuse_finish,
    replay_chunks,
    with_usage,
    without_usage,
)
from proxy.wire.question import (
    check_head,
    check_messages,
    has_foreign_tools,
    is_alone,
    last_turn_question,
    unasked,
)
from proxy.wire.sse import BrokenStream

_OWN_TOOLS = ("function", "custom")
# The upstream looks something up before it answers: OpenAI, xAI, Azure and OpenRouter.
_HOSTED_FIELDS = ("web_search_options", "search_parameters", "data_sources", "plugins")
_TEXTS = ("reasoning_content", "reasoning", "content", "refusal")  # in the order of streaming


class ChatWire:
    """Chat completions: the last user message is the query."""

    path = "/v1/chat/completions"
    streams = True
    echoes: tuple[str, ...] = ()

    def read(self, body: dict[str, Json]) -> Question:
        """Split a request body; raise InvalidRequest naming the field at fault."""
        check_head(body)
        messages = check_messages(body)
        turns = [message["role"] for message in messages].count("user")
        tier = _tier(body)
        if tier is not Tier.SEMANTIC:
            return unasked(tier, turns)
        return last_turn_question(body, "messages", messages, "text", turns)

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the body with stream_options.include_usage on if it streams."""
        return with_usage(body)

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return the event without usage that the client did not ask for; b"" hides it."""
        return without_usage(event, body)

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Return the chat.completion of a stream; None unless it ended cleanly."""
        return assemble_chunks(events, "chat.completion", _finish)

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield a stored chat.completion as chunks and [DONE]."""
        return replay_chunks(answer, body, "chat.completion.chunk", _cut)

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say why this answer may never be stored; None if it may."""
        return refuse_choices(answer, lambda c: _refuse(c, store_tool_calls=store_tool_calls))


def _tier(body: dict[str, Json]) -> Tier:
    if any(body.get(field) is not None for field in _HOSTED_FIELDS):
        return Tier.NONE
    if has_foreign_tools(body, _OWN_TOOLS):
        return Tier.NONE
    speaks = body.get("audio") is not None or body.get("modalities") not in (None, ["text"])
    return Tier.SEMANTIC if is_alone(body) and not speaks else Tier.EXACT


# -- stream to JSON


def _finish(choice: Fields) -> None:
    message = choice.setdefault("message", {})
    message.setdefault("role", "assistant")
    calls = message.get("tool_calls")
    if calls:
        calls.sort(key=lambda call: call["index"])
        if [call.pop("index") for call in calls] != list(range(len(calls))):
            raise BrokenStream("tool calls are missing")
    said_otherwise = calls or message.get("function_call") or message.get("refusal")
    if not message.get("content") and (said_otherwise or "content" not in message):
        message["content"] = None


# -- JSON to stream


def _cut(choice: Fields) -> Iterator[Fields]:
    message = choice["message"]
    bare: Fields = {"index": choice["index"]}
    if "logprobs" in choice:
        bare["logprobs"] = None
    unfinished: Fields = {**bare, "finish_reason": None}
    yield {**unfinished, "delta": _opening(message)}
    tokens = _tokens(choice)
    for field in _TEXTS:
        if field == "content" and tokens:
            for text, logprobs in tokens:
                yield {**unfinished, "delta": {"content": text}, "logprobs": logprobs}
        elif isinstance(text := message.get(field), str):
            for piece in pieces(text):
                yield {**unfinished, "delta": {field: piece}}
    for index, call in enumerate(message.get("tool_calls") or []):
        for fragment in _cut_call(call):
            yield {**unfinished, "delta": {"tool_calls": [{**fragment, "index": index}]}}
    ending = {k: v for k, v in choice.items() if k not in ("message", "logprobs")}
    logprobs = {} if tokens else {k: v for k, v in choice.items() if k == "logprobs"}
    yield {**bare, **ending, **logprobs, "delta": {}}


def _opening(message: Fields) -> Fields:
    opening = {k: "" if k in _TEXTS and isinstance(v, str) else v for k, v in message.items()}
    if opening.get("tool_calls"):
        del opening["tool_calls"]
    return opening


def _tokens(choice: Fields) -> list[tuple[str, Fields]]:
    """Each token of the content with its logprobs, if the logprobs tell where tokens begin."""
    logprobs = choice.get("logprobs")
    scored = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(scored, list) or not scored:
        return []
    texts: list[Json] = [
        token.get("token") if isinstance(token, dict) else None for token in scored
    ]
    if not all(isinstance(text, str) for text in texts):
        return []
    if "".join(texts) != choice["message"].get("content"):
        return []
    others: Fields = {**choice["logprobs"]}
    tokens = []
    for text, token in zip(texts, scored, strict=True):
        tokens.append((text, {**others, "content": [token]}))
        others = dict.fromkeys(others)  # they go with the first token only
    return tokens


def _cut_call(call: Fields) -> Iterator[Fields]:
    for field, written in (("function", "arguments"), ("custom", "input")):
        made = call.get(field)
        if isinstance(made, dict) and isinstance(text := made.get(written), str):
            yield {**call, field: {**made, written: ""}}
            for piece in pieces(text):
                yield {field: {written: piece}}
            return
    yield call


# -- what may be stored


def _refuse(choice: Fields, *, store_tool_calls: bool) -> str | None:
    message = choice.get("message")
    if not isinstance(message, dict):
        return "malformed"
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        return "malformed"
    if any(not isinstance(call, dict) for call in calls or []):
        return "malformed"
    calls_tools = bool(calls or message.get("function_call"))
    finish = choice.get("finish_reason")
    if (
        reason := refuse_finish(finish, calls_tools, store_tool_calls=store_tool_calls)
    ) is not None:
        return reason
    content, refusal = message.get("content"), message.get("refusal")
    if not isinstance(content, str | list | None) or not isinstance(refusal, str | None):
        return "malformed"
    said = content.strip() if isinstance(content, str) else content
    return None if said or refusal or calls_tools or message.get("audio") else "empty"
