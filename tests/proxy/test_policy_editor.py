"""A change of policy is whole, durable and in force, or it did not happen."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from embed.errors import EncoderFailed
from proxy.encoding import Encoding
from proxy.policy_editor import (
    Edited,
    NoSuchCategory,
    NoSuchVersion,
    PolicyEditor,
    seen_of,
)
from proxy.prototypes import Prototypes
from proxy.rules import InForce
from store.errors import PolicyInvalid, StoreUnavailable, VersionTaken
from store.journal import PolicyAdded, Record
from store.policy import Policy, PolicyBook
from store.policy_history import PolicyHistory, Seed, read_seed
from tests.encodings import encoding_of, rules_of
from tests.entries import NOON
from tests.fakes_documents import MemoryDocuments

BOOK = PolicyBook({"default": Policy(name="default"), "faq": Policy(name="faq")})


class Desk:
    """An editor over a store and an encoder that can fail."""

    def __init__(self, book: PolicyBook = BOOK, file: Path | None = None) -> None:
        self.documents = MemoryDocuments()
        self.history = PolicyHistory(self.documents.records)
        self.in_force = InForce(rules_of(book))
        self.encodes = True
        self.builds = 0
        self.told: list[PolicyBook] = []
        self.seed = Seed("file", "1", book) if file is None else read_seed(file)
        self.editor = PolicyEditor(
            history=self.history,
            in_force=self.in_force,
            build=self.build,
            seed=self.seed,
            file=file,
            on_change=self.told.append,
            clock=lambda: NOON,
        )

    async def build(self, book: PolicyBook, encoding: Encoding) -> Prototypes:
        self.builds += 1
        if not self.encodes:
            raise EncoderFailed("the encoder is down")
        nothing = np.zeros((0, 0), np.float32)
        return Prototypes(
            checkpoint="c",
            digest=str(self.builds),
            names=(),
            vectors=nothing,
            weights=nothing,
            threshold=0.5,
        )

    async def versions(self) -> int:
        return len((await self.documents.records.versions(limit=100)).items)


async def opened(**arguments: Any) -> Desk:
    desk = Desk(**arguments)
    await desk.history.current(desk.seed, NOON)
    return desk


async def test_a_put_is_in_force_durable_and_told() -> None:
    desk = await opened()
    policy = await desk.editor.put("faq", {"hit_threshold": 0.97}, "key 1")
    assert policy == desk.in_force.rules.book["faq"] == Policy(name="faq", hit_threshold=0.97)
    assert desk.told == [desk.in_force.rules.book]
    assert await desk.versions() == 2
    assert await desk.history.current(desk.seed, NOON) == desk.in_force.rules.book


async def test_a_put_may_add_a_category() -> None:
    desk = await opened()
    await desk.editor.put("prices", {"ttl": "5m"}, "key 1")
    assert desk.editor.book.names == ["default", "faq", "prices"]


@pytest.mark.parametrize("name", ["A b", "", "x" * 65])
async def test_a_put_under_a_bad_name_is_refused(name: str) -> None:
    desk = await opened()
    with pytest.raises(PolicyInvalid):
        await desk.editor.put(name, {}, "key 1")
    assert desk.editor.book is BOOK


async def test_when_the_examples_cannot_be_encoded_nothing_changes() -> None:
    desk = await opened()
    before, desk.encodes = desk.in_force.rules, False
    with pytest.raises(EncoderFailed):
        await desk.editor.put("faq", {"examples": ["When do ferries leave?"]}, "key 1")
    with pytest.raises(EncoderFailed):
        await desk.editor.delete("faq", "key 1")
    assert desk.in_force.rules is before
    assert await desk.versions() == 1
    assert desk.told == []


async def test_when_the_store_fails_nothing_changes() -> None:
    desk = await opened()
    before = desk.in_force.rules
    desk.documents.records.failing = True
    with pytest.raises(StoreUnavailable):
        await desk.editor.put("faq", {"hit_threshold": 0.97}, "key 1")
    assert desk.in_force.rules is before


async def test_deleting_and_going_back_name_what_is_not_there() -> None:
    desk = await opened()
    with pytest.raises(NoSuchCategory):
        await desk.editor.delete("prices", "key 1")
    with pytest.raises(NoSuchVersion):
        await desk.editor.rollback(7, "key 1")


async def test_a_rollback_restores_a_deleted_category() -> None:
    desk = await opened()
    await desk.editor.delete("faq", "key 1")
    assert desk.editor.book.names == ["default"]
    assert await desk.editor.rollback(1, "key 1") == 3
    assert desk.editor.book == BOOK


async def test_concurrent_edits_lose_nothing() -> None:
    desk = await opened()
    await asyncio.gather(*(desk.editor.put(f"c{n}", {}, "key 1") for n in range(8)))
    assert set(desk.editor.book.names) == {"default", "faq", *(f"c{n}" for n in range(8))}
    assert await desk.versions() == 9


async def test_an_edit_of_what_nobody_looked_at_is_refused() -> None:
    desk = await opened()
    shown = seen_of(desk.editor.book, "faq")

    def as_shown(book: PolicyBook) -> bool:
        return seen_of(book, "faq") == shown

    await desk.editor.put("default", {"priority": 2}, "a")  # another category is no matter
    await desk.editor.put("faq", {"priority": 2}, "a", seen=as_shown)
    before = await desk.versions()
    for edit in (
        desk.editor.put("faq", {"priority": 3}, "b", seen=as_shown),
        desk.editor.delete("faq", "b", seen=as_shown),
        desk.editor.rollback(1, "b", seen=as_shown),
    ):
        with pytest.raises(VersionTaken):
            await edit
    assert (await desk.versions(), desk.editor.book["faq"].priority) == (before, 2)
    assert seen_of(desk.editor.book, "nothing") == ""


async def test_prototypes_that_are_owed_are_made_up_for() -> None:
    desk = await opened()
    desk.encodes = False
    assert not await desk.editor.make_up()
    desk.encodes = True
    assert await desk.editor.make_up()
    assert desk.in_force.rules.prototypes is not None
    assert await desk.editor.make_up()
    assert desk.builds == 2


def write(file: Path, *categories: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump({"categories": list(categories)}))


async def test_a_file_is_taken_when_it_changed_and_only_then(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    write(file, {"name": "faq"})
    desk = await opened(file=file)
    assert not await desk.editor.reload()
    write(file, {"name": "faq", "hit_threshold": 0.97})
    assert await desk.editor.reload()
    assert desk.editor.book["faq"].hit_threshold == 0.97
    assert not await desk.editor.reload()
    assert await desk.versions() == 2


async def test_a_bad_file_is_refused_once_and_taken_when_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "policies.yaml"
    write(file, {"name": "faq"})
    desk = await opened(file=file)
    write(file, {"name": "faq", "mode": "fuzzy"}, {"name": "other", "ttl": "soon"})
    for _ in range(3):
        assert not await desk.editor.reload()
    assert caplog.text.count("is refused") == 1
    assert "allowed: semantic | exact | off" in caplog.text
    assert "allowed: a duration" in caplog.text
    assert not [record for record in caplog.records if "\n" in record.getMessage()]  # a line each
    write(file, {"name": "faq", "mode": "exact"})
    assert await desk.editor.reload()


async def test_a_fault_that_comes_back_after_the_old_file_was_put_back_is_told_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "policies.yaml"
    write(file, {"name": "faq"})
    desk = await opened(file=file)
    for mode in ("fuzzy", "semantic", "fuzzy"):
        write(file, {"name": "faq", "mode": mode} if mode == "fuzzy" else {"name": "faq"})
        assert not await desk.editor.reload()
    assert caplog.text.count("is refused") == 2


async def test_a_file_whose_examples_cannot_be_encoded_is_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    write(file, {"name": "faq"})
    desk = await opened(file=file)
    write(file, {"name": "faq", "examples": ["When do ferries leave?"]})
    desk.encodes = False
    assert not await desk.editor.reload()
    desk.encodes = True
    assert await desk.editor.reload()


async def test_a_version_that_another_replica_made_comes_into_force() -> None:
    desk = await opened()
    other = PolicyBook({**BOOK.policies, "recipes": Policy(name="recipes")})
    await desk.history.edit(other, ("put", "recipes", None, None), "elsewhere", NOON, base=BOOK)
    following = asyncio.create_task(desk.editor.follow())
    desk.editor.apply(Record(1, PolicyAdded(2), own=True))  # our own is in force already
    await asyncio.sleep(0)
    assert "recipes" not in desk.in_force.rules.book
    desk.editor.apply(Record(2, PolicyAdded(2), own=False))
    for _ in range(100):
        await asyncio.sleep(0)
    assert desk.in_force.rules.book == other
    assert not await desk.editor.adopt()  # nothing is new
    following.cancel()


async def test_policies_in_force_are_stored_again_where_the_store_forgot_them() -> None:
    desk = Desk()
    assert await desk.versions() == 0
    assert not await desk.editor.adopt()
    assert (await desk.history.latest(), await desk.versions()) == (BOOK, 1)


async def test_a_version_that_cannot_be_taken_up_changes_nothing() -> None:
    desk = await opened()
    other = PolicyBook({**BOOK.policies, "recipes": Policy(name="recipes")})
    await desk.history.edit(other, ("put", "recipes", None, None), "elsewhere", NOON, base=BOOK)
    desk.encodes = False
    assert not await desk.editor.adopt()
    assert (desk.in_force.rules.book, desk.told) == (BOOK, [])


def beside(desk: Desk) -> Desk:
    """Return the desk of another process over the same store."""
    other = Desk(book=desk.editor.book)
    other.history = other.editor._history = desk.history
    other.documents = desk.documents
    return other


async def test_of_two_admins_who_edit_at_once_elsewhere_neither_loses_an_edit() -> None:
    desk = await opened()
    other = beside(desk)
    await desk.editor.put("faq", {"hit_threshold": 0.97}, "key 1")
    await other.editor.put("prices", {"ttl": "5m"}, "key 2")  # not yet told of the first
    assert other.editor.book["faq"].hit_threshold == 0.97
    assert "prices" in other.editor.book
    await desk.editor.adopt()
    assert desk.editor.book == other.editor.book
    assert await desk.versions() == 3


async def test_an_edit_that_somebody_else_is_always_faster_than_is_refused() -> None:
    desk = await opened()
    other, build = beside(desk), desk.build
    ttls = itertools.count(1)

    async def slow(book: PolicyBook, encoding: Encoding) -> Prototypes:
        await other.editor.adopt()
        await other.editor.put("prices", {"ttl": f"{next(ttls)}m"}, "key 2")
        return await build(book, encoding)

    desk.editor._build = slow
    with pytest.raises(VersionTaken):
        await desk.editor.put("faq", {"hit_threshold": 0.97}, "key 1")
    latest = await desk.history.latest()
    assert latest is not None and latest["faq"].hit_threshold != 0.97


async def test_a_file_that_another_process_took_and_that_was_edited_since_is_not_taken_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "policies.yaml"
    write(file, {"name": "faq"})
    desk = await opened(file=file)
    await desk.editor.adopt()
    other = Desk(book=desk.editor.book, file=file)
    other.history = other.editor._history = desk.history
    write(file, {"name": "faq", "ttl": "5m"})
    assert await other.editor.reload()
    await other.editor.put("faq", {"ttl": "6m"}, "key 1")
    assert await desk.editor.reload()
    assert desk.editor.book == other.editor.book
    assert await desk.versions() == 3


RAISED = PolicyBook({**BOOK.policies, "faq": Policy(name="faq", hit_threshold=0.97)})


def raised(book: PolicyBook) -> Edited:
    return RAISED, ("checkpoint.promote", None, None, {"checkpoint": "mini-2"})


async def exchanged(desk: Desk, encoding: Encoding) -> None:
    await desk.editor.exchange(encoding, raised, "ops", state=("serves", "mini-2"))


async def test_another_checkpoint_comes_with_its_policies_and_prototypes_in_one_step() -> None:
    desk, encoding = Desk(), encoding_of()
    await desk.editor.adopt()
    await exchanged(desk, encoding)
    rules = desk.in_force.rules
    assert (rules.encoding, rules.book) == (encoding, RAISED)
    assert rules.classifier == str(desk.builds)
    assert desk.told[-1] == RAISED
    assert await desk.documents.records.states() == {"serves": "mini-2"}
    row = (await desk.documents.records.audit(limit=1)).items[0]
    assert row.action == "checkpoint.promote"


@pytest.mark.parametrize("fault", ["store", "encoder"])
async def test_an_exchange_that_fails_leaves_what_is_in_force(fault: str) -> None:
    desk = Desk()
    await desk.editor.adopt()
    before = desk.in_force.rules
    desk.documents.records.failing = fault == "store"
    desk.encodes = fault != "encoder"
    with pytest.raises((StoreUnavailable, EncoderFailed)):
        await exchanged(desk, encoding_of())
    assert desk.in_force.rules is before


async def test_an_edit_after_an_exchange_is_encoded_by_the_new_checkpoint() -> None:
    desk, encoding = Desk(), encoding_of()
    await desk.editor.adopt()
    await exchanged(desk, encoding)
    await desk.editor.put("faq", {"hit_threshold": 0.96}, "ops")
    assert desk.in_force.rules.encoding is encoding
