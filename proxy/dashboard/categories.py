"""The pages of the categories: all of them, one of them, and what another threshold would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.policies import no_category
from proxy.dashboard.pages import Pages
from proxy.dashboard.policy_form import GROUPS, values_of
from proxy.dashboard.what_if_view import view_of
from proxy.errors import ApiError
from proxy.metrics import Metrics
from proxy.outcome import Outcome
from proxy.policy_editor import seen_of
from proxy.rules import InForce
from proxy.standing import Standing
from proxy.what_ifs import WhatIfs
from store.decision.what_if import LEAST
from store.policy import DEFAULT_CATEGORY, Mode, Policy
from store.units import duration_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One category, as the table and its own page show it."""

    policy: Policy
    standing: Standing
    asked: int  # requests since the start of this process
    hits: int
    fill: float  # share of the quota that is used, of entries or bytes, whichever is more

    @property
    def hit_rate(self) -> float | None:
        """Hits of all requests; None before the first."""
        return self.hits / self.asked if self.asked else None

    @property
    def ttl(self) -> str:
        """The configured lifetime."""
        return duration_text(self.policy.ttl)

    @property
    def ttl_now(self) -> str:
        """The lifetime as load has it."""
        return duration_text(self.standing.ttl)

    @property
    def bends_threshold(self) -> bool:
        """Whether load has lowered the hit threshold."""
        return self.standing.hit_threshold < self.policy.hit_threshold

    @property
    def bends_ttl(self) -> bool:
        """Whether load has stretched the lifetime."""
        return self.standing.ttl > self.policy.ttl


class CategoryPages:
    """Shows categories."""

    def __init__(
        self,
        pages: Pages,
        *,
        in_force: InForce,
        standing: Callable[[str], Standing],
        metrics: Metrics,
        what_ifs: WhatIfs,
    ) -> None:
        """`standing` says what a category comes to now."""
        self._pages = pages
        self._in_force = in_force
        self._standing = standing
        self._metrics = metrics
        self._what_ifs = what_ifs

    async def show(self, request: Request) -> Response:
        """Return the table of all categories."""
        return self._pages.show(request, "categories.html", rows=self._rows())

    async def live(self, request: Request) -> Response:
        """Return the table alone."""
        return self._pages.show(request, "categories_live.html", rows=self._rows())

    async def show_one(self, request: Request) -> Response:
        """Return the page of one category."""
        name = self._name(request)
        policy = self._in_force.rules.book[name]
        return self._pages.show(
            request,
            "category.html",
            name=name,
            row=self._row(name, self._metrics.lookup_counts_by_category()),
            groups=GROUPS,
            values=values_of(policy),
            faults={},
            seen=seen_of(self._in_force.rules.book, name),
            slider=max(LEAST, policy.hit_threshold),
            is_default=name == DEFAULT_CATEGORY,
            by_meaning=policy.mode is Mode.SEMANTIC,
            **await self.what_if_values(name, max(LEAST, policy.hit_threshold)),
        )

    async def live_one(self, request: Request) -> Response:
        """Return the standing of one category alone."""
        name = self._name(request)
        row = self._row(name, self._metrics.lookup_counts_by_category())
        return self._pages.show(request, "category_live.html", row=row)

    async def what_if(self, request: Request) -> Response:
        """Return what another hit threshold would have made of the last lookups."""
        name = self._name(request)
        threshold = cosine(request.query_params.get("hit_threshold", ""))
        values = await self.what_if_values(name, threshold)
        return self._pages.show(request, "what_if.html", **values)

    async def what_if_values(self, name: str, threshold: float) -> dict[str, Any]:
        """Return what the what-if's template needs of a category and a hit threshold."""
        return {"view": view_of(await self._what_ifs.of(name, threshold))}

    def _name(self, request: Request) -> str:
        name: str = request.path_params["name"]
        if name not in self._in_force.rules.book:
            raise no_category(name)
        return name

    def _rows(self) -> list[Row]:
        counts = self._metrics.lookup_counts_by_category()
        return [self._row(name, counts) for name in self._in_force.rules.book.names]

    def _row(self, name: str, by_category: Mapping[str, Mapping[str, int]]) -> Row:
        policy, standing = self._in_force.rules.book[name], self._standing(name)
        counts, quota = by_category.get(name, {}), policy.quota
        return Row(
            policy=policy,
            standing=standing,
            asked=sum(counts.values()),
            hits=counts.get(Outcome.HIT, 0),
            fill=max(
                standing.entries / max(1, quota.entries), standing.bytes / max(1, quota.bytes)
            ),
        )


def cosine(text: str) -> float:
    """Return the hit threshold that a slider sent; raise ApiError for what none can be."""
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not LEAST <= threshold <= 1.0:
        told = f"hit_threshold: {text!r} is not allowed; a cosine from {LEAST:g} to 1"
        raise ApiError(400, told, param="hit_threshold")
    return threshold
