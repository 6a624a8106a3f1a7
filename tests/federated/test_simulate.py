"""Simulation: pairs are dealt to sites, and one command runs everything and ends it again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
from flwr.common.config import parse_config_args

from embed.checkpoint import Checkpoint
from federated.options import Config
from federated.pairs import LabelledPair
from federated.processes import as_config, end
from federated.simulate import dealt, example_pairs, main
from tests.federated.in_process import pairs_of


def texts(pairs: list[LabelledPair]) -> set[str]:
    return {text for pair in pairs for text in (pair.query, pair.stored)}


def test_every_pair_goes_to_one_site_and_no_text_to_two() -> None:
    pairs = [*pairs_of(1), *example_pairs()]
    hands = dealt(pairs, 4, seed=3)
    assert Counter(p for hand in hands for p in hand) == Counter(pairs)
    for number, hand in enumerate(hands):
        assert hand
        assert not any(texts(hand) & texts(other) for other in hands[:number])
    assert hands == dealt(pairs, 4, seed=3)


def test_values_are_written_as_flower_reads_them() -> None:
    values: Config = {"a": 1, "b": 2.5, "c": True, "d": 'http://x "y"'}
    assert as_config(values) == 'a=1 b=2.5 c=true d="http://x \\"y\\""'


def test_a_fault_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pairs", str(tmp_path / "none.jsonl")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["--output", str(tmp_path), "num-server-rounds=0"]) == 1
    assert "num-server-rounds is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        (["--sites", "0"], 2),
        (["--sites", "1"], 2),
        (["--sites", "2", "secure-aggregation=true"], 3),
    ],
)
def test_sites_who_would_wait_for_others_that_never_come_are_told_at_once(
    asked: list[str], least: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path), *asked]) == 1
    said = f"error: sites is {asked[1]}, allowed: {least} or more with these options\n"
    assert capsys.readouterr().err == said


def test_every_letter_of_a_path_reaches_flower() -> None:
    values: Config = {"output": "/srv/Zürich 😀/runs", "seed": 1}
    assert parse_config_args([as_config(values)]) == values


def test_a_process_that_does_not_listen_is_ended_with_its_children() -> None:
    code = (
        "import signal, subprocess, sys, time;"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit() if hit else hit.append(1)); hit = [];"
        "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.stdout.close()
    end(process, patience=0.5)
    assert process.returncode is not None
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.timeout(300)
def test_one_command_trains_a_checkpoint_and_leaves_no_process(tmp_path: Path) -> None:
    quick = ["num-server-rounds=1", "local-epochs=1", "trainable-layers=1", "least-pairs=4"]
    command = [sys.executable, "-m", "federated.simulate", *quick, "--sites", "2"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "runs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    checkpoint = Checkpoint.load(tmp_path / "runs" / "0001" / "checkpoint")
    assert told["checkpoint"] == checkpoint.id
    assert checkpoint.lineage is not None and checkpoint.lineage.clients == 2
    assert "round 1 of 1" in done.stderr and "2 of 2 answered" in done.stderr
    words = {word for pair in example_pairs() for word in (pair.query, pair.stored)}
    assert not any(word in done.stderr for word in words)
    for process in psutil.process_iter(["cmdline"]):
        assert str(tmp_path) not in " ".join(process.info["cmdline"] or [])
