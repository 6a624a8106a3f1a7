"""`nearhit calibrate` shows what labels would change, and changes only what was agreed to."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app
from proxy.collected import counted_once
from store.decision.calibration_file import CALIBRATION, read_calibration
from store.decision.score import POOLED, shipped_score
from store.documents.records import Pair, PairSource
from store.documents.sqlite import SqliteDocuments
from store.entry import EntryId
from store.policy import Policy, PolicyBook

THINGS = "bicycle kettle umbrella lantern violin carpet ladder mirror basket hammer".split()
PLACES = "garden kitchen cellar attic garage office hallway balcony workshop library".split()
BOOK = PolicyBook(
    {name: Policy(name=name, hit_threshold=0.6, error_budget=0.2) for name in ("default", "fares")}
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARHIT_CONFIG", raising=False)
    monkeypatch.delenv("NEARHIT_DATA", raising=False)


def pair(
    query: str,
    entry_query: str,
    label: int,
    *,
    category: str = "fares",
    source: PairSource = "audit",
    similarity: float = 0.9,
) -> Pair:
    return Pair(
        at=datetime(2026, 11, 24, tzinfo=UTC),
        tenant="acme",
        event=f"{source}:{query}:{entry_query}:{category}:{label}",
        query=query,
        entry_query=entry_query,
        entry_id=EntryId("e"),
        similarity=similarity,
        label=label,
        category=category,
        source=source,
    )


def collected(category: str = "fares", source: PairSource = "audit") -> list[Pair]:
    """Return 100 pairs, of which what looks like a rephrasing is wrong as often as not."""
    return [
        pair(
            f"where in the {place} does one keep a {thing}",
            f"where does one keep a {thing} in the {place}",
            (row + column) % 2,
            category=category,
            source=source,
            similarity=0.99,
        )
        for row, thing in enumerate(THINGS)
        for column, place in enumerate(PLACES)
    ]


def stored(directory: Path, *pairs: Pair) -> Path:
    """Put the pairs where a server would have; return a config that names them."""

    async def fill() -> None:
        documents = SqliteDocuments.open(directory)
        for each in pairs:
            await documents.records.add_pair(each)
        await documents.aclose()

    asyncio.run(fill())
    policies = directory / "policies.yaml"
    policies.write_text(
        "categories:\n- {name: default, error_budget: 0.2}\n- {name: fares, error_budget: 0.2}\n"
    )
    config = directory / "nearhit.yaml"
    config.write_text(f"data_dir: {directory}\npolicies: {policies}\n")
    return config


def run(config: Path, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["calibrate", "--config", str(config), *arguments], input=answer)


def table(done: Result) -> dict[str, Any]:
    return {each["category"]: each for each in json.loads(done.stdout)}


def test_nothing_is_applied_without_a_yes(tmp_path: Path) -> None:
    config = stored(tmp_path, *collected())
    for answer in ("n\n", "\n", ""):
        done = run(config, answer=answer)
        assert "Apply? [y/N]" in done.stderr
        assert not (tmp_path / CALIBRATION).exists()
    assert run(config, "--json").exit_code == 0
    assert not (tmp_path / CALIBRATION).exists()


@pytest.mark.parametrize("way", ["asked", "--yes"])
def test_a_yes_writes_what_was_shown(way: str, tmp_path: Path) -> None:
    config = stored(tmp_path, *collected())
    done = run(config, answer="y\n") if way == "asked" else run(config, "--yes")
    assert done.exit_code == 0, done.stderr
    assert "fares: 50 right, 50 wrong (100 audit)" in done.stdout
    calibration = read_calibration(tmp_path / CALIBRATION)
    assert calibration is not None
    assert calibration.labels == {"fares": {"audit": 100}}
    score = calibration.over(shipped_score())
    assert score.point("fares", 0.2) == 0.0  # half of what it would serve is wrong
    assert score.point("default", 0.2) == shipped_score().point("default", 0.2) > 0


def test_before_is_what_is_in_force_and_after_is_more_honest(tmp_path: Path) -> None:
    config = stored(tmp_path, *collected())
    shown = table(run(config, "--json", "--yes"))["fares"]
    assert shown["refitted"]
    assert shown["after"]["log_loss"] < shown["before"]["log_loss"]
    assert shown["after"]["error"] < shown["before"]["error"]
    assert (shown["before"]["wrong"], shown["after"]["served"]) == (50, 0)
    again = table(run(config, "--json"))["fares"]
    assert again["before"]["point"] == again["after"]["point"] == 0.0
    assert again["scaling"] == shown["scaling"]  # from the shipped score on, not from the last


def test_few_labels_are_pooled_and_a_head_of_its_own_is_not(tmp_path: Path) -> None:
    half = collected()[:50] + collected("default")[50:]
    shown = table(run(stored(tmp_path, *half), "--json", "--yes"))
    assert list(shown) == [POOLED]
    assert shown[POOLED]["labels"] == {"audit": 100}
    calibration = read_calibration(tmp_path / CALIBRATION)
    assert calibration is not None
    assert list(calibration.heads) == [POOLED]


def test_feedback_alone_is_not_enough(tmp_path: Path) -> None:
    config = stored(tmp_path, *collected(source="feedback"))
    done = run(config, "--yes")
    assert done.exit_code == 0
    assert "nothing to apply" in done.stderr
    assert not (tmp_path / CALIBRATION).exists()


def test_the_least_number_of_labels_may_be_chosen(tmp_path: Path) -> None:
    config = stored(tmp_path, *collected())
    assert "nothing to apply" in run(config, "--yes", "--min-labels", "51").stderr
    assert run(config, "--min-labels", "4").exit_code == 2


def test_a_running_server_is_read_beside(tmp_path: Path) -> None:
    config = stored(tmp_path, *collected())
    held = SqliteDocuments.open(tmp_path)
    try:
        assert run(config, "--yes").exit_code == 0
    finally:
        asyncio.run(held.aclose())
    assert (tmp_path / CALIBRATION).exists()


def test_a_damaged_calibration_is_said_and_replaced(tmp_path: Path) -> None:
    config = stored(tmp_path, *collected())
    (tmp_path / CALIBRATION).write_text("{")
    done = run(config, "--yes")
    assert f"{tmp_path / CALIBRATION}: " in done.stderr
    assert read_calibration(tmp_path / CALIBRATION) is not None


def test_without_data_or_with_another_encoder_there_is_nothing_to_calibrate(tmp_path: Path) -> None:
    config = tmp_path / "nearhit.yaml"
    config.write_text(f"data_dir: {tmp_path / 'none'}\n")
    done = run(config)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nothing is stored in" in done.stderr
    config.write_text(f"data_dir: {tmp_path}\nencoder: {{checkpoint: {tmp_path}}}\n")
    assert "the bundled checkpoint alone" in run(config).stderr


def test_a_pair_counts_once_with_the_newest_verdict_a_judge_before_a_client() -> None:
    ours = ("where is the kettle", "where does the kettle stand")
    newest_first = [
        pair(*ours, 1, source="feedback"),
        pair(*ours, 0, source="audit"),
        pair(*ours, 1, source="near-miss"),
    ]
    (kept,) = counted_once(newest_first, BOOK)
    assert (kept.label, kept.source) == (0, "audit")


def test_what_no_score_decides_about_does_not_count() -> None:
    text = "where is the kettle"
    assert not counted_once(
        [
            pair(text, text, 0),
            pair(text, "where does the kettle stand", 1, similarity=0.59),
            pair(text, "where does the kettle stand", 1, category="gone"),
            pair("how far are 3 miles on foot", "how far are 5 miles on foot", 0),
        ],
        BOOK,
    )
