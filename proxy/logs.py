"""The log: lines for people or JSON, with the request's id, and without what users said.

What an exception of somebody else's says may hold anything, a prompt too; so its type and where it
was raised are written, and its words at level `debug` only. Keys and passwords that reach a line in
spite of everything are blotted out.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from proxy.observing_settings import LoggingSettings

ACCESS = "nearhit.access"
_OURS = frozenset({"proxy", "store", "embed", "icl", "federated"})
_LONGEST_CHAIN = 8  # exceptions that led to one another
_SECRETS = (
    (re.compile(r"://[^/\s@'\"]+@"), "://***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"), r"\1 ***"),
    (
        re.compile(r"(?i)((?:api[-_]?key|authorization|password|secret)['\"]?\s*[:=]\s*)\S+"),
        r"\1***",
    ),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{4,}"), "sk-***"),
)

# What ends a line, or steers the terminal that it is read on: a path may hold either.
_CONTROL = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u2028\\u2029]")

asking: ContextVar[str] = ContextVar("nearhit-request-id", default="")


def configure(settings: LoggingSettings) -> None:
    """Write what everything here logs to stderr; whoever logged elsewhere before does no more."""
    handler = logging.StreamHandler(sys.stderr)
    words = settings.level == "debug"
    handler.setFormatter(JsonLines(words) if settings.format == "json" else TextLines(words))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    # Lines about single requests are wanted or not, however quiet the rest is.
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def in_json() -> bool:
    """Whether the log is JSON."""
    return any(isinstance(each.formatter, JsonLines) for each in logging.getLogger().handlers)


class _Lines(logging.Formatter):
    """What both forms have in common."""

    def __init__(self, words: bool = False) -> None:
        """`words`: exceptions of others may say what they have to say."""
        super().__init__()
        self._words = words

    def told(self, record: logging.LogRecord) -> str:
        """Return a record's message without secrets."""
        message = record.getMessage()
        if record.name == "asyncio" and not self._words:
            message = message.partition("\n")[0]  # what follows shows exceptions with their words
        return blotted(message)

    def raised(self, record: logging.LogRecord) -> str:
        """Return how a record's exception came about; "" if it has none."""
        if not record.exc_info or record.exc_info[1] is None:
            return ""
        return blotted("".join(_chain(record.exc_info[1], self._words)).rstrip("\n"))


class TextLines(_Lines):
    """A line for people; an exception follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        message = _CONTROL.sub(_spelt, self.told(record))
        id = _id_of(record)
        asked = f" [{id}]" if id and id not in message else ""
        line = f"{at} {record.levelname} {record.name}{asked} {message}"
        exception = self.raised(record)
        return f"{line}\n{exception}" if exception else line


class JsonLines(_Lines):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.told(record),
        }
        if id := _id_of(record):
            told["request_id"] = id
        told |= getattr(record, "fields", {})
        if exception := self.raised(record):
            told["exception"] = exception
        return json.dumps(told, default=str)


def blotted(text: str) -> str:
    """Return a text without passwords in URLs, credentials and keys."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _spelt(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _id_of(record: logging.LogRecord) -> str:
    id: str = getattr(record, "request_id", "") or asking.get()
    return id


def _chain(error: BaseException, words: bool) -> Iterator[str]:
    chain = [error]
    while len(chain) < _LONGEST_CHAIN:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or before in chain:
            break
        chain.append(before)
    for number, each in enumerate(reversed(chain)):
        if number:
            yield "and so:\n"
        yield from traceback.format_tb(each.__traceback__)
        kind = type(each)
        harmless = kind.__module__.partition(".")[0] in _OURS or isinstance(each, OSError)
        said = f": {each}" if (words or harmless) and str(each) else ""
        yield f"{kind.__module__}.{kind.__qualname__}{said}\n"
