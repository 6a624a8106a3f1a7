"""How long a small model is waited for, and which ones are left alone for a while.

A near-hit has the requested model to turn to, so nobody waits for a small one as long as its
upstream's timeout allows. One that fails several times in a row rests, as an upstream does
(`proxy/balance.py`), but for itself: where one upstream serves both models, the answers of the
requested one would hide that the small one hangs, and must not suffer for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.balance import Replica, resting
from proxy.call import Call
from proxy.nearhits.asking import Unfit
from proxy.nearhits.cascade import Unsure
from proxy.upstream import Upstreams
from proxy.upstream_errors import UpstreamError
from store.economics import Economics

_LEAST_PATIENCE = 5.0  # seconds: as a small model may take on a machine that has other work


class Waiting:
    """What is known of small models that do not answer."""

    def __init__(
        self, upstreams: Upstreams, economics: Economics, monotonic: Callable[[], float]
    ) -> None:
        self._upstreams = upstreams
        self._economics = economics
        self._monotonic = monotonic
        self._models: dict[str, Replica] = {}  # by name, of those that are configured

    def rests(self, small: str) -> bool:
        """Whether a small model, or whatever serves it, has just failed and is not asked."""
        now = self._monotonic()
        group = self._upstreams.route(small)
        if all(each.resting(now) for each in (group, *group.fallbacks)):
            return True
        return resting([self._model(small)], now)

    def patience(self, call: Call, small: str) -> float:
        """Return the seconds within which an answer in the requested model's place has to begin.

        That is when the requested one's would have been late, or the small one's own. An answer
        that is no stream begins when all of it is written.
        """
        groups = [self._upstreams.route(model) for model in (call.model, small)]
        usual = max(group.first_byte_p95() or 0.0 for group in groups)
        if not call.stream:
            usual = max(usual, self._economics.answer_seconds(call.category, call.group) or 0.0)
        return max(_LEAST_PATIENCE, 2 * usual)

    @contextmanager
    def asked(self, small: str) -> Iterator[None]:
        """Note what comes of asking a small model: an answer that is unfit shows that it lives."""
        model = self._model(small)
        probe = model.start(self._monotonic())
        try:
            yield
        except UpstreamError:
            model.failed(self._monotonic(), probe=probe)
            raise
        except (Unfit, Unsure):
            model.succeeded()
            raise
        else:
            model.succeeded()
        finally:
            model.finish(probe=probe)

    def _model(self, small: str) -> Replica:
        return self._models.setdefault(small, Replica(small))
