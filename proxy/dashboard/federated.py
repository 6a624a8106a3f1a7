"""The page of the checkpoints: what training came to, what the gate says, promoting and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from proxy.admin.checkpoints import CheckpointsAdmin, Promote
from proxy.dashboard.charts import Chart, Series, chart
from proxy.dashboard.forms import fields
from proxy.dashboard.pages import HEADERS, Pages, is_part, must_edit
from proxy.errors import ApiError

PAGE = "/admin/federated"
FIGURES = {
    "f05": "F0.5",
    "precision": "precision",
    "recall": "recall",
    "false_hit_rate": "false hits",
}
STEPS = {
    "judge": "Judging it by held-out pairs",
    "stage": "Re-encoding what is stored",
    "switch": "Fitting thresholds and switching over",
}
OUTCOMES = {
    "running": ("under way", "warn"),
    "passed": ("would be promoted", "good"),
    "promoted": ("promoted", "good"),
    "refused": ("refused", "bad"),
    "stopped": ("stopped", "warn"),
    "failed": ("failed", "bad"),
}
STATES = {"active": "good", "former": "", "candidate": "warn", "refused": "bad"}
DONE = {
    "back": "The checkpoint from before serves again, with its thresholds.",
    "stopped": "The promotion was stopped. Nothing has changed for clients.",
}


class FederatedPage:
    """Shows the checkpoints, and what an operator does with them."""

    def __init__(self, pages: Pages, checkpoints: CheckpointsAdmin) -> None:
        self._pages = pages
        self._checkpoints = checkpoints

    async def show(self, request: Request) -> Response:
        """Return the page."""
        return await self._page(request)

    async def live(self, request: Request) -> Response:
        """Return how far the promotion is; once it is another or has ended, the page anew."""
        promotion = (await self._checkpoints.list_checkpoints())["promotion"]
        answer = self._pages.show(request, "federated_live.html", **_progress(promotion))
        if request.query_params.get("seen", "") != stage_of(promotion):
            answer.headers["hx-refresh"] = "true"
        return answer

    async def promote(self, request: Request) -> Response:
        """Begin to judge a checkpoint, or to promote it."""
        must_edit(request)
        sent = await fields(request)
        named, by_path = sent.get("checkpoint", "").strip(), sent.get("by_path") == "yes"
        if not 1 <= len(named) <= 4096 or (by_path and not named.startswith("/")):
            if not by_path:
                raise ApiError(400, "checkpoint: name one", param="checkpoint")
            fault = "The whole path of a directory on the proxy's machine, beginning with a /."
            return await self._page(request, typed=named, fault=fault, status=400)
        asked = Promote(
            checkpoint=named,
            dry_run=sent.get("dry_run") == "yes",
            force=sent.get("force") == "yes",
        )
        try:
            await self._checkpoints.promote(asked, request)
        except ApiError as error:
            if not by_path:
                raise
            return await self._page(request, typed=named, fault=str(error), status=error.status)
        return _back_to(request, PAGE)

    async def stop(self, request: Request) -> Response:
        """Stop the promotion under way; one that has ended meanwhile stays as it is."""
        must_edit(request)
        if await self._checkpoints.stop(request) is None:
            raise ApiError(
                409,
                "no promotion is under way in this process: it has ended, or another replica's is"
                " stopped there",
            )
        return _back_to(request, f"{PAGE}?done=stopped")

    async def roll_back(self, request: Request) -> Response:
        """Put the checkpoint from before in force."""
        must_edit(request)
        await self._checkpoints.go_back(request)
        return _back_to(request, f"{PAGE}?done=back")

    async def _page(
        self, request: Request, *, typed: str = "", fault: str = "", status: int = 200
    ) -> Response:
        listed = await self._checkpoints.list_checkpoints()
        rows = [
            {
                **row,
                "kind": STATES.get(row["state"], ""),
                "said": verdict_said(row["verdict"]),
                "charts": charts_of(row["lineage"]),
            }
            for row in reversed(listed["checkpoints"])
        ]
        promotion = listed["promotion"]
        return self._pages.show(
            request,
            "federated_main.html" if is_part(request) else "federated.html",
            status=status,
            rows=rows,
            former=next((row["id"] for row in rows if row["state"] == "former"), None),
            trained=[row for row in rows if row["lineage"] is not None],
            done=DONE.get(request.query_params.get("done", ""), ""),
            seen=stage_of(promotion),
            typed=typed,
            fault=fault,
            **_progress(promotion),
        )


def _progress(promotion: Mapping[str, Any] | None) -> dict[str, Any]:
    if promotion is None:
        return {"promotion": None, "step": "", "outcome": "", "kind": "", "running": False}
    outcome, kind = OUTCOMES[promotion["outcome"]]
    return {
        "promotion": promotion,
        "step": STEPS[promotion["step"]],
        "outcome": outcome,
        "kind": kind,
        "running": promotion["outcome"] == "running",
    }


def stage_of(promotion: Mapping[str, Any] | None) -> str:
    """Return what tells a promotion, and whether it has ended, from another."""
    if promotion is None:
        return ""
    return f"{promotion['checkpoint']} {promotion['began']} {promotion['outcome']}"


def verdict_said(verdict: Mapping[str, Any] | None) -> list[str]:
    """Return what the gate found, in sentences."""
    if verdict is None:
        return []
    said = ["The gate lets it pass." if verdict["passed"] else "The gate refuses it."]
    overall, interval = verdict["overall"], verdict["interval"]
    if overall is not None and interval is not None:
        gain = overall["candidate"]["f_beta"] - overall["running"]["f_beta"]
        said.append(
            f"On {overall['pairs']} held-out pairs its F0.5 is"
            f" {overall['candidate']['f_beta']:.3f}, the running one's"
            f" {overall['running']['f_beta']:.3f}: a gain of {gain:+.3f}, with a 95 %"
            f" interval from {interval[0]:+.3f} to {interval[1]:+.3f}."
        )
    return said + [f"{reason[:1].upper()}{reason[1:]}." for reason in verdict["reasons"]]


def charts_of(lineage: Mapping[str, Any] | None) -> list[Chart]:
    """Return the figures of a run's rounds as charts; [] of fewer than two judged states."""
    history: Sequence[Mapping[str, float]] = () if lineage is None else lineage["history"]
    if len(history) < 2:
        return []
    rounds = [f"{row.get('round', number):g}" for number, row in enumerate(history)]
    quality = [
        Series(name, [row.get(figure) for row in history])
        for figure, name in FIGURES.items()
        if any(figure in row for row in history)
    ]
    pairs = [Series("held-out pairs", [row.get("judged") for row in history])]
    return [
        chart("Figures by round", rounds, quality, lambda v: f"{v:.3f}", most=1.0, over="Round"),
        chart(
            "Pairs judged by round", rounds, pairs, lambda v: f"{v:,.0f}", whole=True, over="Round"
        ),
    ]


def _back_to(request: Request, path: str) -> Response:
    if is_part(request):
        return Response(status_code=204, headers={**HEADERS, "hx-redirect": path})
    return RedirectResponse(path, 303, HEADERS)
