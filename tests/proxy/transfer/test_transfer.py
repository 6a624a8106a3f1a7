"""What was exported from one store is in the other one; nothing of a bad file is."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from embed.encoder import Vectors
from embed.errors import EncoderFailed
from proxy import checkpoints_root
from proxy.cli import app
from proxy.transfer.importing import verdict
from store.documents.records import Pair
from store.documents.sqlite import FILE, SqliteDocuments
from store.entry import Entry, EntryId
from store.policy_history import PolicyHistory, read_seed
from store.transfer.values import Carried
from tests.entries import CHECKPOINT, DIMENSION, NOON, axis, entry

LONG = "why " * 100


class FakeEncoder:
    """Puts every text on one axis; long texts do not fit, and it can be made to fail."""

    checkpoint = "other"
    dimension = DIMENSION
    max_tokens = 100
    lasts = 1_000  # batches until it is gone

    def fits(self, text: str) -> bool:
        return len(text) < 200

    def first_window(self, text: str) -> str | None:
        return text[:200]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.lasts -= 1
        if self.lasts < 0 or "bad" in texts:
            raise EncoderFailed("the model is gone")
        return np.stack([axis(3) for _ in texts])

    async def aclose(self) -> None: ...


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    monkeypatch.delenv("NEARHIT_CONFIG", raising=False)
    fake = FakeEncoder()

    async def opened(*_: Any) -> FakeEncoder:
        return fake

    monkeypatch.setattr(checkpoints_root, "open_encoder", opened)
    return fake


def pair(event: str, seconds: int = 0, label: int = 1) -> Pair:
    return Pair(
        at=NOON + timedelta(seconds=seconds),
        tenant="harbour",
        event=event,
        query="q",
        entry_query="e",
        entry_id=EntryId("a"),
        similarity=0.9,
        label=label,
        category="default",
    )


@asynccontextmanager
async def store_in(directory: Path) -> Any:
    documents = SqliteDocuments.open(directory)
    try:
        yield documents
    finally:
        await documents.aclose()


def fill(directory: Path, *entries: Entry, pairs: Sequence[Pair] = (), stop: str = "") -> None:
    async def work() -> None:
        async with store_in(directory) as documents:
            for each in entries:
                await documents.put(each)
            for label in pairs:
                await documents.records.add_pair(label)
            if stop:
                await documents.records.quarantine(EntryId(stop), "", NOON, "wrong")

    asyncio.run(work())


def held(directory: Path) -> tuple[dict[str, Entry], list[Pair], list[tuple[EntryId, str]]]:
    """Return the entries in the order of their putting, the pairs, the oldest first, and stops."""

    async def work() -> Any:
        async with store_in(directory) as documents:
            ids = [each.held.id async for part in documents.load_all(10) for each in part]
            entries = {id: await documents.get(id) for id in ids}
            listed = await documents.records.pairs(limit=5_000)
            return entries, list(reversed(listed.items)), await documents.records.quarantined()

    found: tuple[dict[str, Entry], list[Pair], list[tuple[EntryId, str]]] = asyncio.run(work())
    return found


def run(command: str, file: Path | str, directory: Path, *more: str) -> Result:
    config = directory.parent / f"{directory.name}.yaml"
    config.write_text(f"data_dir: {directory}\n")
    return CliRunner().invoke(app, [command, str(file), "--config", str(config), *more])


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_everything_arrives_as_it_was_and_in_its_order(
    tmp_path: Path, encoder: FakeEncoder, name: str
) -> None:
    encoder.checkpoint = CHECKPOINT
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / name
    entries = [
        entry(f"e{n}", vector=axis(n % 8), body=bytes([n % 256]) * 300) if n % 2 else entry(f"e{n}")
        for n in range(300)
    ]
    fill(here, *entries, pairs=[pair(f"p{n}") for n in range(1_203)], stop="e7")
    done = run("export", file, here, "--json")
    assert json.loads(done.stdout) == {
        "file": str(file),
        "entries": 300,
        "policies": 0,
        "pairs": 1203,
        "quarantine": 1,
        "left_out": 0,
    }
    assert file.stat().st_mode & 0o777 == 0o600
    done = run("import", file, there, "--json")
    assert (done.exit_code, json.loads(done.stdout)["entries"]["stored"]) == (0, 300)
    mine, theirs = held(here), held(there)
    assert list(theirs[0]) == list(mine[0]) == [each.id for each in entries]
    for one, other in zip(mine[0].values(), theirs[0].values(), strict=True):
        assert one.body == other.body and one.created_at == other.created_at
        np.testing.assert_array_equal(one.vector, other.vector)
    assert theirs[1:] == mine[1:]
    again = json.loads(run("import", file, there, "--json").stdout)
    assert again["entries"]["already_there"] == 300
    assert (again["entries"]["stored"], again["pairs"], again["quarantine"]) == (0, 0, 0)


@pytest.mark.parametrize("flag", ["--vectors", "--no-vectors"])
def test_entries_of_another_checkpoint_are_encoded_as_admission_would(
    tmp_path: Path, flag: str
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "f.jsonl"
    past = {"earlier": ("one", LONG), "earlier_vectors": (axis(1), axis(2))}
    fill(
        here,
        entry("a", vector=axis(0), **past),
        entry("exact"),
        entry("long", vector=axis(0), query=LONG),
        entry("bad", vector=axis(0), query="bad"),
    )
    run("export", file, here, flag)
    told = json.loads(run("import", file, there, "--json").stdout)["entries"]
    assert (told["stored"], told["encoded"], told["exact_only"]) == (4, 3, 2)
    found = held(there)[0]
    assert found["a"].checkpoint == "other"
    np.testing.assert_array_equal(found["a"].vector, axis(3))
    assert [vector is None for vector in found["a"].earlier_vectors] == [False, True]
    for id in ("exact", "long", "bad"):  # what was not compared by meaning is not now either
        assert found[id].vector is None


def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path, encoder: FakeEncoder) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "f.jsonl"
    fill(here, *(entry(f"e{n}", vector=axis(0)) for n in range(200)), stop="e1")
    run("export", file, here)
    encoder.lasts = 5  # batches of 32
    done = run("import", file, there)
    assert (done.exit_code, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]  # a slow machine shows progress before
    assert last == "nearhit: the model is gone; the same command goes on where it was"
    some = len(held(there)[0])
    assert 0 < some < 200
    assert held(there)[2] == [("e1", "")]  # before any entry
    encoder.lasts = 1_000
    told = json.loads(run("import", file, there, "--json").stdout)["entries"]
    assert (told["already_there"], told["stored"]) == (some, 200 - some)


def test_nothing_of_an_altered_or_cut_file_is_imported(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "f.jsonl"
    fill(here, *(entry(f"e{n}") for n in range(9)), stop="e1")
    run("export", file, here)
    whole = file.read_bytes()
    for bad in (whole.replace(b"ferry e7", b"ferry e8"), whole[:-300]):
        file.write_bytes(bad)
        done = run("import", file, there)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"nearhit: {file}: line ") and done.stderr.count("\n") == 1
        assert not there.exists()
    packed = tmp_path / "f.jsonl.gz"
    packed.write_bytes(gzip.compress(whole)[:-20])
    assert "was cut or altered" in run("import", packed, there).stderr
    assert "cannot be imported" in run("import", "-", there).stderr


def test_a_used_directory_is_not_imported_into(tmp_path: Path) -> None:
    here, file = tmp_path / "here", tmp_path / "f.jsonl"
    fill(here, entry("a"))
    run("export", file, here)
    other = SqliteDocuments.open(here)
    done = run("import", file, here)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "is in use by process" in done.stderr
    assert run("export", file, here).exit_code == 0  # reading disturbs nobody
    asyncio.run(other.aclose())


def test_only_what_was_asked_for_is_exported_and_entries_bring_their_quarantine(
    tmp_path: Path,
) -> None:
    here, file = tmp_path / "here", tmp_path / "f.jsonl"
    fill(
        here,
        entry("a", category="x"),
        entry("b", tenant="quay", category="x"),
        entry("c"),
        pairs=[pair("p")],
        stop="a",
    )
    done = run("export", file, here, "--what", "entries", "--category", "x", "--json")
    told = json.loads(done.stdout)
    assert (told["entries"], told["pairs"], told["quarantine"]) == (2, 0, 1)
    told = json.loads(run("export", file, here, "--tenant", "quay", "--json").stdout)
    assert (told["entries"], told["pairs"], told["quarantine"]) == (1, 0, 1)
    done = run("export", file, here, "--what", "answers")
    assert done.exit_code == 2
    assert "'answers' is not allowed; allowed: entries, policies" in done.stderr


def test_damaged_entries_are_left_out_and_counted(tmp_path: Path) -> None:
    import sqlite3

    here, file = tmp_path / "here", tmp_path / "f.jsonl"
    fill(here, *(entry(f"e{n}") for n in range(4)))
    connection = sqlite3.connect(here / FILE)
    connection.execute("UPDATE entries SET query = 'another' WHERE id = 'e1'")
    connection.execute("UPDATE entries SET body = x'00' WHERE id = 'e2'")
    connection.commit()
    connection.close()
    told = json.loads(run("export", file, here, "--json").stdout)
    assert (told["entries"], told["left_out"]) == (2, 2)


def test_a_failed_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text("before")
    done = run("export", file, tmp_path / "nothing")
    assert (done.exit_code, file.read_text()) == (1, "before")
    fill(tmp_path / "here", entry("a"))
    done = run("export", tmp_path / "no" / "f.jsonl", tmp_path / "here")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


def test_policies_go_into_an_empty_store_only_and_outlive_the_start(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "f.jsonl"
    fill(here, entry("a", category="mine"))
    seed = read_seed(None)
    changed = type(seed.book)(
        {**seed.book.policies, "mine": type(seed.book["default"])(name="mine")}
    )

    async def edit(directory: Path) -> list[str]:
        async with store_in(directory) as documents:
            history = PolicyHistory(documents.records)
            book = await history.current(seed, NOON)
            if directory == here:
                await history.edit(changed, ("put", "mine", None, {}), "me", NOON, base=book)
            return book.names

    asyncio.run(edit(here))
    run("export", file, here)
    assert json.loads(run("import", file, there, "--json").stdout)["policies"] == "imported"
    assert "mine" in asyncio.run(edit(there))  # as a server would start
    assert json.loads(run("import", file, there, "--json").stdout)["policies"] == "left alone"
    again = run("import", file, there, "--json", "--what", "policies")
    assert json.loads(again.stdout)["policies"] == "unchanged"
    done = run("import", file, tmp_path / "third", "--what", "entries")
    assert "these policies do not know mine (1)" in done.stderr


def test_the_newer_of_two_entries_and_of_two_verdicts_stays(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "f.jsonl"
    older = NOON - timedelta(hours=1)
    fill(here, entry("a", created_at=older), entry("b"), pairs=[pair("p", -9), pair("r", 9)])
    fill(there, entry("a"), entry("b", created_at=older), pairs=[pair("p", label=0), pair("r")])
    run("export", file, here)
    told = json.loads(run("import", file, there, "--json").stdout)
    assert (told["entries"]["kept"], told["entries"]["stored"], told["pairs"]) == (1, 1, 1)
    entries, pairs, _ = held(there)
    assert {each.created_at for each in entries.values()} == {NOON}
    assert {each.event: each.label for each in pairs} == {"p": 0, "r": 1}


def test_which_entry_stays_is_the_operators_word() -> None:
    new, old = entry("a"), entry("a", created_at=NOON - timedelta(hours=1))
    assert verdict(Carried(old, False), None, "skip", "c") == "take"
    assert verdict(Carried(old, False), new, "replace", "c") == "take"
    assert verdict(Carried(new, False), old, "skip", "c") == "keep"
    assert verdict(Carried(new, True), new, "skip", CHECKPOINT) == "there"
    assert verdict(Carried(new, True), new, "newer", "other") == "take"  # encoded anew
