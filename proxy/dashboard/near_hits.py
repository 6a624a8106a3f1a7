"""The page of the small models: who answers what, how well, and which examples help."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prometheus_client import Counter as Counted
from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.near_hits import NearHitsAdmin, Replay
from proxy.dashboard.forms import fields, whole
from proxy.dashboard.pages import Pages, is_part, must_edit
from proxy.errors import ApiError
from proxy.metrics import Metrics
from proxy.rules import InForce

# Every one is a few calls of the requested model and of the judge, while the browser waits.
_MOST_REPLAYED = 50
_USUAL = 5

STATES = {
    "open": ("open", "good"),
    "trial": ("on trial", "warn"),
    "back": ("back under the floor", "bad"),
    "unjudged": ("unjudged", "warn"),
}
ARMS = {"examples": "with examples", "small": "alone"}


class NearHitsPage:
    """Shows what near-hits have taught, and replays poor examples."""

    def __init__(
        self, pages: Pages, near_hits: NearHitsAdmin, in_force: InForce, metrics: Metrics
    ) -> None:
        self._pages = pages
        self._near_hits = near_hits
        self._in_force = in_force
        self._metrics = metrics

    async def show(self, request: Request) -> Response:
        """Return the whole page."""
        known = await self._near_hits.router()
        return self._pages.show(
            request,
            "near_hits.html",
            **self._live(known),
            examples=known["examples"],
            usual=_USUAL,
            most=_MOST_REPLAYED,
        )

    async def live(self, request: Request) -> Response:
        """Return the part that changes with the traffic."""
        known = await self._near_hits.router()
        return self._pages.show(request, "near_hits_live.html", **self._live(known))

    async def replay(self, request: Request) -> Response:
        """Say which examples would be answered anew; with `confirmed`, answer them."""
        must_edit(request)
        sent = await fields(request)
        most = whole(sent.get("most", ""), "most", 1, _MOST_REPLAYED)
        if not is_part(request):
            raise ApiError(400, "replaying takes the page's own button, and so its script")
        confirmed = sent.get("confirmed") == "yes"
        ids = [id for id in sent.get("ids", "").split(",") if id][:_MOST_REPLAYED]
        asked = Replay(most=most, ids=ids if confirmed else None, dry_run=not confirmed)
        came = await self._near_hits.replay(request, asked)
        return self._pages.show(
            request, "near_hits_replay.html", most=most, confirmed=confirmed, came=came
        )

    def _live(self, known: dict[str, Any]) -> dict[str, Any]:
        rules = self._in_force.rules
        answered = totals(self._metrics.offloads, "category", "arm", "outcome")
        outcomes = totals(self._metrics.offloads, "outcome")
        asked = totals(self._metrics.offloads, "category")
        prices = {pairing["small"]: pairing["price"] for pairing in known["offload"]}
        rows = []
        for arm in known["arms"]:
            category = arm["category"]
            said, kind = STATES.get(arm["state"], (arm["state"], ""))
            seen = answered[category, arm["arm"], "answered"]
            rows.append(
                {
                    **arm,
                    "state": said,
                    "kind": kind,
                    "arm": ARMS.get(arm["arm"], arm["arm"]),
                    "floor": rules.book[category].quality_floor if category in rules.book else None,
                    "price": prices.get(arm["small"]),
                    "answered": seen,
                    "of_all": seen / asked[category,] if asked[category,] else None,
                }
            )
        return {
            "configured": bool(known["offload"]),
            "judged": known["judged"],
            "pairings": known["offload"],
            "threshold": known.get("threshold"),
            "rows": rows,
            "outcomes": {name: count for (name,), count in sorted(outcomes.items()) if count},
            "judgements": {
                name: count
                for (name,), count in sorted(
                    totals(self._metrics.near_hit_audits, "outcome").items()
                )
                if count
            },
        }


def totals(counter: Counted, *labels: str) -> Counter[tuple[str, ...]]:
    """Return a counter's values, summed over all labels but these."""
    sums: Counter[tuple[str, ...]] = Counter()
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                sums[tuple(sample.labels[label] for label in labels)] += int(sample.value)
    return sums
