"""Differential privacy by Flower's parts: the noise is what was asked for, and on as many sites."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from federated.privacy import spent
from federated.records import ARRAYS, state_of
from federated.task import FloatArray, Site
from tests.federated.in_process import (
    Federation,
    TinyModel,
    federation,
    pairs_of,
    share_of_ones,
)

LISTS = [pairs_of(1), pairs_of(2, 60, 10), pairs_of(3)]
Options = dict[str, bool | int | float | str]


def way(state: dict[str, FloatArray]) -> FloatArray:
    start = TinyModel().state()
    return np.concatenate([(state[name] - start[name]).ravel() for name in start])


def sent(sites: Federation) -> list[FloatArray]:
    return [
        way(state_of(reply.content.array_records[ARRAYS]))
        for reply in sites.grid.replies
        if ARRAYS in reply.content
    ]


@pytest.mark.parametrize("masked", [False, True], ids=["clipped by the server", "by the sites"])
def test_central_noise_is_that_of_the_sites_that_answered(masked: bool, tmp_path: Path) -> None:
    options: Options = {"central_dp": True, "noise_multiplier": 30.0, "clipping_norm": 0.02}
    if masked:
        options |= {"secure_aggregation": True, "secure_least": 2}
    with federation(tmp_path, LISTS, num_server_rounds=1, **options) as sites:
        if not masked:
            sites.grid.tamper = lambda r: None if r.metadata.src_node_id == 3 else r
        sites.run()
        deviation = float(way(sites.published).std())
        told = sites.lineage["privacy"]
    answered = 3 if masked else 2
    assert deviation == pytest.approx(30 * 0.02 / answered, rel=0.25)  # of 156 numbers
    assert told["central"]["epsilon"] == pytest.approx(spent(30, 1, 1e-5), abs=1e-3)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_central_privacy_counts_every_site_the_same_and_clips_it(
    masked: bool, tmp_path: Path
) -> None:
    options: Options = {"central_dp": True, "noise_multiplier": 0.0, "clipping_norm": 0.1}
    if masked:
        options |= {"secure_aggregation": True, "secure_least": 2}
    with federation(tmp_path, LISTS, num_server_rounds=1, **options) as sites:
        sites.run()
        length = float(np.linalg.norm(way(sites.published)))
    size = len(way(TinyModel().state()))
    norms = [share_of_ones(Site.of(p)) / 10 * math.sqrt(size) for p in LISTS]
    assert max(norms) > 0.1
    assert length == pytest.approx(np.mean([min(norm, 0.1) for norm in norms]), rel=1e-3)


def test_central_privacy_goes_on_without_a_site_that_failed(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, num_server_rounds=1, central_dp=True) as sites:
        (tmp_path / "site-2.jsonl").write_text("nonsense")
        assert sites.run().clients == 2


def test_local_noise_is_added_before_anything_leaves_the_site(tmp_path: Path) -> None:
    options: Options = {"local_dp": True, "epsilon": 8.0, "clipping_norm": 0.02}
    with federation(tmp_path, LISTS, num_server_rounds=1, **options) as sites:
        sites.run()
        told = sites.lineage["privacy"]
    expected = 2 * 0.02 * math.sqrt(2 * math.log(1.25 / 1e-5)) / 8.0
    updates = sent(sites)
    assert len(updates) == 3
    for update in updates:
        assert float(update.std()) == pytest.approx(expected, rel=0.25)
    assert told["local"]["clipping_norm"] == 0.02


def test_a_site_may_have_noise_for_itself(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, num_server_rounds=1, clipping_norm=0.02) as sites:
        sites.grid.contexts[2].node_config |= {"local-dp": True, "epsilon": 4.0}
        sites.run()
    deviations = [float(update.std()) for update in sent(sites)]
    assert deviations[0] < 1e-6 and deviations[2] < 1e-6
    assert deviations[1] > 0.02


def epsilon_of(times: int) -> float:
    """What so many noisy updates of a site give away, at the defaults."""
    return spent(math.sqrt(2 * math.log(1.25 / 1e-5)) / 8.0, times, 1e-5)


def test_what_left_the_sites_in_a_round_that_a_crash_cut_off_is_spent_too(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, num_server_rounds=2, local_dp=True) as sites:

        def crash(reply: Message) -> Message:
            if len(sites.grid.replies) == 4:  # in the second round
                raise RuntimeError("the power went out")
            return reply

        sites.grid.tamper = crash
        with pytest.raises(RuntimeError):
            sites.run()
        sites.grid.tamper = lambda reply: reply
        assert sites.run().round == 2
        told = sites.lineage["privacy"]["local"]
    assert told["epsilon"] == pytest.approx(epsilon_of(3), abs=1e-3)


def test_the_round_after_which_patience_is_over_is_spent_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"precision": 1.0, "recall": 1.0, "false_hit_rate": 0.0}
    scores = iter([0.5, 0.7, 0.6])
    monkeypatch.setattr(
        "federated.strategy.mean_metrics", lambda _: {"f05": next(scores), **figures}
    )
    with federation(tmp_path, LISTS, num_server_rounds=9, patience=1, local_dp=True) as sites:
        assert sites.run().round == 2
        trained = [r for r in sites.grid.replies if ARRAYS in r.content]
        told = sites.lineage["privacy"]["local"]
    assert len(trained) == 3 * 3
    assert told["epsilon"] == pytest.approx(epsilon_of(3), abs=1e-3)


def test_without_noise_nothing_is_private() -> None:
    assert spent(0.0, 3, 1e-5) == math.inf


def test_rounds_add_up_and_noise_takes_off() -> None:
    assert spent(1.0, 1, 1e-5) < spent(1.0, 4, 1e-5)
    assert spent(4.0, 4, 1e-5) < spent(1.0, 4, 1e-5)
    rho = 1 / (2 * 2.0**2)
    assert spent(2.0, 1, 1e-5) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)))
