"""Every exception of ours has one way of being told, and it is always OpenAI's envelope."""

from __future__ import annotations

import inspect

import orjson
import pytest

from proxy import auth, identity, paths, upstream_errors
from proxy.errors import ERROR_KINDS, ApiError, as_api_error, error_event
from proxy.upstream_errors import UpstreamBroken, UpstreamError
from proxy.wire import base
from store.errors import StoreUnavailable, VersionTaken
from store.flight import LeaderGone

ABSTRACT = {UpstreamError}


def test_every_exception_that_a_request_may_raise_is_mapped() -> None:
    raised = {
        kind
        for module in (auth, identity, paths, upstream_errors, base)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    }
    assert raised - ABSTRACT | {LeaderGone, StoreUnavailable, VersionTaken} == ERROR_KINDS.keys()


@pytest.mark.parametrize("kind", ERROR_KINDS, ids=lambda kind: kind.__name__)
def test_an_envelope_has_all_four_keys_and_the_status_of_its_kind(kind: type[Exception]) -> None:
    told = as_api_error(kind("what happened"))
    assert told.status == ERROR_KINDS[kind].status
    error = orjson.loads(told.body())["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    hidden = kind is StoreUnavailable  # its words name paths of this machine
    assert (error["message"] == "what happened") is not hidden


def test_an_unexpected_exception_tells_nothing_of_the_inside() -> None:
    told = as_api_error(RuntimeError("secret: /etc/passwd"))
    assert told.status == 500
    assert b"secret" not in told.body()


def test_an_api_error_passes_as_it_is() -> None:
    error = ApiError(418, "a teapot", param="pot", code="tea")
    assert as_api_error(error) is error
    assert orjson.loads(error.body())["error"] == {
        "message": "a teapot",
        "type": "invalid_request_error",
        "param": "pot",
        "code": "tea",
    }


def test_what_no_encoding_has_room_for_is_told_as_escapes() -> None:
    body = ApiError(400, "\ud800é: unknown key", param="x-\ud83d").body()
    error = orjson.loads(body)["error"]
    assert (error["message"], error["param"]) == ("\\ud800é: unknown key", "x-\\ud83d")
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        assert rb"\\ud800" in error_event(path, ApiError(400, "\ud800"))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v1/chat/completions", False),
        ("/v1/completions", False),
        ("/v1/responses", True),
        ("/v1/messages", True),
    ],
)
def test_a_broken_stream_ends_in_an_event_of_its_wire(path: str, names: bool) -> None:
    event = error_event(path, UpstreamBroken("upstream u: the answer broke off"))
    assert event.startswith(b"\n\n") and event.endswith(b"\n\n")
    lines = event.strip().split(b"\n")
    assert (lines[0] == b"event: error") is names
    assert b"broke off" in lines[-1]
