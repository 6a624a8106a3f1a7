"""/v1/embeddings. Similar texts have different vectors, so only the same request is a hit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.wire.answer import is_error
from proxy.wire.base import Json, Question, Tier
from proxy.wire.question import check_head, check_text_or_list, unasked


class EmbeddingsWire:
    """Embeddings: never streamed, never compared by meaning."""

    path = "/v1/embeddings"
    streams = False
    echoes: tuple[str, ...] = ()

    def read(self, body: dict[str, Json]) -> Question:
        """Check a request body; raise InvalidRequest naming the field at fault."""
        check_head(body)
        if body.get("input") is not None or body.get("messages") is None:  # as vLLM takes images
            check_text_or_list(body, "input")
        return unasked(Tier.EXACT, 1)

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the same body."""
        return body

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return the same event."""
        return event

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Return None: this route has no streams."""
        return None

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield nothing: this route has no streams."""
        return iter(())

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say why this answer may never be stored; None if it may."""
        if not isinstance(answer, dict):
            return "malformed"
        if is_error(answer):
            return "error"
        data = answer.get("data")
        if not isinstance(data, list):
            return "malformed"
        for embedding in data:
            vector = embedding.get("embedding") if isinstance(embedding, dict) else None
            if not isinstance(vector, list | str):
                return "malformed"
            if not vector:
                return "empty"
        return None if data else "empty"
