"""Lines of the log: their two forms, and what is never in one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from proxy.logs import JsonLines, TextLines, asking, blotted, configure
from proxy.observing_settings import LoggingSettings
from store.errors import StoreUnavailable


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("nearhit.x", logging.WARNING, "x.py", 1, message, args, info)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def test_a_json_line_says_when_how_bad_who_what_and_for_which_request() -> None:
    token = asking.set("req-1")
    line = JsonLines().format(record("%d entries\nleft out \ud800", 3))
    asking.reset(token)
    told = json.loads(line)
    assert "\n" not in line
    assert told.pop("ts").endswith("+00:00")
    assert told == {
        "level": "warning",
        "logger": "nearhit.x",
        "message": "3 entries\nleft out \ud800",
        "request_id": "req-1",
    }


def test_a_text_line_is_one_line_and_names_the_request_once() -> None:
    token = asking.set("req-1")
    once = TextLines().format(record("lookup failed\nWARNING forged"))
    named = TextLines().format(record("request req-1 failed"))
    asking.reset(token)
    assert once.endswith("WARNING nearhit.x [req-1] lookup failed\\nWARNING forged")
    assert named.count("req-1") == 1


def test_a_text_line_cannot_steer_the_terminal() -> None:
    line = TextLines().format(
        record("DELETE %s failed", "/admin/\x1b[2K\x9b1A\u2028\r\t\N{SNOWMAN}")
    )
    assert line.endswith("DELETE /admin/\\x1b[2K\\x9b1A\\u2028\\r\t\N{SNOWMAN} failed")


@pytest.mark.parametrize("form", [TextLines, JsonLines])
def test_an_exception_is_told_with_its_causes_and_only_our_own_words(
    form: type[TextLines] | type[JsonLines],
) -> None:
    inner = raised(ValueError("the prompt said zebra"))
    outer = raised(StoreUnavailable("the disk is full"), inner)
    quiet = form().format(record("not stored", error=outer))
    assert "zebra" not in quiet
    assert "builtins.ValueError" in quiet and "in raised" in quiet
    assert "store.errors.StoreUnavailable: the disk is full" in quiet
    assert "zebra" in form(True).format(record("not stored", error=outer))
    if form is JsonLines:
        assert "StoreUnavailable" in json.loads(quiet)["exception"]


def test_what_asyncio_says_of_a_lost_task_is_cut_to_its_first_line() -> None:
    lost = record("Task exception was never retrieved\nfuture: <Task ValueError('zebra')>")
    lost.name = "asyncio"
    assert "zebra" not in TextLines().format(lost)
    assert "never retrieved" in TextLines().format(lost)


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:zebra@host:6379/0 does not answer",
        "Authorization: Bearer zebra1234",
        "{'authorization': 'zebra1234'}",
        "api_key=zebra1234",
        "x-api-key: zebra1234",
        "sent Bearer zebra1234 there",
        "the key sk-zebra1234 is unknown",
        "password: zebra1234",
    ],
)
def test_secrets_that_reach_a_line_are_blotted_out(text: str) -> None:
    assert "zebra" not in blotted(text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:9000/v1 cannot be reached", "a task failed", "3 tokens at 10:30"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert blotted(text) == text


@pytest.mark.parametrize("form", ["text", "json"])
def test_levels_hold_for_all_but_the_access_log(
    form: str, logging_as_it_was: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings(format=form, level="error"))
    logging.getLogger("nearhit.x").warning("zebra")
    logging.getLogger("uvicorn.error").error("uvicorn's")
    logging.getLogger("nearhit.access").info("asked")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "uvicorn's" in told[0] and "asked" in told[1]
