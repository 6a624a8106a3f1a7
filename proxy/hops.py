"""The hops of a request as spans, for whoever traces it; nothing at all for whoever does not.

Whether a request is traced is known by its context, which tasks inherit: the call of a flight is
part of the trace of the request that leads it. Without a trace a hop is one look at a context
variable. This knows nothing of OpenTelemetry, which is imported only where traces are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol, Self

from proxy.answer_text import tokens_told

Value = str | bool | int | float
Headers = list[tuple[str, str]]


class Hop(Protocol):
    """One part of a request, from entering to leaving it."""

    def note(self, name: str, value: Value) -> None:
        """Add an attribute."""
        ...

    def note_answer(self, answer: Mapping[str, Any]) -> None:
        """Add the model and the tokens that an answer in JSON tells."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Try(Protocol):
    """A try upstream, begun and not ended."""

    def headers(self, sent: Headers) -> Headers:
        """Return a request's headers, its `traceparent` made to lead here."""
        ...

    def ended(self, *, status: int, outcome: str) -> None:
        """End it; status 0: no answer."""
        ...


class Trace(Protocol):
    """What the spans of a traced request go to."""

    def hop(self, name: str) -> Hop:
        """Begin a hop when it is entered."""
        ...

    def upstream(self, name: str, path: str, model: str | None) -> Try:
        """Begin a try at an upstream of this name; `path` is below its base URL."""
        ...


class _Nothing:
    """The hop of a request that nobody traces. One is enough for all: it has no state."""

    __slots__ = ()

    def note(self, name: str, value: Value) -> None:
        return

    def note_answer(self, answer: Mapping[str, Any]) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return


NOTHING = _Nothing()
traced: ContextVar[Trace | None] = ContextVar("nearhit-trace", default=None)


def hop(name: str) -> Hop:
    """Return a hop to enter: encode, lookup, near-hit, admit."""
    trace = traced.get()
    return NOTHING if trace is None else trace.hop(name)


def begin_try(name: str, path: str, model: str | None) -> Try | None:
    """Begin a try at an upstream; None if nobody traces the request."""
    trace = traced.get()
    return None if trace is None else trace.upstream(name, path, model)


def usage_of(answer: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the input and output tokens that an answer, or an event of one, tells of itself."""
    for inner in (answer, answer.get("response"), answer.get("message")):
        usage = inner.get("usage") if isinstance(inner, Mapping) else None
        if isinstance(usage, Mapping):
            return tokens_told(usage)
    return None, None
