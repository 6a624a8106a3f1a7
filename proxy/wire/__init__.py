"""What we read and write of each wire format, one module a wire."""

from __future__ import annotations

from proxy.wire.base import Wire
from proxy.wire.chat import ChatWire
from proxy.wire.completions import CompletionsWire
from proxy.wire.embeddings import EmbeddingsWire
from proxy.wire.messages import MessagesWire
from proxy.wire.responses import ResponsesWire

_ALL: tuple[Wire, ...] = (
    ChatWire(),
    CompletionsWire(),
    ResponsesWire(),
    MessagesWire(),
    EmbeddingsWire(),
)
WIRES: dict[str, Wire] = {wire.path: wire for wire in _ALL}  # the cacheable routes by path
