"""Requests and answers of every wire for the property tests, and ways to damage them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from proxy.wire.base import PLACEHOLDER

Json = Any
ASKED = {"stream": True, "stream_options": {"include_usage": True}}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
# Long enough to be cut in pieces, with spaces and newlines to cut at.
_letters = st.sampled_from("abc é漢😀 \n\t") | st.characters(codec="utf-8")
prose = st.text(_letters, min_size=1, max_size=12) | st.builds(
    lambda text, times: text * times,
    st.text(_letters, min_size=1, max_size=20),
    st.integers(1, 15),
)
ids = st.text("abcdef0123456789_", min_size=1, max_size=12)
numbers = st.integers(0, 2**40)

# Words of the APIs, so that random JSON comes near to what the wires look at.
VOCABULARY = (
    "model messages prompt input role content type text user system developer assistant tool n "
    "stream logprobs tools function custom input_text stream_options include_usage modalities "
    "choices message index finish_reason stop length tool_calls refusal output output_text status "
    "completed incomplete_details error stop_reason end_turn tool_use delta usage id name "
    "arguments data embedding summary reasoning thinking citations annotations message_start"
).split()
words = st.sampled_from(VOCABULARY)
vocabulary_json = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=12,
)
vocabulary_objects = st.dictionaries(words, vocabulary_json, max_size=8)


def objects(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional)


# -- requests


def texts_of(part_type: str) -> st.SearchStrategy[Json]:
    text = prose | st.just(PLACEHOLDER) | st.sampled_from(["", " "])
    part = objects({"type": st.just(part_type), "text": text}, cache_control=json_values)
    other = objects({"type": st.sampled_from(["image_url", "tool_result", "file"])}, text=text)
    return (
        text
        | st.lists(part, min_size=1, max_size=3)
        | st.lists(part | other, max_size=3)
        | st.none()
    )


def turns_of(part_type: str) -> st.SearchStrategy[Json]:
    roles = st.sampled_from(["user", "user", "assistant", "system", "developer", "tool"])
    turn = objects({"role": roles, "content": texts_of(part_type)}, name=st.text(max_size=3))
    last = objects({"role": st.just("user"), "content": texts_of(part_type)}, name=scalars)
    history = st.lists(turn, max_size=4)
    return st.tuples(history, last).map(lambda t: [*t[0], t[1]]) | st.lists(turn, min_size=1)


def requests(field: str, asked: st.SearchStrategy[Json]) -> st.SearchStrategy[dict[str, Json]]:
    return objects(
        {"model": ids, field: asked},
        temperature=st.floats(0, 2),
        stream=st.booleans() | st.none(),
        user=st.text(max_size=5),
        metadata=json_values,
        seed=json_values,
        n=st.sampled_from([1, None, 2]),
        x_unknown=json_values,
    )


# -- answers

usages = st.none() | objects(
    {"prompt_tokens": numbers, "completion_tokens": numbers, "total_tokens": numbers},
    prompt_tokens_details=st.fixed_dictionaries({"cached_tokens": numbers}),
)
calls = objects(
    {
        "id": ids,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": ids, "arguments": prose | st.just("")}),
    },
    extra_content=json_values,
) | st.fixed_dictionaries(
    {
        "id": ids,
        "type": st.just("custom"),
        "custom": st.fixed_dictionaries({"name": ids, "input": prose}),
    }
)
url_notes: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "type": st.just("url_citation"),
        "url_citation": st.fixed_dictionaries(
            {"start_index": numbers, "end_index": numbers, "title": ids, "url": ids}
        ),
    }
)
_EXTRA = {
    "annotations": st.lists(url_notes, max_size=2),
    "reasoning_content": prose | st.none() | st.just(""),
    "reasoning": prose,
    "x_unknown": json_values,
}
messages = (
    objects({"role": st.just("assistant"), "content": prose}, refusal=st.none(), **_EXTRA)
    | objects({"role": st.just("assistant"), "content": st.none(), "refusal": prose}, **_EXTRA)
    | objects(
        {
            "role": st.just("assistant"),
            "content": st.none() | prose,
            "tool_calls": st.lists(calls, min_size=1, max_size=3),
        },
        refusal=st.none(),
        **_EXTRA,
    )
)


@st.composite
def chat_choices(draw: st.DrawFn) -> list[Json]:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        message = draw(messages)
        choice = {"index": index, "message": message, "finish_reason": "stop"}
        if message.get("tool_calls"):
            choice["finish_reason"] = draw(st.sampled_from(["tool_calls", "stop"]))
        tokens = draw(st.none() | st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=9))
        if tokens is not None:
            scored = [{"token": t, "logprob": -0.5, "top_logprobs": []} for t in tokens]
            choice["logprobs"] = {
                "content": scored,
                "refusal": draw(st.none() | st.just([{"token": "no"}])),
            }
            if draw(st.booleans()):
                message["content"] = "".join(tokens)
        elif draw(st.booleans()):
            choice["logprobs"] = None
        if draw(st.booleans()):
            choice["content_filter_results"] = draw(json_values)
        choices.append(choice)
    return choices


def _envelope(name: str, choices: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return objects(
        {
            "id": ids,
            "object": st.just(name),
            "created": numbers,
            "model": ids,
            "choices": choices,
        },
        usage=usages,
        system_fingerprint=ids | st.none(),
        service_tier=ids | st.none(),
        x_top=json_values,
    )


chat_answers = _envelope("chat.completion", chat_choices())


@st.composite
def completion_choices(draw: st.DrawFn) -> list[Json]:
    logprobs = st.none() | st.fixed_dictionaries(
        {"tokens": st.lists(ids, max_size=3), "top_logprobs": st.lists(json_values, max_size=2)}
    )
    choices = []
    for index in range(draw(st.integers(1, 3))):
        choice = {"index": index, "text": draw(prose), "finish_reason": "stop"}
        if draw(st.booleans()):
            choice["logprobs"] = draw(logprobs)
        choices.append(choice)
    return choices


completion_answers = _envelope("text_completion", completion_choices())

output_texts = objects(
    {"type": st.just("output_text"), "text": prose},
    annotations=st.lists(st.fixed_dictionaries({"type": st.just("url_citation"), "url": ids})),
    logprobs=st.lists(json_values, max_size=1),
)
refusals = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": prose})
summaries = st.fixed_dictionaries({"type": st.just("summary_text"), "text": prose})
reasonings = st.fixed_dictionaries({"type": st.just("reasoning_text"), "text": prose})
output_items = (
    st.fixed_dictionaries(
        {
            "id": ids,
            "type": st.just("message"),
            "status": st.just("completed"),
            "role": st.just("assistant"),
            "content": st.lists(output_texts | refusals, min_size=1, max_size=2),
        }
    )
    | st.fixed_dictionaries(
        {
            "id": ids,
            "type": st.just("function_call"),
            "status": st.just("completed"),
            "call_id": ids,
            "name": ids,
            "arguments": prose,
        }
    )
    | st.fixed_dictionaries(
        {
            "id": ids,
            "type": st.just("custom_tool_call"),
            "call_id": ids,
            "name": ids,
            "input": prose,
        }
    )
    | objects(
        {"id": ids, "type": st.just("reasoning"), "summary": st.lists(summaries, max_size=2)},
        content=st.lists(reasonings, max_size=2) | st.none(),
        encrypted_content=ids | st.none(),
    )
)
response_answers = objects(
    {
        "id": ids,
        "object": st.just("response"),
        "created_at": numbers,
        "status": st.just("completed"),
        "model": ids,
        "output": st.lists(output_items, min_size=1, max_size=3),
        "error": st.none(),
        "incomplete_details": st.none(),
    },
    usage=json_values,
    completed_at=numbers,
    metadata=json_values,
    x_unknown=json_values,
)

blocks = (
    objects({"type": st.just("text"), "text": prose}, citations=st.none() | st.lists(json_values))
    | objects({"type": st.just("thinking"), "thinking": prose | st.just("")}, signature=ids)
    | st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": ids})
    | st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": ids,
            "name": ids,
            "input": st.dictionaries(st.text(max_size=8), json_values, max_size=3),
        }
    )
)
message_answers = objects(
    {
        "id": ids,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": ids,
        "content": st.lists(blocks, max_size=3),
        "stop_reason": st.sampled_from(["end_turn", "stop_sequence", "tool_use"]),
        "stop_sequence": st.none() | ids,
        "usage": objects(
            {"input_tokens": numbers, "output_tokens": numbers},
            cache_read_input_tokens=st.none() | numbers,
            service_tier=ids,
        ),
    },
    stop_details=st.none() | json_values,
    container=st.none(),
    x_unknown=json_values,
)

embedding_answers = objects(
    {
        "object": st.just("list"),
        "data": st.lists(
            st.fixed_dictionaries(
                {"index": numbers, "embedding": st.lists(st.floats(-1, 1), min_size=1) | ids}
            ),
            min_size=1,
            max_size=2,
        ),
        "model": ids,
    }
)


# -- damage


def _paths(value: Json, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        here = (*at, key)
        found += _paths(inner, here) if isinstance(inner, dict | list) else [here]
    return found


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[Json]) -> Json:
    """An object with one or two of its inner values replaced by any JSON, or removed."""
    value = copy.deepcopy(draw(whole))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(_paths(value) or [()]))
        if not path:
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.booleans()):
            holder[path[-1]] = draw(json_values | vocabulary_json)
        else:
            del holder[path[-1]]
    return value
