"""What an answer echoes of who asked: taken out before it is stored, put in for who gets it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.echo import own, with_own, without_asker

ANN: dict[str, Any] = {
    "metadata": {"ticket": "A-17"},
    "user": "ann",
    "store": False,
    "service_tier": "flex",
}
NOBODY: dict[str, Any] = {"metadata": {}, "user": None, "store": True, "service_tier": "default"}
FIELDS = ("metadata", "user", "store")


def test_an_answer_is_that_of_somebody_who_said_nothing() -> None:
    assert without_asker({"id": "r", **ANN}, ANN) == {"id": "r", **NOBODY}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"id": "r", "output": []}, id="it echoes nothing"),
        pytest.param({"id": "r", **NOBODY}, id="it says so of anybody"),
        pytest.param({"metadata": None, "user": ""}, id="it says so in other words"),
        pytest.param({"store": None, "service_tier": "priority"}, id="not what was asked for"),
    ],
)
def test_an_answer_that_tells_nothing_of_who_asked_stays_the_same(answer: dict[str, Any]) -> None:
    assert without_asker(answer, ANN) is answer


def test_what_was_not_asked_for_is_the_upstreams_own() -> None:
    answer = {"store": False, "service_tier": "priority"}
    assert without_asker(answer, {"input": "Why?"}) is answer


def test_what_an_upstream_makes_of_a_user_goes_and_what_counts_in_the_key_stays() -> None:
    answer = {"safety_identifier": "ann", "prompt_cache_key": "k"}
    blank = {"safety_identifier": None, "prompt_cache_key": None}
    assert without_asker(answer, {"user": "ann", "prompt_cache_key": None}) == blank
    assert without_asker(answer, {"safety_identifier": "ann", "prompt_cache_key": "k"}) is answer


def test_whoever_gets_an_answer_finds_their_own_in_it() -> None:
    bob = {"input": "Why?", "metadata": {"ticket": "B-42"}, "user": None, "store": False}
    said = own(bob, FIELDS)
    assert said == {"metadata": {"ticket": "B-42"}, "store": False}
    assert with_own({"id": "r", **NOBODY}, said) == {"id": "r", **NOBODY, **said}
    assert with_own({"id": "r"}, said) == {"id": "r"}


def test_what_could_not_be_written_is_nobodys() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    assert own({"metadata": deep, "user": "ann"}, FIELDS) == {}
