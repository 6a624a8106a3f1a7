"""What would happen to a request, for whoever wants to know before it is sent."""

from __future__ import annotations

from typing import Any

from proxy.explain import Explain, Explainer
from proxy.explained import explanation


class PlaygroundAdmin:
    """What an operator asks of the lookup. Nothing is changed by it."""

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer

    async def explain(self, asked: Explain) -> dict[str, Any]:
        """Return what the cache would do with this request now, and why."""
        return explanation(await self._explainer.explained(asked))
