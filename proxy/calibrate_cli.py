"""`nearhit calibrate`: the score fitted to the labels that serving has collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.checkpoint_state import CONFIGURED, read_state
from proxy.cli_options import ConfigOption, JsonOption, load, policies_in_force, refusals
from proxy.collected import Collected, collected, counted_once, pooled, read_pairs
from proxy.evaluation.text_table import text_table
from proxy.settings import Settings
from proxy.stored import holds_anything, open_documents
from proxy.upkeep import utc_now
from store.decision.calibration import Measure, as_shipped, held_out, measured, recalibrated
from store.decision.calibration_file import (
    CALIBRATION,
    Calibration,
    read_calibration,
    write_calibration,
)
from store.decision.score import POOLED, Recalibration, Score, shipped_score
from store.documents.records import Pair
from store.errors import ScoreInvalid
from store.policy import PolicyBook
from store.policy_history import Seed

LEAST = 30  # random samples of either kind for a line of two numbers and its reliability
_BAR = 20  # letters


@dataclass(frozen=True, slots=True)
class Change:
    """What a calibration would do to one head."""

    of: Collected
    new: Recalibration | None  # None: too few labels
    before_point: float | None  # None: no error budget
    after_point: float | None
    before: Measure
    after: Measure

    def as_data(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "category": self.of.category,
            "budget": self.of.budget,
            "labels": self.of.sources,
            "right": int(self.of.labels.right.sum()),
            "wrong": int((~self.of.labels.right).sum()),
            "refitted": self.new is not None,
            "scaling": None if self.new is None else self.new.scaling,
            "before": {"point": self.before_point, **asdict(self.before)},
            "after": {"point": self.after_point, **asdict(self.after)},
        }


def calibrate(
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Apply without asking.")] = False,
    min_labels: Annotated[
        int,
        typer.Option(min=5, help="Audits and near-misses of either verdict that a refit takes."),
    ] = LEAST,
    as_json: JsonOption = False,
) -> None:
    """Refit the score to the labels that audits, near-misses and feedback have left.

    Shows before and after, and asks before it applies. A running server takes it up in seconds;
    removing calibration.json from the data directory takes it back.
    """
    with refusals():
        settings, seed = load(config)
        directory = settings.data_dir
        if settings.encoder.base_url is not None or settings.encoder.checkpoint != "bundled":
            raise ScoreInvalid("encoder: the score is fitted to the bundled checkpoint alone")
        if not holds_anything(settings):
            raise ScoreInvalid(f"nothing is stored in {directory}")
        shipped = shipped_score()
        pairs, book = asyncio.run(_read(settings, seed))
        _say(f"{len(pairs)} labelled pairs")
        in_force = _in_force(shipped, directory / CALIBRATION)
    known = collected(counted_once(pairs, book), book, shipped, in_force)
    changes = changes_of(known, shipped, in_force, min_labels)
    if as_json:
        typer.echo(json.dumps([change.as_data() for change in changes], indent=2))
    else:
        typer.echo(described(changes, min_labels))
    calibration = calibration_of(changes, shipped)
    if not calibration.heads:
        _say(f"nothing to apply: no category has {min_labels} random labels of either kind")
        return
    if not yes and (as_json or not typer.confirm("Apply?", default=False, err=True)):
        _say("nothing has changed")
        return
    try:
        write_calibration(calibration, directory / CALIBRATION)
    except OSError as error:
        _say(f"{directory / CALIBRATION} cannot be written: {error}")
        raise typer.Exit(1) from None
    _say(f"written to {directory / CALIBRATION}: a running server takes it up within seconds")


def changes_of(
    known: Sequence[Collected], shipped: Score, in_force: Score, least: int
) -> list[Change]:
    """Return what would change: categories with enough labels alone, all others together.

    Only a category's own samples may loosen its decision points: the others' are also those of
    categories that nobody has sampled.
    """
    own = [each for each in known if each.labels.enough(least)]
    rest = [each for each in known if not each.labels.enough(least)]
    together = pooled([each for each in rest if each.head == POOLED])
    changes = [_change(each, shipped, in_force, refit=True) for each in own]
    changes += [
        _change(each, shipped, in_force, refit=False) for each in rest if each.head != POOLED
    ]
    if together is not None:
        changes.append(_change(together, shipped, in_force, refit=together.labels.enough(least)))
    return changes


def _change(of: Collected, shipped: Score, in_force: Score, *, refit: bool) -> Change:
    new, after_score, risks = None, shipped, as_shipped(of.labels)
    if refit:
        may_loosen = of.category != POOLED
        new = recalibrated(of.labels, shipped.points(of.category), may_loosen=may_loosen)
        after_score, risks = shipped.with_scalings({of.category: new}), held_out(of.labels)
    before_point = None if of.budget is None else in_force.point(of.category, of.budget)
    after_point = None if of.budget is None else after_score.point(of.category, of.budget)
    return Change(
        of,
        new,
        before_point,
        after_point,
        measured(of.current, of.labels, before_point),
        measured(risks, of.labels, after_point),
    )


def calibration_of(changes: Sequence[Change], shipped: Score) -> Calibration:
    """Return what is to be written."""
    fitted = {c.of.category: c for c in changes if c.new is not None}
    return Calibration(
        at=utc_now().isoformat(timespec="seconds"),
        score=shipped.digest,
        heads={name: change.new for name, change in fitted.items() if change.new is not None},
        labels={name: change.of.sources for name, change in fitted.items()},
    )


def described(changes: Sequence[Change], least: int) -> str:
    """Return before and after of every head, for a terminal."""
    return "\n\n".join(_described(change, least) for change in changes)


def _described(change: Change, least: int) -> str:
    labels, sources = change.of.labels, change.of.sources
    right = int(labels.right.sum())
    counts = ", ".join(f"{count} {source}" for source, count in sorted(sources.items()))
    name = change.of.category or "all other categories (their own budgets; shown: the smallest)"
    lines = [f"{name}: {right} right, {len(labels.right) - right} wrong ({counts})"]
    if change.new is None:
        lines.append(f"  as shipped: a refit takes {least} audits or near-misses of either verdict")
    else:
        slope, bias = change.new.scaling
        lines.append(f"  log-odds x {slope:.3f} {bias:+.3f}; after is held out")
    head = ("", ("log-loss", "cal. error", "budget", "point", "served", "wrong"))
    rows = [
        (f"  {when}", _cells(measure, change.of.budget, point))
        for when, measure, point in (
            ("before", change.before, change.before_point),
            ("after", change.after, change.after_point),
        )
    ]
    lines.append(text_table(head, rows))
    shown = [("before", change.before), ("after", change.after)]
    for when, measure in shown if change.new is not None else shown[:1]:
        lines.append(f"  {when}: said to be wrong (|), were wrong (#)")
        for said, came, count in measure.bins:
            lines.append(f"    {_bar(said, came)} {said:.2f} {came:.2f} {count:>6}")
    return "\n".join(lines)


def _cells(measure: Measure, budget: float | None, point: float | None) -> tuple[str, ...]:
    share = measure.served / max(1, measure.count)
    return (
        f"{measure.log_loss:.3f}",
        f"{measure.error:.3f}",
        "none" if budget is None else f"{budget:g}",
        "none" if point is None else f"{point:.4f}",
        f"{share:.1%}",
        str(measure.wrong),
    )


def _bar(said: float, came: float) -> str:
    """Return a bar as long as the share of wrong ones, with a mark where it was said to end."""
    letters = ["#" if place < round(came * _BAR) else "." for place in range(_BAR + 1)]
    letters[round(said * _BAR)] = "|"
    return "".join(letters)


async def _read(settings: Settings, seed: Seed) -> tuple[list[Pair], PolicyBook]:
    book = await policies_in_force(settings, seed)
    async with open_documents(settings, read_only=True) as store:
        if (await read_state(store.records)).active != CONFIGURED:
            raise ScoreInvalid("a promoted checkpoint serves: promoting it has fitted its score")
        return await read_pairs(store.records), book


def _in_force(shipped: Score, file: Path) -> Score:
    """Return the score that a server with this directory decides by."""
    try:
        calibration = read_calibration(file)
        return shipped if calibration is None else calibration.over(shipped)
    except ScoreInvalid as error:
        _say(f"the calibration in force is refused, the shipped score stands in: {error}")
        return shipped


def _say(line: str) -> None:
    typer.echo(line, err=True)
