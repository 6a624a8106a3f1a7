"""The server's side of the Flower App: rounds, then a checkpoint directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from embed.checkpoint import MOST_JUDGED, TRAINED, Checkpoint, Lineage, bundled_checkpoint_dir
from embed.export import export_trained
from federated import task
from federated.aggregation import FedAdam, FedAvg, ServerOptimizer
from federated.masked_strategy import MaskedStrategy
from federated.moments import fitted_projection
from federated.options import OptionInvalid, RunOptions
from federated.privacy import CentralPrivacy, CentralPrivacyOfSums, told
from federated.rounds import Run, run_rounds
from federated.run_state import (
    CHECKPOINT,
    RunDirectory,
    RunRecord,
    RunStateInvalid,
    digest_of,
    only_run,
)
from federated.strategy import SimilarityStrategy
from federated.task import FloatArray

NAME = "minilm-l6-v2-federated"  # of the checkpoints that come out

app = ServerApp()


class NothingLearned(Exception):
    """No site trained, so there is no checkpoint."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that the run-config asks for, or the rest of them after a crash."""
    options = RunOptions.read(context.run_config)
    with only_run(Path(options.output)):
        _run_to_its_end(grid, options, RunDirectory.newest(Path(options.output)))


def _run_to_its_end(grid: Grid, options: RunOptions, directory: RunDirectory) -> None:
    parent, trained = parent_of(options)
    record = directory.record() or RunRecord(options=digest_of(options), parent=parent)
    if record.options != digest_of(options):
        raise RunStateInvalid(
            f"{directory.path} holds an unfinished run with other options: finish it with those, "
            "remove it, or give another output"
        )
    say(f"run in {directory.path}, from {record.parent}")
    inner, strategy = strategies(options)
    start = initial_state(options, trained)
    run = Run(grid, strategy, inner, optimizer_of(options), options, directory, say)
    record = run_rounds(run, record, start)
    if record.best_round < 0 or record.clients == 0:
        raise NothingLearned("no site trained in any round: there is no checkpoint")
    best = directory.best(record)
    projection = fitted_projection(grid, best, options, record.round + 2, say)
    checkpoint = publish(directory, record, {**trained, **best}, projection, options)
    say(f"checkpoint {checkpoint.id} is in {checkpoint.directory}")


def strategies(options: RunOptions) -> tuple[SimilarityStrategy, Strategy]:
    """Return the strategy that knows the figures, and the one to run: the same, or around it."""
    if options.secure_aggregation:
        masked = MaskedStrategy(options, say)
        return masked, CentralPrivacyOfSums(masked, options) if options.central_dp else masked
    plain = SimilarityStrategy(options, say)
    return plain, CentralPrivacy(plain, options) if options.central_dp else plain


def optimizer_of(options: RunOptions) -> ServerOptimizer:
    """Return what goes from the common state towards the sites' mean."""
    rate = options.server_learning_rate
    if options.server_optimizer == "fedadam":
        return FedAdam(rate) if rate else FedAdam()
    return FedAvg(rate) if rate else FedAvg()


def parent_of(options: RunOptions) -> tuple[str, Mapping[str, FloatArray]]:
    """Return the id of the checkpoint that training starts from, and what was trained in it."""
    if not options.start_from:
        return Checkpoint.load(bundled_checkpoint_dir()).id, {}
    checkpoint = Checkpoint.load(Path(options.start_from))
    if TRAINED not in checkpoint.files:
        return checkpoint.id, {}
    with np.load(checkpoint.directory / TRAINED) as kept:
        return checkpoint.id, {name: kept[name] for name in kept.files}


def initial_state(
    options: RunOptions, trained: Mapping[str, FloatArray]
) -> Mapping[str, FloatArray]:
    """Return the state that the first round sends.

    Sites know the packaged model only, so whatever differs from it has to be in the state. Raise
    OptionInvalid when the run freezes layers that the parent trained.
    """
    state = task.open_model(options, trained).state()
    if frozen := sorted(trained.keys() - state.keys()):
        raise OptionInvalid(
            f"trainable-layers is {options.trainable_layers}, allowed: enough for {frozen[0]}, "
            "which start-from has trained"
        )
    return state


def publish(
    directory: RunDirectory,
    record: RunRecord,
    state: Mapping[str, FloatArray],
    projection: FloatArray | None,
    options: RunOptions,
) -> Checkpoint:
    """Write the checkpoint of a run's best state, and note that the run has ended."""
    lineage = Lineage(
        parent=record.parent,
        rounds=record.best_round,
        clients=record.clients,
        pairs=record.pairs,
        metrics=record.best_metrics,
        thresholds=record.thresholds,
        privacy=told(options, record.round, max(record.round, record.asked)),
        history=record.history[-MOST_JUDGED:],
    )
    checkpoint = export_trained(
        state,
        directory.path / CHECKPOINT,
        name=NAME,
        lineage=lineage,
        projection=projection,
        on_progress=say,
    )
    directory.end(record, checkpoint.id)
    return checkpoint


def say(line: str) -> None:
    """Tell whoever follows the run what is done; never a text or a label."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
