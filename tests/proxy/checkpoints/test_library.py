"""Checkpoints are taken in whole, verified, and what became of them is remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embed.errors import CheckpointInvalid
from proxy.checkpoints.library import Library, Note, note_as_data, note_of
from proxy.checkpoints.refitting import Refit, Thresholds
from tests.embed.test_checkpoint import LINEAGE, edit, write
from tests.fakes_documents import MemoryDocuments

NOTE = Note(
    verdict={"passed": False, "reasons": ["too few"]},
    judged_at="2026-11-30T10:00:00+00:00",
    forced=True,
    changes={
        "code": Refit(Thresholds(0.92, 0.8, 0.9, None), Thresholds(0.85, 0.7, 0.8, None)),
        "x": Refit(Thresholds(0.6, 0.5, 0.8, 0.55), Thresholds(0.5, 0.4, 0.7, 0.45)),
    },
    calibration={"at": "now", "heads": {}},
)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "data" / "checkpoints", MemoryDocuments().records)


async def test_a_directory_is_copied_with_its_manifest_and_loads_by_its_id(
    library: Library, tmp_path: Path
) -> None:
    source = write(tmp_path / "made", lineage=LINEAGE)
    (source / "notes.txt").write_text("what the manifest does not vouch for stays behind")
    taken = await library.take_in(source)
    assert taken.directory == library.directory / taken.id
    assert taken.lineage == LINEAGE
    assert not (taken.directory / "notes.txt").exists()
    assert await library.load(taken.id) == taken
    again = await library.take_in(source)
    assert again == taken
    assert [each.id for each in await library.listed()] == [taken.id]


async def test_a_damaged_directory_is_not_taken_in(library: Library, tmp_path: Path) -> None:
    source = write(tmp_path / "made")
    (source / "model.onnx").write_text("other bytes")
    with pytest.raises(CheckpointInvalid, match="damaged: model.onnx"):
        await library.take_in(source)
    assert await library.listed() == []


async def test_one_that_was_damaged_in_the_library_is_named_and_taken_in_anew(
    library: Library, tmp_path: Path
) -> None:
    source = write(tmp_path / "made")
    taken = await library.take_in(source)
    (taken.directory / "model.onnx").write_text("other bytes")
    (listed,) = await library.listed()
    assert (listed.id, listed.checkpoint) == (taken.id, None)
    assert "damaged: model.onnx" in listed.fault
    assert await library.take_in(source) == taken
    assert (await library.listed())[0].checkpoint == taken


@pytest.mark.parametrize("id", ["", "../x", ".hidden", "a/b", "x" * 200])
async def test_what_is_no_id_leads_nowhere(id: str, library: Library) -> None:
    with pytest.raises(CheckpointInvalid, match="is no checkpoint's id"):
        await library.load(id)


async def test_a_directory_under_another_name_than_its_own_is_refused(
    library: Library, tmp_path: Path
) -> None:
    library.directory.mkdir(parents=True)
    write(library.place("other"))
    with pytest.raises(CheckpointInvalid, match="other holds minilm-l6-v2-"):
        await library.load("other")


async def test_what_is_known_of_a_checkpoint_is_kept(library: Library) -> None:
    assert await library.note("a") == Note()
    await library.keep("a", NOTE)
    changed = await library.change("a", refused="it does not run")
    assert changed.refused and changed.changes == NOTE.changes
    assert await library.notes() == {"a": changed}


def test_a_note_that_cannot_be_read_is_none() -> None:
    assert note_of(json.dumps(note_as_data(NOTE))) == NOTE
    for state in ("", "[]", "{}", '{"changes": {"a": 1}}', '{"changes": {}, "more": 1}'):
        assert note_of(state) is None


async def test_a_manifest_of_another_kind_is_listed_with_its_fault(
    library: Library, tmp_path: Path
) -> None:
    taken = await library.take_in(write(tmp_path / "made"))
    edit(taken.directory, format=99)
    (listed,) = await library.listed()
    assert "format is 99" in listed.fault


async def test_one_odd_directory_does_not_keep_the_others_from_being_listed(
    library: Library,
) -> None:
    library.directory.mkdir(parents=True)
    for name in ("a-1", "b-1", "c-1"):
        write(library.directory / name)
    edit(library.directory / "a-1", created="0001-01-01T00:00:00")
    edit(library.directory / "b-1", lineage={"parent": "x", "metrics": {"loss": 10**400}})
    (library.directory / "c-1" / "old.onnx").symlink_to("nowhere")
    assert [each.id for each in await library.listed()] == ["a-1", "b-1", "c-1"]
