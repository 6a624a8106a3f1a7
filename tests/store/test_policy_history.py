"""The newest version rules; a file becomes one when it changes, and no upgrade loses an edit."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from store.documents.records import PolicyVersion
from store.errors import PolicyInvalid, VersionTaken
from store.policy import Policy, PolicyBook
from store.policy_file import policy_as_data
from store.policy_history import (
    PolicyHistory,
    Seed,
    changes,
    read_changed_seed,
    read_seed,
    read_version,
    takes_over,
)
from tests.entries import NOON
from tests.fakes_documents import MemoryDocuments
from tests.fakes_records import MemoryRecords

FAQ = Policy(name="faq", hit_threshold=0.9)


def book(*policies: Policy) -> PolicyBook:
    whole = {policy.name: policy for policy in policies}
    return PolicyBook({"default": Policy(name="default")} | whole)


def file(digest: str, *policies: Policy) -> Seed:
    return Seed("file", digest, book(*policies))


def starter(digest: str, *policies: Policy) -> Seed:
    return Seed("starter", digest, book(*policies))


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryDocuments().records


async def edit(history: PolicyHistory, edited: PolicyBook, who: str = "key 1") -> int:
    change = ("put", "faq", None, policy_as_data(edited["faq"]))
    base = await history.latest()
    assert base is not None
    return await history.edit(edited, change, who, NOON, base=base)


async def test_an_empty_store_is_seeded_by_the_file(records: MemoryRecords) -> None:
    ruling = await PolicyHistory(records).current(file("1", FAQ), NOON)
    assert ruling == book(FAQ)
    latest = await records.latest_version()
    assert latest is not None
    assert (latest.source, latest.who, latest.seed) == ("file", "policies file", "file:1")


async def test_the_same_file_leaves_an_edit_in_force(records: MemoryRecords) -> None:
    history = PolicyHistory(records)
    await history.current(file("1", FAQ), NOON)
    edited = book(Policy(name="faq", hit_threshold=0.95))
    await edit(history, edited)
    assert await history.current(file("1", FAQ), NOON) == edited
    assert (await records.versions(limit=10)).items[0].number == 2


async def test_a_changed_file_takes_over_from_edits(records: MemoryRecords) -> None:
    history = PolicyHistory(records)
    await history.current(file("1", FAQ), NOON)
    await edit(history, book(Policy(name="faq", hit_threshold=0.95)))
    changed = file("2", Policy(name="faq", hit_threshold=0.8))
    assert await history.current(changed, NOON) == changed.book


async def test_a_new_starter_file_does_not_take_over_from_edits(records: MemoryRecords) -> None:
    history = PolicyHistory(records)
    await history.current(starter("1"), NOON)
    edited = book(FAQ)
    await edit(history, edited)
    assert await history.current(starter("2"), NOON) == edited


async def test_a_new_starter_file_takes_over_from_an_old_one(records: MemoryRecords) -> None:
    history = PolicyHistory(records)
    await history.current(starter("1"), NOON)
    assert await history.current(starter("2", FAQ), NOON) == book(FAQ)


def version(source: str, seed: str) -> PolicyVersion:
    return PolicyVersion(at=NOON, who="x", source=source, seed=seed, document="{}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "latest", "takes"),
    [
        pytest.param(starter("1"), None, True, id="nothing stored"),
        pytest.param(file("1"), version("file", "file:1"), False, id="the same file"),
        pytest.param(file("2"), version("file", "file:1"), True, id="another file"),
        pytest.param(file("2"), version("api", "file:1"), True, id="another file over edits"),
        pytest.param(file("1"), version("api", "file:1"), False, id="edits of this file"),
        pytest.param(file("1"), version("api", "starter:1"), True, id="a file for the first time"),
        pytest.param(starter("1"), version("api", "file:1"), True, id="no file any more"),
        pytest.param(starter("2"), version("starter", "starter:1"), True, id="an upgrade"),
        pytest.param(starter("2"), version("api", "starter:1"), False, id="an upgrade over edits"),
        pytest.param(starter("2"), version("rollback", "starter:1"), False, id="over a rollback"),
    ],
)
def test_which_seed_takes_over(seed: Seed, latest: PolicyVersion | None, takes: bool) -> None:
    assert takes_over(seed, latest) is takes


async def test_an_edit_is_in_the_audit_trail_with_before_and_after(records: MemoryRecords) -> None:
    history = PolicyHistory(records)
    await history.current(file("1", FAQ), NOON)
    change = ("put", "faq", policy_as_data(FAQ), {"hit_threshold": 0.95})
    await history.edit(book(FAQ), change, "key 7", NOON + timedelta(hours=1), base=book(FAQ))
    row = (await records.audit(limit=1)).items[0]
    assert (row.who, row.action, row.category) == ("key 7", "policy.put", "faq")
    assert row.before is not None
    assert json.loads(row.before)["hit_threshold"] == 0.9
    assert row.after == '{"hit_threshold": 0.95}'


async def test_an_edit_of_what_rules_no_more_is_refused_and_changes_nothing(
    records: MemoryRecords,
) -> None:
    history, before = PolicyHistory(records), book(FAQ)
    await history.current(file("1", FAQ), NOON)
    first = book(Policy(name="faq", hit_threshold=0.95))
    await edit(history, first)
    change = ("delete", "faq", None, None)
    with pytest.raises(VersionTaken):
        await history.edit(book(), change, "key 2", NOON, base=before)
    assert await history.latest() == first
    assert len((await records.audit(limit=9)).items) == 2


async def test_a_file_that_several_processes_read_becomes_one_version(
    records: MemoryRecords,
) -> None:
    first, second = PolicyHistory(records), PolicyHistory(records)
    await first.current(file("1", FAQ), NOON)
    changed = file("2", Policy(name="faq", hit_threshold=0.95))
    await asyncio.gather(*(each.current(changed, NOON) for each in (first, second)))
    assert [version.number for version in (await records.versions(limit=9)).items] == [2, 1]


async def test_an_earlier_version_is_read_back(records: MemoryRecords) -> None:
    history = PolicyHistory(records)
    await history.current(file("1", FAQ), NOON)
    await edit(history, book(Policy(name="faq", hit_threshold=0.95)))
    assert await history.book(1) == book(FAQ)
    assert await history.book(99) is None


def test_a_version_that_cannot_be_read_is_named() -> None:
    odd = PolicyVersion(
        number=3, at=NOON, who="x", source="api", seed="", document='{"categories": [{"name": 1}]}'
    )
    with pytest.raises(PolicyInvalid, match="stored policy version 3"):
        read_version(odd)


def test_changes_name_what_came_went_and_differs() -> None:
    before = book(FAQ, Policy(name="old"))
    after = book(Policy(name="faq", hit_threshold=0.95), Policy(name="new"))
    found = changes(before, after)
    assert set(found) == {"faq", "old", "new"}
    assert found["old"][1] is None
    assert found["new"][0] is None


def test_a_seed_knows_its_file_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("categories: [{name: faq}]")
    first = read_seed(path)
    path.write_text("categories: [{name: faq}] ")
    assert first.kind == "file"
    assert first.digest != read_seed(path).digest
    assert read_seed(None).kind == "starter"


def test_a_file_that_has_not_changed_is_not_even_parsed(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    raw = b"categories: [{name: default"  # no YAML: to read it would be refused
    path.write_bytes(raw)
    assert read_changed_seed(path, sha256(raw).hexdigest()) is None
    with pytest.raises(PolicyInvalid):
        read_changed_seed(path, "another")
    path.write_text("categories: [{name: default, ttl: 2h}]\n")
    seed = read_changed_seed(path, sha256(raw).hexdigest())
    assert seed is not None
    assert seed == read_seed(path)
    path.unlink()
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        read_changed_seed(path, seed.digest)
