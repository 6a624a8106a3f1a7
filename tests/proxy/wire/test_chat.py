"""Chat completions: what is the query, what is stored, and what a stream is worth."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.wire.base import PLACEHOLDER, Json, Tier
from proxy.wire.chat import ChatWire
from proxy.wire.sse import DONE, data_of, encode
from tests.proxy.wire.strategies import ASKED
from tests.proxy.wire.transcripts import CHAT_TRANSCRIPTS, OPENAI_TEXT, chunk, completion, piece

CHAT = ChatWire()
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why is the sky blue?"}
ANSWER = {"role": "assistant", "content": "It scatters light."}
FOLLOW_UP = {"role": "user", "content": "And at dusk?"}
HELD = {"role": "user", "content": PLACEHOLDER}
CALL: Json = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def ask(*messages: Json, **more: Json) -> dict[str, Json]:
    return {"model": "m", "messages": list(messages), **more}


# -- requests


def test_a_single_question_stands_alone() -> None:
    question = CHAT.read(ask(USER, temperature=0, stream=True, user="u-1"))
    assert question.tier is Tier.SEMANTIC
    assert question.text == "Why is the sky blue?"
    assert question.skeleton == {"model": "m", "messages": [HELD], "temperature": 0}
    assert (question.context, question.turns) == ([], 1)


def test_leading_instructions_are_skeleton_and_earlier_turns_are_context() -> None:
    developer = {"role": "developer", "content": "Use metric units."}
    later = {"role": "system", "content": "The user is a pilot."}
    question = CHAT.read(ask(SYSTEM, developer, USER, ANSWER, later, FOLLOW_UP))
    assert question.skeleton["messages"] == [SYSTEM, developer, HELD]
    assert question.context == [HELD, ANSWER, later]
    assert question.earlier == ("Why is the sky blue?",)
    assert (question.text, question.turns) == ("And at dusk?", 2)


def test_of_text_parts_only_the_last_is_the_query() -> None:
    parts: list[Json] = [
        {"type": "text", "text": "Document: the sky is green."},
        {"type": "text", "text": "What colour is it?", "cache_control": {"type": "ephemeral"}},
    ]
    question = CHAT.read(ask({"role": "user", "content": parts, "name": "ada"}))
    assert question.text == "What colour is it?"
    assert question.skeleton["messages"] == [
        {
            "role": "user",
            "content": [parts[0], {**parts[1], "text": PLACEHOLDER}],
            "name": "ada",
        }
    ]


def content(*parts: Json) -> dict[str, Json]:
    return {"role": "user", "content": list(parts)}


TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([content(IMAGE, TEXT)], id="an image"),
        pytest.param([content(TEXT, {"type": "input_audio", "input_audio": {}})], id="audio"),
        pytest.param([content(TEXT, {"type": "file", "file": {"file_id": "f"}})], id="a file"),
        pytest.param([content({"text": "a"})], id="a part without type"),
        pytest.param([content({"type": "text", "text": None})], id="a text part without text"),
        pytest.param([content("a")], id="a bare string as part"),
        pytest.param([content()], id="no parts"),
        pytest.param([{"role": "user"}], id="no content"),
        pytest.param([{"role": "user", "content": 7}], id="content of another type"),
        pytest.param([{"role": "user", "content": ""}], id="an empty text"),
        pytest.param([{"role": "user", "content": " \n\t"}], id="nothing but space"),
        pytest.param([content({"type": "text", "text": " "})], id="a part of nothing but space"),
        pytest.param([USER, {"role": "assistant", "content": "It"}], id="an answer begun"),
        pytest.param([USER, {"role": "assistant", "tool_calls": [CALL]}], id="a pending call"),
        pytest.param(
            [
                USER,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_a", "content": "42"},
            ],
            id="a tool result",
        ),
        pytest.param([SYSTEM], id="instructions only"),
        pytest.param([USER, SYSTEM], id="instructions at the end"),
    ],
)
def test_a_tail_that_is_not_a_users_text_matches_exactly_or_not_at_all(messages: Json) -> None:
    question = CHAT.read(ask(*messages))
    assert question.tier is Tier.EXACT
    assert (question.text, question.skeleton, question.context) == ("", {}, [])


def test_an_image_in_an_earlier_turn_is_context() -> None:
    question = CHAT.read(ask(content(IMAGE, TEXT), ANSWER, FOLLOW_UP))
    assert question.tier is Tier.SEMANTIC
    assert question.context == [content(IMAGE, TEXT), ANSWER]
    assert question.earlier == ()


def test_of_an_earlier_turn_only_the_users_last_text_is_compared_by_meaning() -> None:
    parts = content({"type": "text", "text": "Document: the sky is green."}, TEXT)
    empty, named = content(), {**USER, "name": "ada"}
    question = CHAT.read(ask(parts, empty, ANSWER, named, ANSWER, FOLLOW_UP))
    held = content(parts["content"][0], {**TEXT, "text": PLACEHOLDER})
    assert question.context == [held, empty, ANSWER, {**HELD, "name": "ada"}, ANSWER]
    assert question.earlier == ("What is this?", "Why is the sky blue?")


def test_a_long_earlier_turn_has_to_be_the_same_to_the_letter() -> None:
    most, more = ({"role": "user", "content": "a" * n} for n in (4096, 4097))
    question = CHAT.read(ask(most, ANSWER, more, ANSWER, FOLLOW_UP))
    assert question.context == [HELD, ANSWER, more, ANSWER]
    assert question.earlier == ("a" * 4096,)


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        pytest.param({"modalities": ["text"]}, Tier.SEMANTIC, id="text only"),
        pytest.param({"modalities": ["text", "audio"]}, Tier.EXACT, id="spoken"),
        pytest.param({"modalities": ["image"]}, Tier.EXACT, id="painted"),
        pytest.param({"audio": {"voice": "alloy"}}, Tier.EXACT, id="a voice"),
        pytest.param({"audio": None, "modalities": None}, Tier.SEMANTIC, id="nulls"),
        pytest.param({"n": 3, "temperature": 0}, Tier.EXACT, id="three answers"),
        pytest.param({"response_format": {"type": "json_object"}}, Tier.SEMANTIC, id="JSON mode"),
        pytest.param({"tools": [{"type": "function"}]}, Tier.SEMANTIC, id="functions"),
        pytest.param({"tools": [{"type": "custom"}]}, Tier.SEMANTIC, id="custom tools"),
        pytest.param({"tools": [{"type": "web_search"}]}, Tier.NONE, id="a hosted tool"),
        pytest.param({"tools": [{"type": "mcp"}], "n": 2}, Tier.NONE, id="hosted, and n > 1"),
        pytest.param({"web_search_options": {}}, Tier.NONE, id="web search"),
        pytest.param({"web_search_options": None}, Tier.SEMANTIC, id="no web search"),
        pytest.param({"search_parameters": {"mode": "auto"}}, Tier.NONE, id="xAI's search"),
        pytest.param({"data_sources": [{}]}, Tier.NONE, id="Azure's own data"),
        pytest.param({"plugins": [{"id": "web"}]}, Tier.NONE, id="OpenRouter's plugins"),
    ],
)
def test_what_else_is_asked_for_decides_the_tier(fields: dict[str, Json], tier: Tier) -> None:
    question = CHAT.read(ask(SYSTEM, USER, ANSWER, FOLLOW_UP, **fields))
    assert question.tier is tier
    assert question.turns == 2


# -- streams


@pytest.mark.parametrize(
    ("events", "answer"), CHAT_TRANSCRIPTS.values(), ids=CHAT_TRANSCRIPTS.keys()
)
def test_real_streams_become_their_json_form(events: list[bytes], answer: Json) -> None:
    assert CHAT.assemble(events) == answer


@pytest.mark.parametrize("events", [e for e, _ in CHAT_TRANSCRIPTS.values()], ids=CHAT_TRANSCRIPTS)
def test_a_real_stream_without_its_end_is_no_answer(events: list[bytes]) -> None:
    ends = [i for i, event in enumerate(events) if b'"finish_reason":"' in event or event == DONE]
    assert len(ends) == 2
    for i in ends:
        assert CHAT.assemble(events[:i] + events[i + 1 :]) is None


HEAD = piece({"role": "assistant", "content": "Blue"})
END = chunk(piece({}, "stop"))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="nothing"),
        pytest.param([DONE], id="an end only"),
        pytest.param([chunk(HEAD), END], id="no [DONE]"),
        pytest.param([chunk(HEAD), DONE], id="no finish reason"),
        pytest.param([chunk(HEAD), DONE, END], id="more after [DONE]"),
        pytest.param([chunk(), DONE], id="no choice"),
        pytest.param([chunk(HEAD, piece({}, index=1)), END, DONE], id="one of two unfinished"),
        pytest.param([chunk(piece({"content": "a"}, "stop", 1)), DONE], id="choice 0 is missing"),
        pytest.param([chunk({"delta": {}, "finish_reason": "stop"}), DONE], id="no index"),
        pytest.param([encode({"choices": {"0": HEAD}}), DONE], id="choices are no list"),
        pytest.param([chunk("text"), DONE], id="a choice is no object"),
        pytest.param([chunk(piece("Blue", "stop")), DONE], id="a delta is no object"),
        pytest.param([chunk(HEAD, error={"message": "x"}), END, DONE], id="an error in a chunk"),
        pytest.param([chunk(HEAD), b"data: <html>\n\n", END, DONE], id="garbage"),
        pytest.param([chunk(HEAD), chunk(piece({"role": "user"})), END, DONE], id="two roles"),
        pytest.param([chunk(HEAD), chunk(piece({"content": ["a"]})), END, DONE], id="two types"),
        pytest.param(
            [encode(completion({"content": "Blue"})), DONE], id="a whole answer instead of deltas"
        ),
    ],
)
def test_an_unclean_stream_is_no_answer(events: list[bytes]) -> None:
    assert CHAT.assemble(events) is None


def fragment(**fields: Json) -> bytes:
    return chunk(piece({"tool_calls": [fields]}))


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param(
            [
                fragment(index=0, id="a", function={"name": "f", "arguments": "{}"}),
                fragment(index=0, id="b", function={"name": "f", "arguments": "{}"}),
            ],
            id="two calls under one index",
        ),
        pytest.param(
            [
                fragment(index=0, id="a", function={"name": "f", "arguments": "{}"}),
                fragment(index=0, function={"name": "g", "arguments": ""}),
            ],
            id="a call that changes its function",
        ),
        pytest.param([fragment(id="a", function={"name": "f"})], id="a call without an index"),
        pytest.param([fragment(index=1, id="b", function={})], id="the first call is missing"),
        pytest.param([chunk(piece({"tool_calls": {"index": 0}}))], id="calls are no list"),
    ],
)
def test_tool_calls_that_do_not_add_up_are_no_answer(fragments: list[bytes]) -> None:
    end = chunk(piece({}, "tool_calls"))
    assert CHAT.assemble([chunk(piece({"role": "assistant"})), *fragments, end, DONE]) is None


def test_fragments_of_two_calls_may_come_in_one_chunk() -> None:
    both = [
        {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}},
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
        {"index": 1, "function": {"arguments": "}"}},
        {"index": 0, "function": {"arguments": "}"}},
    ]
    events = [chunk(piece({"role": "assistant", "tool_calls": both}, "tool_calls")), DONE]
    answer = CHAT.assemble(events)
    assert answer is not None
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_two_choices_may_be_interleaved() -> None:
    events = [
        chunk(piece({"role": "assistant", "content": "Bl"}, index=1)),
        chunk(piece({"role": "assistant", "content": "Gr"})),
        chunk(piece({"content": "ue"}, "stop", 1), piece({"content": "ey"}, "stop")),
        DONE,
    ]
    answer = CHAT.assemble(events)
    assert answer is not None
    assert [c["message"]["content"] for c in answer["choices"]] == ["Grey", "Blue"]
    assert [c["index"] for c in answer["choices"]] == [0, 1]


# -- replay


def chunks_of(answer: Json, body: Json) -> list[Json]:
    events = list(CHAT.replay(answer, body))
    assert events[-1] == DONE
    return [orjson.loads(data_of(event)) for event in events[:-1]]


def test_a_replayed_stream_has_the_shape_of_a_real_one() -> None:
    answer = CHAT_TRANSCRIPTS["OpenAI, text"][1]
    chunks = chunks_of(answer, ASKED)
    for each in chunks:
        assert each["object"] == "chat.completion.chunk"
        assert [each[k] for k in ("id", "created", "model")] == ["c-1", 17, "m"]
        assert [each[k] for k in ("system_fingerprint", "service_tier")] == ["fp_1", "default"]
    *texts, usage = chunks
    assert [c["usage"] for c in texts] == [None] * len(texts)
    assert (usage["choices"], usage["usage"]) == ([], answer["usage"])
    pieces = [c["choices"][0] for c in texts]
    assert [p["delta"] for p in pieces] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Blue sky"},
        {},
    ]
    assert [p["finish_reason"] for p in pieces] == [None, None, "stop"]


def test_a_field_unheard_of_is_replayed_once() -> None:
    chunks = chunks_of(completion({"content": "Blue", "x": [1]}, citations=["a"]), {})
    assert [c.get("citations") for c in chunks] == [["a"], None, None]
    assert [c["choices"][0]["delta"].get("x") for c in chunks] == [[1], None, None]


def test_a_long_text_is_cut_after_spaces() -> None:
    text = "Rayleigh scattering favours short wavelengths. " * 20
    chunks = chunks_of(completion({"content": text}), {})
    pieces = [c["choices"][0]["delta"].get("content", "") for c in chunks]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 81
    assert all(p.endswith(" ") for p in pieces if p)
    assert len(chunks) >= 10


def test_a_tool_call_is_named_in_its_first_fragment_only() -> None:
    call: Json = {
        **CALL,
        "function": {"name": "f", "arguments": '{"text": "' + "word " * 40 + '"}'},
    }
    chunks = chunks_of(completion({"content": None, "tool_calls": [CALL, call]}, "tool_calls"), {})
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    fragments = [f for d in deltas if "tool_calls" in d for f in d["tool_calls"]]
    named = [f for f in fragments if "id" in f]
    assert [(f["index"], f["function"]) for f in named] == [
        (0, {"name": "f", "arguments": ""}),
        (1, {"name": "f", "arguments": ""}),
    ]
    assert all("name" not in f["function"] for f in fragments if f not in named)
    written = "".join(f["function"]["arguments"] for f in fragments if f["index"] == 1)
    assert written == call["function"]["arguments"]


def test_each_token_goes_with_its_logprobs() -> None:
    answer = CHAT_TRANSCRIPTS["logprobs"][1]
    pieces = [c["choices"][0] for c in chunks_of(answer, {})]
    with_text = [p for p in pieces if p["delta"].get("content")]
    assert [p["delta"]["content"] for p in with_text] == ["Blue", " sky"]
    assert [[t["token"] for t in p["logprobs"]["content"]] for p in with_text] == [
        ["Blue"],
        [" sky"],
    ]
    assert [p["logprobs"] for p in pieces if p not in with_text] == [None, None]


# -- usage


@pytest.mark.parametrize(
    ("body", "options"),
    [
        pytest.param({}, {"include_usage": True}, id="no options"),
        pytest.param({"stream_options": None}, {"include_usage": True}, id="options are null"),
        pytest.param(
            {"stream_options": {"include_obfuscation": False, "include_usage": False}},
            {"include_obfuscation": False, "include_usage": True},
            id="other options stay",
        ),
    ],
)
def test_usage_is_asked_for_in_a_copy(body: dict[str, Json], options: Json) -> None:
    body = {"model": "m", "stream": True, **body}
    before = orjson.dumps(body)
    asked = CHAT.ask_for_usage(body)
    assert asked == {**body, "stream_options": options}
    assert orjson.dumps(body) == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"stream": False}, id="no stream"),
        pytest.param({}, id="stream is absent"),
        pytest.param({"stream": None}, id="stream is null"),
        pytest.param(ASKED, id="asked for already"),
        pytest.param({"stream": True, "stream_options": "all"}, id="options that are no object"),
    ],
)
def test_a_body_that_needs_no_asking_is_the_same_object(body: dict[str, Any]) -> None:
    assert CHAT.ask_for_usage(body) is body


PLAIN = {"stream": True}


def test_usage_that_nobody_asked_for_is_hidden() -> None:
    trimmed = [CHAT.trim(event, PLAIN) for event in OPENAI_TEXT]
    assert trimmed[-2:] == [b"", DONE]
    for before, after in zip(OPENAI_TEXT[:-2], trimmed[:-2], strict=True):
        wanted = {k: v for k, v in orjson.loads(data_of(before)).items() if k != "usage"}
        assert orjson.loads(data_of(after)) == wanted


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(chunk(HEAD), id="no usage in it"),
        pytest.param(chunk(piece({"content": 'say "usage"'})), id="the word in a text"),
        pytest.param(chunk(prompt_filter_results=[]), id="no choices, but no usage"),
        pytest.param(chunk(piece({}, logprobs={"usage": 1})), id="usage further inside"),
        pytest.param(b': "usage"\n\n', id="a comment"),
        pytest.param(b'data: {"usage": \n\n', id="garbage"),
        pytest.param(b'data: ["usage"]\n\n', id="no object"),
        pytest.param(DONE, id="the end"),
    ],
)
def test_events_without_usage_pass_as_they_are(event: bytes) -> None:
    assert CHAT.trim(event, PLAIN) is event


def test_usage_beside_a_choice_is_cut_out_of_the_event() -> None:
    event = b"id: 7\ndata: " + data_of(chunk(HEAD, usage={"total_tokens": 3})) + b"\n\n"
    assert CHAT.trim(event, PLAIN) == b"id: 7\n" + chunk(HEAD)
    assert CHAT.trim(event, ASKED) is event


def test_an_event_too_deep_to_write_again_passes_as_it_is() -> None:
    event = b'data: {"usage":null,"x":' + b"[" * 300 + b"]" * 300 + b"}\n\n"
    assert CHAT.trim(event, PLAIN) is event


# -- what may be stored


def choice(message: Json, finish: Json = "stop", index: Json = 0) -> Json:
    return {"index": index, "message": message, "finish_reason": finish}


SAID: Json = {"role": "assistant", "content": "Blue"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
FUNCTION = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}


@pytest.mark.parametrize(
    ("answer", "reason", "with_tools"),
    [
        pytest.param({"choices": [choice(SAID)]}, None, None, id="a text"),
        pytest.param(
            {"choices": [choice({"content": None, "refusal": "No."})]}, None, None, id="a refusal"
        ),
        pytest.param(
            {"choices": [choice({"content": None, "audio": {"id": "a"}})]}, None, None, id="audio"
        ),
        pytest.param(
            {"choices": [choice({"content": [{"type": "text", "text": "a"}]})]},
            None,
            None,
            id="content in parts",
        ),
        pytest.param({"choices": [choice(CALLED, "tool_calls")]}, "tool_calls", None, id="calls"),
        pytest.param({"choices": [choice(CALLED)]}, "tool_calls", None, id="calls, then stop"),
        pytest.param(
            {"choices": [choice(FUNCTION, "function_call")]}, "tool_calls", None, id="a function"
        ),
        pytest.param({"choices": [choice(FUNCTION)]}, "tool_calls", None, id="a forced function"),
        pytest.param(
            {"choices": [choice({"content": None}, "tool_calls")]},
            "tool_calls",
            "empty",
            id="calls announced but missing",
        ),
        pytest.param({"choices": [choice(SAID, "length")]}, "length", "length", id="cut off"),
        pytest.param(
            {"choices": [choice(SAID, "content_filter")]},
            "content_filter",
            "content_filter",
            id="filtered",
        ),
        pytest.param({"choices": [choice(SAID, None)]}, "unfinished", "unfinished", id="no finish"),
        pytest.param(
            {"choices": [choice(SAID, "abort")]}, "unfinished", "unfinished", id="aborted"
        ),
        pytest.param({"choices": [choice(SAID, [])]}, "unfinished", "unfinished", id="odd finish"),
        pytest.param(
            {"choices": [choice(SAID), choice(SAID, "length", 1)]},
            "length",
            "length",
            id="the second of two cut off",
        ),
        pytest.param({"choices": []}, "empty", "empty", id="no choice"),
        pytest.param({"choices": [choice({"content": ""})]}, "empty", "empty", id="an empty text"),
        pytest.param({"choices": [choice({"content": " \n"})]}, "empty", "empty", id="only space"),
        pytest.param(
            {"choices": [choice({"content": "", "reasoning_content": "Hm."})]},
            "empty",
            "empty",
            id="a thought and no answer",
        ),
        pytest.param({}, "malformed", "malformed", id="no choices"),
        pytest.param({"choices": {}}, "malformed", "malformed", id="choices are no list"),
        pytest.param({"choices": ["a"]}, "malformed", "malformed", id="a choice is no object"),
        pytest.param({"choices": [choice(None)]}, "malformed", "malformed", id="no message"),
        pytest.param(
            {"choices": [choice({"content": 7})]}, "malformed", "malformed", id="a number as text"
        ),
        pytest.param(
            {"choices": [choice({"content": "a", "tool_calls": "b"})]},
            "malformed",
            "malformed",
            id="calls are no list",
        ),
        pytest.param(
            {"choices": [choice({"content": "a", "tool_calls": ["b"]})]},
            "malformed",
            "malformed",
            id="a call is no object",
        ),
        pytest.param(
            {"choices": [choice(SAID, "stop", 1)]}, "malformed", "malformed", id="an odd index"
        ),
        pytest.param(
            {"choices": [choice(SAID, "stop", False)]}, "malformed", "malformed", id="no index"
        ),
    ],
)
def test_only_whole_answers_are_stored(
    answer: dict[str, Json], reason: str | None, with_tools: str | None
) -> None:
    assert CHAT.refuse(answer, store_tool_calls=False) == reason
    assert CHAT.refuse(answer, store_tool_calls=True) == with_tools
