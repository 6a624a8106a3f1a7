"""The category benchmark on tiny data of our own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import categories
from bench.categories import (
    SWEPT,
    TUNED_RECALL,
    Intents,
    chosen_remoteness,
    compare,
    intents_of,
    readings,
    timed,
)
from bench.category_rules import UNSEEN, Result, own_outcome
from bench.starter_examples import (
    Landing,
    landings,
    left_out,
    show_landings,
    show_left_out,
)
from embed.checkpoint import bundled_checkpoint_dir
from embed.encoder import Vectors
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder
from proxy.prototypes import REMOTENESS, build
from store.policy_file import parse_policies


def clouds(count: int) -> tuple[Vectors, tuple[str, ...]]:
    """So many queries round each of three axes, and as many everywhere."""
    random = np.random.default_rng(3)
    centres = np.concatenate([np.repeat(np.eye(3, 24), count, axis=0), np.zeros((count, 24))])
    rows = centres + random.normal(size=centres.shape) * 0.15
    kinds = tuple(kind for kind in ("a", "b", "c", "oos") for _ in range(count))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4"), kinds


def cloud_intents(count: int = 60) -> Intents:
    vectors, kinds = clouds(count)
    return Intents(vectors, kinds, kinds, frozenset({"oos"}))


def test_halves_share_no_row_and_leave_none_out() -> None:
    whole = cloud_intents()
    halves = [whole.half(which) for which in (0, 1)]
    rows = [{tuple(row) for row in half.vectors.tolist()} for half in halves]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == len(whole.kinds)
    assert (halves[0].vectors == whole.half(0).vectors).all()


def test_rows_become_intents_by_domain() -> None:
    rows: list[dict[str, Any]] = [
        {"intent": "loan", "domain": "bank"},
        {"intent": "soup", "domain": "food"},
        {"intent": "oos", "domain": "oos"},
    ]
    found = intents_of(rows, np.eye(3, dtype="f4"), "clinc150")
    assert found.kinds == ("bank", "food", "oos")
    assert found.out_of_scope == {"oos"}
    assert intents_of(rows[:2], np.eye(2, dtype="f4"), "any").out_of_scope == frozenset()


def test_a_set_of_one_domain_is_told_by_its_intents() -> None:
    rows = [{"intent": f"i{n}", "domain": "snips"} for n in range(3)]
    assert intents_of(rows, np.eye(3, dtype="f4"), "snips").kinds == ("i0", "i1", "i2")


def test_messages_that_a_chatbot_did_not_understand_are_out_of_scope() -> None:
    rows = [
        {"intent": "NO_NODES_DETECTED", "domain": "curekart"},
        {"intent": "order", "domain": "curekart"},
    ]
    found = intents_of(rows, np.eye(2, dtype="f4"), "hint3")
    assert found.kinds == ("NO_NODES_DETECTED", "curekart")
    assert found.out_of_scope == {"NO_NODES_DETECTED"}


def test_without_a_kind_out_of_scope_a_quarter_of_the_kinds_is_left_out() -> None:
    vectors, kinds = clouds(40)
    small = Intents(vectors, (*kinds[:-5], *["tiny"] * 5), kinds, frozenset())
    for given in small.draws(each=20):
        assert len(given.names) == 3  # of a, b, c and oos; `tiny` has too few to be shown
        assert (given.labels == UNSEEN).sum() >= 40


def test_the_factor_found_is_the_smallest_that_keeps_enough_out() -> None:
    draws = cloud_intents().draws()
    found = chosen_remoteness(draws)
    assert SWEPT[0] < found < SWEPT[-1]
    kept_out = [
        np.mean([own_outcome(given, factor / REMOTENESS).recall for given in draws])
        for factor in (found - 0.01, found)
    ]
    assert kept_out[0] < TUNED_RECALL <= kept_out[1]
    strange = [
        replace(given, queries=given.examples, labels=np.array([0] + [UNSEEN] * 59))
        for given in draws
    ]
    assert chosen_remoteness(strange) == SWEPT[-1]  # the examples themselves are always near


def test_every_rule_and_certainty_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    whole = cloud_intents()
    compare(whole.half(0).draws(each=10), whole.half(1).draws(each=10))
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 + 5 * 3 + 1
    assert lines[-1].startswith("| **kernel** | **as shipped** | | 1.000 (1.000-1.000) |")


def test_readings_keep_each_draw() -> None:
    found = readings([Result(0.9, 0.1, 0.6), Result(0.8, 0.2, 0.7)], lambda r: r.recall)
    assert [(r.value, dict(r.parts)) for r in found] == [
        (0.6, {"another's": 0.1}),
        (0.7, {"another's": 0.2}),
    ]


def test_classifying_is_timed_in_rounds() -> None:
    rounds = timed(cloud_intents().draws()[0])
    assert len(rounds) == 5
    assert all(0 < each.value < 10_000 and each.parts == {"examples": 60} for each in rounds)


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(ensure_bundled(bundled_checkpoint_dir(), lambda _: None), threads=1)


BOOK = parse_policies(
    {
        "categories": [
            {
                "name": "garden",
                "examples": [
                    "When do I prune roses?",
                    "How are roses pruned?",
                    "Which month is for pruning roses?",
                    "What is the income tax rate?",
                ],
            },
            {
                "name": "tax",
                "examples": [
                    "How high is the income tax rate?",
                    "Which income tax rate do I pay?",
                    "Is the income tax rate the same for all?",
                ],
            },
        ]
    },
    "test",
)


async def test_an_example_left_out_tells_where_it_would_go(
    encoder: OnnxEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    prototypes = await build(BOOK, encoder.encode, encoder.checkpoint, None)
    moved = left_out(BOOK, prototypes)
    assert len(moved) == 7
    assert moved[:3] == [("garden", "garden", text) for text in BOOK["garden"].examples[:3]]
    assert moved[3] == ("garden", "tax", "What is the income tax rate?")
    show_left_out(moved[:4])
    said = capsys.readouterr().out
    assert "3 of 4 go to their own category" in said
    assert "garden -> tax: What is the income tax rate?" in said
    assert "roses" not in said


async def test_other_sets_queries_land_somewhere(
    encoder: OnnxEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "qa_nqopen": [{"question": "in which month are roses pruned"}, {"question": "🙂"}],
        "qa_gsm8k": [{"question": "how much income tax do i pay at that rate"}],
        "pairs_stackexchange_dup": [{"q1": "Compile a kernel module", "site": "askubuntu"}],
        "multiturn_mtbench": [{"turns": ["Write a sonnet.", "Again."], "category": "writing"}],
        "qa_vicuna": [{"question": "Who are you?", "category": "roleplay"}],
        "intents_hwu64": [
            {"text": "will it rain", "domain": "weather"},
            {"text": "play jazz", "domain": "play"},
        ],
    }
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text)
    prototypes = await build(BOOK, encoder.encode, encoder.checkpoint, None)
    landed = await landings(tmp_path, encoder, prototypes)
    assert landed[0] == Landing("nqopen", 1, (("garden", 1.0),))
    assert landed[1] == Landing("gsm8k", 1, (("tax", 1.0),))
    assert [each.queries for each in landed[2:]] == [
        "stackexchange titles: askubuntu",
        "mtbench: writing",
        "vicuna: roleplay",
        "hwu64: weather",
    ]
    show_landings(landed)
    assert "| nqopen | 1 | garden 1.00 |" in capsys.readouterr().out


def test_without_a_folder_the_command_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEARHIT_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["categories"])
    with pytest.raises(SystemExit) as ended:
        categories.main()
    assert ended.value.code == 2
    assert "give --data or set NEARHIT_DATA" in capsys.readouterr().err
