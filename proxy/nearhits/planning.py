"""Whether a near-hit may go to a small model, and to which: rules over values. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from icl.tokens import estimate
from proxy.call import Call
from proxy.model_settings import Offload as Pairing
from proxy.wire.base import Json
from store.policy import Offload

CHAT = "/v1/chat/completions"
_ANSWER = 512  # tokens that are left for an answer whose length the client does not limit
_TURN = 8  # tokens that a message costs besides its text


def pairing_for(model: str, pairings: Sequence[Pairing]) -> Pairing | None:
    """Return the first pairing whose pattern names this model; a small one has none."""
    for pairing in pairings:
        if model == pairing.small:
            return None
        if fnmatch.fnmatchcase(model, pairing.model):
            return pairing
    return None


def may_offload(call: Call) -> bool:
    """Whether this call's route, policy and wishes allow a small model's answer at all."""
    wishes = call.directives
    return (
        call.wire.path == CHAT
        and call.policy.offload is not Offload.OFF
        and not (wishes.no_cache or wishes.only_if_cached)
        and call.request.headers.get(b"x-nearhit-offload", b"").strip().lower() != b"never"
    )


def room_for_examples(body: dict[str, Json], window: int, most: int) -> int:
    """Return the tokens that examples may take of the small model's window, at most `most`."""
    asked = sum(estimate(text) + _TURN for text in _texts(body.get("messages")))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    answer = limit if isinstance(limit, int) and limit > 0 else _ANSWER
    return max(0, min(most, window - asked - answer))


def load_of(in_flight: int, busy: int, p95: float | None, target: float | None) -> float:
    """Return the load on the requested model, 0 at or below what it bears.

    `in_flight` calls against `busy` that it bears; `p95` seconds to the first byte against the
    category's latency target, where it has one (PAPERS 2.4: the deviation above the operating
    point).
    """
    queue = max(0.0, in_flight / busy - 1.0)
    slowness = 0.0
    if p95 is not None and target is not None and target > 0.0:
        slowness = max(0.0, p95 / target - 1.0)
    return queue + slowness


def _texts(messages: Any) -> list[str]:
    texts: list[str] = []
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [p["text"] for p in content if isinstance(p, dict) and "text" in p]
    return texts
