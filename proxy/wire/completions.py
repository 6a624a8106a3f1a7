"""/v1/completions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.wire.answer import pieces
from proxy.wire.base import Fields, Json, Question, Tier
from proxy.wire.chunks import (
    assemble_chunks,
    refuse_choices,
    refuse_finish,
    replay_chunks,
    with_usage,
    without_usage,
)
from proxy.wire.question import (
    asks_for_logprobs,
    check_head,
    check_text_or_list,
    is_alone,
    plain_question,
    unasked,
)
from proxy.wire.sse import BrokenStream

_NAME = "text_completion"  # the object of the JSON form and of its chunks


class CompletionsWire:
    """Legacy completions: a single text prompt is the query."""

    path = "/v1/completions"
    streams = True
    echoes: tuple[str, ...] = ()

    def read(self, body: dict[str, Json]) -> Question:
        """Split a request body; raise InvalidRequest naming the field at fault."""
        check_head(body)
        if body.get("prompt") is None and body.get("prompt_embeds") is not None:  # as vLLM has it
            return unasked(Tier.EXACT, 1)
        prompt = check_text_or_list(body, "prompt")
        scored = asks_for_logprobs(body, "logprobs")
        # Text to be put between two others depends on every letter of both.
        inserts = bool(body.get("suffix"))
        if not isinstance(prompt, str) or scored or inserts or not is_alone(body):
            return unasked(Tier.EXACT, 1)
        return plain_question(body, "prompt", prompt)

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the body with stream_options.include_usage on if it streams."""
        return with_usage(body)

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return the event without usage that the client did not ask for; b"" hides it."""
        return without_usage(event, body)

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Return the text_completion of a stream; None unless it ended cleanly."""
        return assemble_chunks(events, _NAME, _finish)

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield a stored text_completion as chunks and [DONE]."""
        return replay_chunks(answer, body, _NAME, _cut)

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say why this answer may never be stored; None if it may."""
        return refuse_choices(answer, _refuse)


def _finish(choice: Fields) -> None:
    if not isinstance(choice.get("text"), str):
        raise BrokenStream("a choice without text")


def _cut(choice: Fields) -> Iterator[Fields]:
    bare: Fields = {"index": choice["index"], "finish_reason": None}
    if "logprobs" in choice:
        bare["logprobs"] = None
    for piece in pieces(choice["text"]):
        yield {**bare, "text": piece}
    yield {**choice, "text": ""}


def _refuse(choice: Fields) -> str | None:
    if not isinstance(choice.get("text"), str):
        return "malformed"
    reason = refuse_finish(choice.get("finish_reason"), False, store_tool_calls=False)
    if reason is not None:
        return reason
    return None if choice["text"].strip() else "empty"
