"""Traces are replayed as they are, and ours is told apart from what it is compared with."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import orjson
import pytest

from bench import eviction
from bench.eviction import (
    CATEGORIES,
    compare,
    filled,
    main,
    make_room_and_add,
    nearhit,
    read_trace,
    rivals_table,
    time_eviction,
    time_touch,
)
from bench.rivals import RIVALS, fifo, lru
from store.entry import EntryId

# Two that are asked for all the time (h, k), and a crowd that comes once.
SCANNED = list("hkhk" + "abc" + "hkhk" + "def" + "hkhk" + "gij" + "hkhk")


def write_trace(folder: Path, name: str, keys: list[str]) -> Path:
    """Write keys in the form in which the public traces are read."""
    path = folder / f"trace_cache2k_{name}.csv.gz"
    rows = "".join(f"{number},{key},0\n" for number, key in enumerate(keys))
    path.write_bytes(gzip.compress(f"seq,key,type\n{rows}".encode()))
    return path


def skewed(length: int) -> list[str]:
    """Return requests of which a few keys make up the most."""
    order = random.Random(3)
    weights = [1 / (rank + 1) for rank in range(400)]
    return [f"k{n}" for n in order.choices(range(400), weights, k=length)]


def test_a_trace_is_its_keys_in_order(tmp_path: Path) -> None:
    assert read_trace(write_trace(tmp_path, "web07", ["7", "3", "7"])) == ["7", "3", "7"]


def test_a_crowd_that_comes_once_does_not_push_out_what_is_asked_for_all_the_time() -> None:
    assert lru(SCANNED, 4) == fifo(SCANNED, 4) == 8  # both are lost in every crowd
    assert nearhit(SCANNED, 4) == 13  # one of them, once


def test_fifo_forgets_what_lru_remembers() -> None:
    keys = list("abacada")
    assert (lru(keys, 2), fifo(keys, 2)) == (3, 2)


def test_in_ours_the_oldest_of_equals_leaves() -> None:
    assert nearhit(list("abcbc" + "a"), 2) == 2
    assert nearhit(list("abca"), 2) == 0


def test_the_reading_is_the_difference_of_the_hit_ratios_in_points() -> None:
    reading = compare(SCANNED, 4)
    assert reading.parts["nearhit hit %"] == pytest.approx(100 * 13 / len(SCANNED))
    assert reading.parts["LRU hit %"] == pytest.approx(100 * 8 / len(SCANNED))
    assert reading.value == pytest.approx(100 * 5 / len(SCANNED))
    assert min(reading.parts[f"{name} us"] for name in ("nearhit", "LRU", "FIFO")) > 0


@pytest.mark.parametrize("name", RIVALS)
def test_with_room_for_all_a_rival_misses_every_key_once(name: str) -> None:
    keys = skewed(600)
    room = 2000  # also of the smallest window
    assert RIVALS[name](keys, room) == len(keys) - len(set(keys))


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_in_a_small_room_hits_less_than_in_a_large_one(name: str) -> None:
    keys = skewed(4000)
    small, large = RIVALS[name](keys, 20), RIVALS[name](keys, 100)
    assert 0 < small < large < len(keys) - len(set(keys))


def test_rivals_that_count_uses_beat_lru_where_a_few_keys_make_up_the_most() -> None:
    keys = skewed(4000)
    for name in ("LFU-DA", "LRFU, halving in 4 n", "SLRU, half protected", "S3-FIFO"):
        assert RIVALS[name](keys, 40) > lru(keys, 40), name


def test_ours_is_lrfu_that_halves_in_as_many_references_as_are_held() -> None:
    keys = skewed(4000)
    assert nearhit(keys, 40) == pytest.approx(RIVALS["LRFU, halving in 1 n"](keys, 40), rel=0.02)


def test_a_full_house_stays_full_and_within_its_quotas() -> None:
    occupancy, ids = filled(200)
    assert len(occupancy) == len(ids) == occupancy.capacity.entries
    make_room_and_add(occupancy, EntryId("new"), "category-3")
    assert len(occupancy) == 200 and EntryId("new") in occupancy
    assert ids[3] not in occupancy
    assert {occupancy.entries(name) for name in occupancy.categories} == {200 // CATEGORIES}


def test_the_table_of_rivals_has_a_line_a_policy_and_a_column_a_trace_and_room() -> None:
    lines = rivals_table({"web07": SCANNED, "orm-busy": list("aa")}, {"LRU": lru}).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("| policy | web07 256 | web07 1024 |")
    assert {line.count("|") for line in lines} == {8}
    assert lines[2].endswith("| 0.5000 | 0.5000 | 0.5000 |")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms for short traces, and few operations to time."""
    monkeypatch.setattr(eviction, "ROOMS", (20, 40))
    monkeypatch.setattr(eviction, "TOUCHES", 2000)
    monkeypatch.setattr(eviction, "MAKES", 200)


@pytest.mark.usefixtures("small")
def test_times_are_positive_and_say_among_how_many() -> None:
    assert time_touch(100).value > 0
    reading = time_eviction(1000)
    assert 0 < reading.value <= reading.parts["p99 us"] <= reading.parts["longest us"]
    assert reading.parts["entries"] == 1000


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_command_prints_tables_and_writes_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path, "web07", skewed(3000))
    write_trace(tmp_path, "orm-busy", skewed(1000))
    results = tmp_path / "results" / "eviction.json"
    given = ["--data", str(tmp_path), "--rounds", "1", "--rivals", "--results", str(results)]
    main(given)
    printed, _ = capsys.readouterr()
    assert "| web07, 20 entries: hit % above LRU's |" in printed
    assert "| S3-FIFO |" in printed
    record = orjson.loads(results.read_bytes())
    verdicts = {row["case"]: row["verdict"] for row in record["rows"]}
    assert verdicts.keys() == {
        *("web07-20", "web07-40", "orm-busy-20", "orm-busy-40", "touch", "evict")
    }
    assert verdicts["web07-20"] == verdicts["orm-busy-40"] == "pass"
    assert record["machine"]["cores"] >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_command_fails_when_ours_is_not_ahead(tmp_path: Path) -> None:
    write_trace(tmp_path, "web07", list("abc") * 20)  # all have room for three
    write_trace(tmp_path, "orm-busy", list("abc") * 20)
    given = ["--data", str(tmp_path), "--rounds", "1", "--results", str(tmp_path / "r.json")]
    assert main(given) == 1


def test_without_the_traces_the_command_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEARHIT_DATA", raising=False)
    with pytest.raises(SystemExit):
        main([])
    assert "NEARHIT_DATA" in capsys.readouterr().err
