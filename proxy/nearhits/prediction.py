"""Predicted outputs: a stored answer to a question like this one, passed along to the large model.

An upstream that supports it (OpenAI's `prediction`; speculative decoding in others) takes over what
it would have said anyway and says the rest itself: the answer is the same, only sooner. Whose
answers may be passed along is decided as for examples.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime

import orjson

from proxy.answer_text import answer_text
from proxy.call import Call
from proxy.identity import number_of
from proxy.nearhits.gathering import may_show
from proxy.nearhits.planning import CHAT
from proxy.outcome import Lookup, Outcome
from proxy.upstream import Upstreams
from proxy.wire.base import Json
from store.cache import Cache
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.nearhits")

# With these OpenAI refuses a prediction.
_AGAINST = ("tools", "functions", "logprobs", "audio", "max_completion_tokens", "prediction")
_POSITIVE = ("presence_penalty", "frequency_penalty")


def may_predict(body: dict[str, Json]) -> bool:
    """Whether a prediction may be added to this chat."""
    if any(body.get(field) for field in _AGAINST):
        return False
    if body.get("n") not in (None, 1) or body.get("modalities") not in (None, ["text"]):
        return False
    penalties = [number_of(body[field]) for field in _POSITIVE if body.get(field) is not None]
    return all(penalty is not None and penalty <= 0 for penalty in penalties)


def with_prediction(raw: bytes, predicted: str) -> bytes:
    """Return the request body with a predicted output; everything else stays as it was."""
    body = json.loads(raw)  # keeps integers of any length as they were sent
    return json.dumps({**body, "prediction": {"type": "content", "content": predicted}}).encode()


class Predictor:
    """Finds what may be passed along."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        upstreams: Upstreams,
        clock: Callable[[], datetime],
    ) -> None:
        self._cache = cache
        self._quarantine = quarantine
        self._upstreams = upstreams
        self._clock = clock

    async def predicted(self, call: Call, lookup: Lookup) -> str | None:
        """Return the nearest stored answer that may be passed along; None if there is none.

        Never raises but for a cancelled task.
        """
        if lookup.outcome is not Outcome.MISS or call.wire.path != CHAT:
            return None
        try:
            if not self._upstreams.route(call.model).predicts or not may_predict(call.body):
                return None
            now, asker = self._clock(), call.asker
            for candidate in lookup.around:
                if may_show(call, asker, candidate, now, self._quarantine):
                    document = await self._cache.document(candidate.held.id)
                    if document is not None:
                        return answer_text(CHAT, orjson.loads(document.body))
        except Exception:
            log.exception("no prediction for %s", call.request.request_id)
        return None
