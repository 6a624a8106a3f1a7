"""A site's own part: where its pairs come from, what judges, and its thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from federated.model import SimilarityModel
from federated.options import OptionInvalid, RunOptions
from federated.pairs import LabelledPair
from federated.simulate import write_pairs
from federated.task import Site, evaluate, gather
from tests.federated.in_process import TinyModel, pairs_of

MODEL = cast(SimilarityModel, TinyModel())


def test_no_text_is_both_learnt_from_and_judged_by() -> None:
    site = Site.of(pairs_of(1, 200, 100))
    texts = [
        {text for pair in part for text in (pair.query, pair.stored)}
        for part in (site.learns_from, site.judges)
    ]
    assert texts[0] and texts[1] and not texts[0] & texts[1]


def test_a_sites_pairs_come_from_its_file(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", pairs_of(1))
    site = gather({"pairs": str(tmp_path / "pairs.jsonl")}, RunOptions())
    assert len(site.learns_from) + len(site.judges) == 30


def test_a_simulated_site_reads_the_file_of_its_number(tmp_path: Path) -> None:
    write_pairs(tmp_path / "site-1.jsonl", pairs_of(1, 10, 5))
    site = gather({"partition-id": 1, "num-partitions": 2}, RunOptions(sites=str(tmp_path)))
    assert len(site.learns_from) + len(site.judges) == 10


@pytest.mark.parametrize("by", ["file", "variable", "none"])
def test_a_proxy_is_asked_with_the_key_that_the_node_names(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(url: str, key: str | None, **_: Any) -> list[LabelledPair]:
        asked.append((url, key))
        return pairs_of(1)

    monkeypatch.setattr("federated.task.fetch_pairs", fetch)
    (tmp_path / "key").write_text("s3cret\n")
    node = {
        "file": {"proxy-key-file": str(tmp_path / "key")},
        "variable": {"proxy-key-env": "ADMIN"},
        "none": {},
    }[by]
    gather({"proxy": "http://proxy:1", **node}, RunOptions(), {"ADMIN": "s3cret"})
    assert asked == [("http://proxy:1", None if by == "none" else "s3cret")]


def test_a_variable_that_is_not_set_and_a_node_that_says_nothing_are_told() -> None:
    with pytest.raises(OptionInvalid, match="ADMIN is not set"):
        gather({"proxy": "http://proxy:1", "proxy-key-env": "ADMIN"}, RunOptions(), {})
    with pytest.raises(OptionInvalid, match="neither"):
        gather({}, RunOptions())


def test_categories_with_labels_of_both_kinds_get_a_threshold_each() -> None:
    judges = [*pairs_of(1), LabelledPair("one", "two", 0, "lonely")]
    told = evaluate(MODEL, Site([], judges))
    assert told.thresholds.keys() == {"", "faq", "code"}
    assert told.thresholds[""][1] == told.pairs == 31
    assert told.metrics.keys() == {"f05", "precision", "recall", "false_hit_rate"}


def test_pairs_of_one_label_judge_nothing() -> None:
    assert evaluate(MODEL, Site([], pairs_of(1, 10, 10))).pairs == 0
