"""Rounds until they are done, or no longer help; kept after each, so that a crash costs one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from federated.aggregation import ServerOptimizer
from federated.exchange import exchange
from federated.options import RunOptions
from federated.records import arrays_of, state_of
from federated.run_state import RunDirectory, RunRecord
from federated.strategy import Report
from federated.task import FloatArray, Say

SCORE = "f05"


class Reporting(Protocol):
    """What knows the figures of the last round."""

    @property
    def report(self) -> Report:
        """What the last round's replies said."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """All that the rounds work with."""

    grid: Grid
    strategy: Strategy
    reporting: Reporting  # the strategy, or what is inside it
    optimizer: ServerOptimizer
    options: RunOptions
    directory: RunDirectory
    say: Say


def run_rounds(run: Run, record: RunRecord, start: Mapping[str, FloatArray]) -> RunRecord:
    """Train round after round from where `record` stands; return what it came to.

    `start` is the state before the first round. A state is judged by all sites when the next round
    begins, the last one at the end. Raise TooFewClients, with everything kept up to then.
    """
    state = dict(run.directory.state(record)) if record.round else dict(start)
    if record.round:
        run.optimizer.recall(run.directory.optimizer(record))
        run.say(f"going on after round {record.round}")
    run.strategy.summary()
    while record.round < run.options.num_server_rounds:
        number = record.round + 1
        run.say(f"round {number} of {run.options.num_server_rounds}")
        record = replace(record, asked=record.asked + 1)
        averaged = _train(run, record, arrays_of(state))
        report = run.reporting.report
        better, record = _judged(run, record, report)
        best = state if better else None
        if _patience_is_over(run.options, record):
            run.say(f"no better state in {run.options.patience} rounds: stopping")
            return record
        if averaged is not None:
            state = run.optimizer.step(state, state_of(averaged))
            run.say(f"  {report.clients} clients trained on {report.examples} pairs")
        else:
            run.say("  nobody's training could be used: the state stays as it is")
        record = replace(
            record,
            round=number,
            clients=max(record.clients, report.clients),
            pairs=max(record.pairs, report.examples),
        )
        run.directory.save(record, state, run.optimizer.memory(), best=best)
    return _judge_last(run, record, state)


def _train(run: Run, record: RunRecord, arrays: ArrayRecord) -> ArrayRecord | None:
    number = record.round + 1
    messages = list(run.strategy.configure_train(number, arrays, ConfigRecord(), run.grid))
    if run.options.local_dp:
        run.directory.note(record)  # what leaves a site now is spent, whatever becomes of the round
    replies = exchange(run.grid, messages, run.options.round_timeout, run.say)
    averaged, _ = run.strategy.aggregate_train(number, replies)
    return averaged


def _judge_last(run: Run, record: RunRecord, state: Mapping[str, FloatArray]) -> RunRecord:
    run.say("judging the last state")
    number = record.round + 1
    messages = run.strategy.configure_evaluate(number, arrays_of(state), ConfigRecord(), run.grid)
    replies = exchange(run.grid, messages, run.options.round_timeout, run.say)
    run.strategy.aggregate_evaluate(number, replies)
    better, judged = _judged(run, record, run.reporting.report)
    if better:
        run.directory.save(judged, state, run.optimizer.memory(), best=state)
    return judged


def _judged(run: Run, record: RunRecord, report: Report) -> tuple[bool, RunRecord]:
    """Note what the sites say of the state after `record.round`; True if it is the best so far.

    The state that a run starts from is only noted, also after rounds without
    training: what a run is for is another one.
    """
    told = {"round": record.round, "judged": report.judged, **report.metrics}
    # Judged once more after a crash, or when a run goes on for longer: what was said before goes.
    before = [row for row in record.history if row["round"] != record.round]
    record = replace(record, history=[*before, told])
    if report.judged == 0:
        run.say("  nobody has held-out pairs of both labels: the state could not be judged")
        score = 0.0
    else:
        score = report.metrics[SCORE]
        run.say(
            f"  after round {record.round}: F0.5 {score:.4f}, precision "
            f"{report.metrics['precision']:.4f}, on {report.judged} held-out pairs"
        )
    latest_of_unjudged = report.judged == 0 and record.best_score <= 0
    if record.clients == 0 or not (score > record.best_score or latest_of_unjudged):
        return False, record
    return True, replace(
        record,
        best_round=record.round,
        best_score=score,
        best_metrics=dict(report.metrics),
        thresholds=dict(report.thresholds),
    )


def _patience_is_over(options: RunOptions, record: RunRecord) -> bool:
    best = max(record.best_round, 0)
    return bool(options.patience) and record.round - best >= options.patience
