"""Legacy completions: a text prompt is the query, everything else matches exactly."""

from __future__ import annotations

import orjson
import pytest

from proxy.wire.base import PLACEHOLDER, Json, Tier
from proxy.wire.completions import CompletionsWire
from proxy.wire.sse import DONE, data_of, encode
from tests.proxy.wire.strategies import ASKED

COMPLETIONS = CompletionsWire()
USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


def answer(*choices: Json, **more: Json) -> dict[str, Json]:
    whole = {"id": "cmpl-1", "object": "text_completion", "created": 17, "model": "m"}
    return {**whole, "choices": list(choices), **more}


def choice(text: Json, finish: Json = "stop", index: Json = 0, **more: Json) -> dict[str, Json]:
    return {"index": index, "text": text, "finish_reason": finish, **more}


def test_the_prompt_is_the_query() -> None:
    body = {"model": "m", "prompt": "Once upon a time", "max_tokens": 5, "stream": True}
    question = COMPLETIONS.read(body)
    assert question.tier is Tier.SEMANTIC
    assert question.text == "Once upon a time"
    assert question.skeleton == {"model": "m", "prompt": PLACEHOLDER, "max_tokens": 5}
    assert (question.context, question.turns) == ([], 1)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"prompt": ["one prompt"]}, id="a list of one prompt"),
        pytest.param({"prompt": ["one", "two"]}, id="two prompts"),
        pytest.param({"prompt": [1, 2, 3]}, id="tokens"),
        pytest.param({"prompt": [[1], [2]]}, id="two prompts of tokens"),
        pytest.param({"prompt": [None]}, id="what only the upstream can judge"),
        pytest.param({"prompt": None, "prompt_embeds": "AAAA"}, id="a prompt as vectors"),
        pytest.param({"prompt": ""}, id="an empty prompt"),
        pytest.param({"prompt": "\n "}, id="nothing but space"),
        pytest.param({"suffix": "the end."}, id="a text to insert into"),
        pytest.param({"logprobs": 0}, id="logprobs of the chosen tokens"),
        pytest.param({"logprobs": 5}, id="five logprobs"),
        pytest.param({"logprobs": True}, id="logprobs as a boolean"),
        pytest.param({"echo": True}, id="an echo"),
        pytest.param({"n": 2}, id="two answers"),
        pytest.param({"best_of": 2}, id="the best of two"),
    ],
)
def test_other_prompts_match_exactly_or_not_at_all(fields: dict[str, Json]) -> None:
    question = COMPLETIONS.read({"model": "m", "prompt": "Once", **fields})
    assert question.tier is Tier.EXACT
    assert (question.text, question.skeleton, question.context) == ("", {}, [])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"suffix": None}, id="no suffix"),
        pytest.param({"suffix": ""}, id="an empty suffix"),
        pytest.param({"logprobs": None}, id="no logprobs"),
        pytest.param({"logprobs": False}, id="logprobs off"),
        pytest.param({"n": 1, "best_of": 1, "echo": False}, id="defaults spelled out"),
    ],
)
def test_defaults_spelled_out_stay_semantic(fields: dict[str, Json]) -> None:
    assert COMPLETIONS.read({"model": "m", "prompt": "Once", **fields}).tier is Tier.SEMANTIC


STREAM = [
    encode(answer(choice("Blue", None, logprobs=None))),
    encode(answer(choice(" sky", None, logprobs=None))),
    encode(answer(choice("", logprobs=None))),
    encode(answer(usage=USAGE)),
    DONE,
]


def test_a_real_stream_becomes_its_json_form() -> None:
    assert COMPLETIONS.assemble(STREAM) == answer(choice("Blue sky", logprobs=None), usage=USAGE)


def test_logprobs_of_the_pieces_are_joined() -> None:
    def scored(token: str, offset: int) -> Json:
        return {"tokens": [token], "token_logprobs": [-0.1], "text_offset": [offset]}

    events = [
        encode(answer(choice("Blue", None, logprobs=scored("Blue", 0)))),
        encode(answer(choice(" sky", "stop", logprobs=scored(" sky", 4)))),
        DONE,
    ]
    assembled = COMPLETIONS.assemble(events)
    assert assembled is not None
    assert assembled["choices"][0]["logprobs"] == {
        "tokens": ["Blue", " sky"],
        "token_logprobs": [-0.1, -0.1],
        "text_offset": [0, 4],
    }


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(STREAM[:-1], id="no [DONE]"),
        pytest.param([*STREAM[:2], DONE], id="no finish reason"),
        pytest.param([encode(answer(choice(None))), DONE], id="no text"),
        pytest.param([encode(answer(choice(["Blue"]))), DONE], id="a text that is a list"),
        pytest.param([STREAM[0], encode(answer(choice({}))), DONE], id="a text that is an object"),
        pytest.param([STREAM[0], encode({"error": {"message": "x"}}), *STREAM[1:]], id="an error"),
    ],
)
def test_an_unclean_stream_is_no_answer(events: list[bytes]) -> None:
    assert COMPLETIONS.assemble(events) is None


def test_a_replayed_stream_has_the_shape_of_a_real_one() -> None:
    text = "The sky scatters short waves. " * 6
    events = list(COMPLETIONS.replay(answer(choice(text), usage=USAGE), ASKED))
    assert events[-1] == DONE
    chunks = [orjson.loads(data_of(event)) for event in events[:-1]]
    assert {c["object"] for c in chunks} == {"text_completion"}
    assert [c["usage"] for c in chunks] == [None] * (len(chunks) - 1) + [USAGE]
    pieces = [c["choices"][0] for c in chunks[:-1]]
    assert "".join(p["text"] for p in pieces) == text
    assert all(p["text"].endswith(" ") for p in pieces[:-1])
    assert [p["finish_reason"] for p in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    assert chunks[-1]["choices"] == []


def test_usage_is_asked_for_and_hidden_as_in_chat() -> None:
    body = {"model": "m", "prompt": "Once", "stream": True}
    asked = COMPLETIONS.ask_for_usage(body)
    assert asked == {**body, "stream_options": {"include_usage": True}}
    assert [COMPLETIONS.trim(event, body) for event in STREAM] == [*STREAM[:3], b"", DONE]
    assert [COMPLETIONS.trim(event, asked) for event in STREAM] == STREAM


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(answer(choice("Blue")), None, id="a text"),
        pytest.param(answer(choice("a"), choice("b", index=1)), None, id="two texts"),
        pytest.param(answer(choice("Blue", "length")), "length", id="cut off"),
        pytest.param(answer(choice("Blue", "content_filter")), "content_filter", id="filtered"),
        pytest.param(answer(choice("Blue", None)), "unfinished", id="no finish reason"),
        pytest.param(answer(choice("Blue", "load")), "unfinished", id="another finish reason"),
        pytest.param(answer(choice("")), "empty", id="an empty text"),
        pytest.param(answer(choice(" \n")), "empty", id="nothing but space"),
        pytest.param(answer(), "empty", id="no choice"),
        pytest.param(answer(choice("a"), choice("", index=1)), "empty", id="one of two empty"),
        pytest.param(answer(choice(None)), "malformed", id="no text"),
        pytest.param(answer(choice("Blue", index=None)), "malformed", id="no index"),
        pytest.param({"object": "text_completion"}, "malformed", id="no choices"),
    ],
)
@pytest.mark.parametrize("store_tool_calls", [True, False])
def test_only_whole_answers_are_stored(
    given: dict[str, Json], reason: str | None, store_tool_calls: bool
) -> None:
    assert COMPLETIONS.refuse(given, store_tool_calls=store_tool_calls) == reason
