"""Options: the app's file holds the defaults, bad ones are told, a site may only tighten."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from embed.checkpoint import MANIFEST, bundled_checkpoint_dir
from federated.options import WIDTH, OptionInvalid, RunOptions
from federated.processes import PACKAGE

APP = tomllib.loads((PACKAGE / "pyproject.toml").read_text())


def test_the_apps_file_holds_every_option_with_its_default() -> None:
    told = APP["tool"]["flwr"]["app"]["config"]
    assert told == {name.replace("_", "-"): value for name, value in asdict(RunOptions()).items()}
    assert RunOptions.read(told) == RunOptions()


def test_a_clients_defaults_are_those_of_training() -> None:
    from federated.training import TrainOptions

    ours, its = RunOptions(), TrainOptions()
    assert (ours.local_epochs, ours.batch_size, ours.learning_rate) == (
        its.epochs,
        its.batch,
        its.rate,
    )
    assert (ours.warmup_steps, ours.margin, ours.anchor, ours.proximal_mu) == (
        its.warm_up,
        its.margin,
        its.anchor,
        its.proximal,
    )


def test_the_app_carries_no_code_and_installs_nothing() -> None:
    assert APP["project"]["dependencies"] == []
    included = APP["tool"]["flwr"]["app"]["fab-include"]
    assert included == ["__init__.py"]
    code = (PACKAGE / "__init__.py").read_text().split('"""')
    assert code[0] == "" and code[2].strip() == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num-server-rounds", 0, "num-server-rounds is 0, allowed: 1 or more"),
        ("num-server-rounds", 2.5, "num-server-rounds is 2.5, allowed: a int"),
        ("epsilon", 0, "epsilon is 0.0, allowed: more than 0"),
        ("secure-least", 1, "secure-least is 1, allowed: 2 or more"),
        ("server-optimizer", "sgd", "server-optimizer is 'sgd', allowed: fedavg, fedadam"),
        ("learning-rate", float("nan"), "learning-rate is nan, allowed: more than 0"),
        ("anchor", float("nan"), "anchor is nan, allowed: 0.0 or more"),
        ("noise-multiplier", float("nan"), "noise-multiplier is nan, allowed: 0.0 or more"),
        ("clipping-norm", float("inf"), "clipping-norm is inf, allowed: a finite number"),
        # These were found only when all rounds were over, and the run could never be ended.
        ("delta", 1.0, "delta is 1.0, allowed: less than 1"),
        ("pca-dimension", 385, "pca-dimension is 385, allowed: up to 384"),
    ],
)
def test_a_bad_option_is_told_in_one_line(name: str, value: float | str, said: str) -> None:
    with pytest.raises(OptionInvalid) as caught:
        RunOptions.read({name: value})
    assert str(caught.value) == said


def test_fewer_sites_than_a_sum_needs_are_not_drawn() -> None:
    draws = {"secure-aggregation": True, "clients-per-round": 2}
    with pytest.raises(OptionInvalid) as caught:
        RunOptions.read(draws)
    assert str(caught.value) == "clients-per-round is 2, allowed: 0, or secure-least (3) and more"
    assert RunOptions.read(draws | {"secure-least": 2}, {"secure-least": 9}).secure_least == 9


def test_the_widest_projection_is_as_wide_as_the_encoder() -> None:
    manifest = json.loads((bundled_checkpoint_dir() / MANIFEST).read_bytes())
    assert manifest["dimension"] == WIDTH


def test_sums_of_covariances_are_not_sent_where_noise_is_wanted() -> None:
    with pytest.raises(OptionInvalid, match="pca-dimension"):
        RunOptions.read({"pca-dimension": 128, "local-dp": True})
    with pytest.raises(OptionInvalid, match="pca-dimension"):
        RunOptions.read({"pca-dimension": 128}, {"local-dp": True})


def test_a_site_may_ask_for_more_privacy_and_never_for_less() -> None:
    run = {"secure-aggregation": True, "secure-least": 5, "epsilon": 2.0, "clipping-norm": 0.5}
    lax = RunOptions.read(
        run,
        {
            "secure-aggregation": False,
            "secure-least": 2,
            "epsilon": 8.0,
            "clipping-norm": 1.0,
        },
    )
    assert lax == RunOptions.read(run)
    strict = RunOptions.read(
        {}, {"secure-aggregation": True, "secure-least": 7, "local-dp": True, "epsilon": 1.0}
    )
    assert (strict.secure_aggregation, strict.secure_least) == (True, 7)
    assert (strict.local_dp, strict.epsilon) == (True, 1.0)


@pytest.mark.parametrize("key", ["secure_aggregation", "local-DP", "central-dp"])
def test_a_site_that_misspells_what_protects_it_takes_no_part(key: str) -> None:
    with pytest.raises(OptionInvalid, match=f"node-config has '{key}', allowed: proxy, proxy-key"):
        RunOptions.read({}, {"pairs": "pairs.jsonl", key: True})


def test_what_a_node_says_of_its_pairs_is_no_option(tmp_path: Path) -> None:
    assert RunOptions.read({}, {"pairs": str(tmp_path), "partition-id": 3}) == RunOptions()
