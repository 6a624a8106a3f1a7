"""Embeddings: only the very same request is answered again."""

from __future__ import annotations

import pytest

from proxy.wire.base import InvalidRequest, Json, Tier
from proxy.wire.embeddings import EmbeddingsWire

EMBEDDINGS = EmbeddingsWire()


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("a text", id="a text"),
        pytest.param("", id="an empty text"),
        pytest.param(["a", "b"], id="two texts"),
        pytest.param([1, 2, 3], id="tokens"),
        pytest.param([[1], [2]], id="two lists of tokens"),
    ],
)
def test_every_input_matches_exactly(asked: Json) -> None:
    question = EMBEDDINGS.read({"model": "m", "input": asked, "dimensions": 64})
    assert question.tier is Tier.EXACT
    assert (question.text, question.skeleton, question.context) == ("", {}, [])


def test_messages_may_stand_in_for_the_input() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    assert EMBEDDINGS.read(asked).tier is Tier.EXACT
    with pytest.raises(InvalidRequest, match="input"):
        EMBEDDINGS.read({**asked, "input": 7})


def test_there_are_no_streams() -> None:
    body: dict[str, Json] = {"model": "m", "input": "a", "stream": True}
    assert not EMBEDDINGS.streams
    assert EMBEDDINGS.ask_for_usage(body) is body
    event = b'data: {"usage":null}\n\n'
    assert EMBEDDINGS.trim(event, body) is event
    assert EMBEDDINGS.assemble([event, b"data: [DONE]\n\n"]) is None
    assert list(EMBEDDINGS.replay({"data": []}, body)) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param([{"embedding": [0.1, 0.2]}], None, id="a vector"),
        pytest.param([{"embedding": "AAAA"}], None, id="a vector in base64"),
        pytest.param([{"embedding": [0.1]}, {"embedding": [0.2]}], None, id="two vectors"),
        pytest.param([], "empty", id="nothing"),
        pytest.param([{"embedding": []}], "empty", id="a vector without numbers"),
        pytest.param([{"embedding": [0.1]}, {"embedding": ""}], "empty", id="one of two empty"),
        pytest.param([{"embedding": None}], "malformed", id="a null vector"),
        pytest.param([{}], "malformed", id="no vector"),
        pytest.param(["AAAA"], "malformed", id="a bare vector"),
        pytest.param({"0": []}, "malformed", id="no list"),
        pytest.param(None, "malformed", id="no data"),
    ],
)
def test_only_whole_answers_are_stored(data: Json, reason: str | None) -> None:
    answer = {"object": "list", "data": data, "model": "m"}
    assert EMBEDDINGS.refuse(answer, store_tool_calls=False) == reason
