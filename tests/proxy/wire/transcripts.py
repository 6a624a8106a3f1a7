"""Streams as real upstreams write them, shortened; each with the JSON form of the same answer."""

from __future__ import annotations

from typing import Any

from proxy.wire.sse import DONE, encode

Json = Any
_USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def chunk(*choices: Json, **more: Json) -> bytes:
    whole: Json = {"id": "c-1", "object": "chat.completion.chunk", "created": 17, "model": "m"}
    return encode({**whole, "choices": list(choices), **more})


def piece(delta: Json, finish: str | None = None, index: int = 0, **more: Json) -> Json:
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def completion(message: Json, finish: str = "stop", **more: Json) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    whole = {"id": "c-1", "object": "chat.completion", "created": 17, "model": "m"}
    return {**whole, "choices": [choice], **more}


OPENAI_TEXT = [
    chunk(
        piece({"role": "assistant", "content": "", "refusal": None}),
        system_fingerprint="fp_1",
        service_tier="default",
        usage=None,
    ),
    chunk(
        piece({"content": "Blue"}), system_fingerprint="fp_1", service_tier="default", usage=None
    ),
    chunk(
        piece({"content": " sky"}), system_fingerprint="fp_1", service_tier="default", usage=None
    ),
    chunk(piece({}, "stop"), system_fingerprint="fp_1", service_tier="default", usage=None),
    chunk(system_fingerprint="fp_1", service_tier="default", usage=_USAGE),
    DONE,
]
OPENAI_TEXT_JSON = completion(
    {"content": "Blue sky", "refusal": None},
    system_fingerprint="fp_1",
    service_tier="default",
    usage=_USAGE,
)


def _call(index: int, arguments: str, **first: str) -> Json:
    named = {"name": first.pop("name")} if "name" in first else {}
    fragment = {"index": index, **first, "function": {**named, "arguments": arguments}}
    return piece({"tool_calls": [fragment]})


OPENAI_TOOLS = [
    chunk(piece({"role": "assistant", "content": None})),
    chunk(_call(0, "", id="call_a", type="function", name="weather")),
    chunk(_call(0, '{"city":')),
    chunk(_call(0, ' "Oslo"}')),
    chunk(_call(1, "", id="call_b", type="function", name="clock")),
    chunk(_call(1, "{}")),
    chunk(piece({}, "tool_calls")),
    DONE,
]
OPENAI_TOOLS_JSON = completion(
    {
        "content": None,
        "tool_calls": [
            {
                "id": "call_a",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            },
            {"id": "call_b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        ],
    },
    "tool_calls",
)

# Names and ids repeated with every fragment, an empty content beside the call.
REPEATING_TOOLS = [
    chunk(piece({"role": "assistant", "content": ""})),
    chunk(_call(0, "{", id="call_a", type="function", name="clock")),
    chunk(_call(0, "}", id="call_a", type="function", name="clock")),
    chunk(piece({"role": "assistant", "content": ""}, "tool_calls")),
    DONE,
]
REPEATING_TOOLS_JSON = completion(
    {
        "content": None,
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        ],
    },
    "tool_calls",
)

# Reasoning beside content, role on every chunk, usage on the last chunk with a choice.
REASONING = [
    b": OPENROUTER PROCESSING\n\n",
    chunk(piece({"role": "assistant", "content": None, "reasoning_content": "Light"})),
    chunk(piece({"role": "assistant", "content": None, "reasoning_content": " scatters."})),
    chunk(piece({"role": "assistant", "content": "Blue", "reasoning_content": None})),
    chunk(piece({"content": " sky"}), provider="p"),
    chunk(piece({"content": ""}, "stop", stop_reason=None), usage=_USAGE, provider="p"),
    DONE,
]
REASONING_JSON = completion(
    {"content": "Blue sky", "reasoning_content": "Light scatters."}, usage=_USAGE, provider="p"
)
REASONING_JSON["choices"][0]["stop_reason"] = None

# A first chunk about the prompt only, filter results on every piece.
_FILTER = {"hate": {"filtered": False}}
AZURE = [
    encode(
        {
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [],
            "prompt_filter_results": [{"prompt_index": 0}],
        }
    ),
    chunk(piece({"role": "assistant", "content": ""}, content_filter_results={})),
    chunk(piece({"content": "Blue sky"}, content_filter_results=_FILTER)),
    chunk(piece({}, "stop", content_filter_results={})),
    DONE,
]
AZURE_JSON = completion({"content": "Blue sky"}, prompt_filter_results=[{"prompt_index": 0}])
AZURE_JSON["choices"][0]["content_filter_results"] = {}

REFUSAL = [
    chunk(piece({"role": "assistant", "content": "", "refusal": None})),
    chunk(piece({"refusal": "I can't"})),
    chunk(piece({"refusal": " help."})),
    chunk(piece({}, "stop")),
    DONE,
]
REFUSAL_JSON = completion({"content": None, "refusal": "I can't help."})

LEGACY_FUNCTION = [
    chunk(
        piece(
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}
        )
    ),
    chunk(piece({"function_call": {"arguments": '{"a"'}})),
    chunk(piece({"function_call": {"arguments": ": 1}"}})),
    chunk(piece({}, "function_call")),
    DONE,
]
LEGACY_FUNCTION_JSON = completion(
    {"content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}, "function_call"
)

_TOKENS: list[Json] = [
    {"token": t, "logprob": -0.1, "bytes": None, "top_logprobs": []} for t in ("Blue", " sky")
]
LOGPROBS = [
    chunk(piece({"role": "assistant", "content": ""}, logprobs=None)),
    chunk(piece({"content": "Blue"}, logprobs={"content": _TOKENS[:1], "refusal": None})),
    chunk(piece({"content": " sky"}, logprobs={"content": _TOKENS[1:], "refusal": None})),
    chunk(piece({}, "stop", logprobs=None)),
    DONE,
]
LOGPROBS_JSON = completion({"content": "Blue sky"})
LOGPROBS_JSON["choices"][0]["logprobs"] = {"content": _TOKENS, "refusal": None}

CHAT_TRANSCRIPTS: dict[str, tuple[list[bytes], Json]] = {
    "OpenAI, text": (OPENAI_TEXT, OPENAI_TEXT_JSON),
    "OpenAI, two tool calls": (OPENAI_TOOLS, OPENAI_TOOLS_JSON),
    "tool calls with repeated names": (REPEATING_TOOLS, REPEATING_TOOLS_JSON),
    "reasoning beside content": (REASONING, REASONING_JSON),
    "Azure's filter results": (AZURE, AZURE_JSON),
    "a refusal": (REFUSAL, REFUSAL_JSON),
    "a legacy function call": (LEGACY_FUNCTION, LEGACY_FUNCTION_JSON),
    "logprobs": (LOGPROBS, LOGPROBS_JSON),
}
