"""The checkpoints of a proxy: directories under `data_dir/checkpoints`, and what is known of each.

A directory is files alone. What the gate said of it, and what promoting it changed, are states by
name in the records, so that replicas share them and a restart finds them.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from embed.checkpoint import MANIFEST, Checkpoint
from embed.errors import CheckpointInvalid
from embed.publish import publish, publishing_lock
from proxy.checkpoints.refitting import Refit, Thresholds
from store.documents.records import Records

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PREFIX = "checkpoint:"  # of the states' names
_Mark = tuple[tuple[str, int, int], ...]  # of a directory's files: name, size, time of change


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What this proxy knows of a checkpoint besides its files."""

    verdict: Mapping[str, Any] | None = None  # the gate's last, as plain values
    judged_at: str = ""  # UTC, ISO 8601
    refused: str = ""  # why it cannot serve at all; "" if nothing is known against it
    forced: bool = False  # promoted in spite of the verdict
    over: str = ""  # the checkpoint in whose place it was promoted last
    changes: Mapping[str, Refit] = field(default_factory=dict)  # of that promotion
    calibration: Mapping[str, Any] | None = None  # for it, as plain values


@dataclass(frozen=True, slots=True)
class Listed:
    """A directory of the library: sound, or why not."""

    id: str
    checkpoint: Checkpoint | None
    fault: str


class Library:
    """Takes checkpoints in, and remembers what became of them."""

    def __init__(self, directory: Path, records: Records) -> None:
        self.directory = directory
        self._records = records
        self._seen: dict[str, tuple[_Mark, Listed]] = {}  # by id: hashing 100 MB takes its time

    def place(self, id: str) -> Path:
        """Return where a checkpoint of this id lies; raise CheckpointInvalid for no id."""
        if not _ID.fullmatch(id):
            raise CheckpointInvalid(f"{id!r} is no checkpoint's id")
        return self.directory / id

    async def take_in(self, source: Path) -> Checkpoint:
        """Copy a checkpoint's directory into the library; raise CheckpointInvalid or OSError.

        Every file is verified before and after. One that is there already is not copied again.
        """
        return await asyncio.to_thread(self._take_in, source)

    def _take_in(self, source: Path) -> Checkpoint:
        found = Checkpoint.load(source)
        target = self.place(found.id)

        def copy(fresh: Path) -> None:
            for name in (*found.files, MANIFEST):
                shutil.copyfile(source / name, fresh / name)
            Checkpoint.load(fresh)

        with publishing_lock(target, lambda: None):
            try:
                return Checkpoint.load(target)
            except CheckpointInvalid:
                publish(target, copy)
        return Checkpoint.load(target)

    async def load(self, id: str) -> Checkpoint:
        """Return the checkpoint of this id, verified; raise CheckpointInvalid."""
        place = self.place(id)
        found = await asyncio.to_thread(Checkpoint.load, place)
        if found.id != id:
            raise CheckpointInvalid(f"{place} holds {found.id}")
        return found

    async def listed(self) -> list[Listed]:
        """Return every directory of the library, the oldest checkpoint first."""
        return await asyncio.to_thread(self._listed)

    def _listed(self) -> list[Listed]:
        found = {}
        for place in self.directory.glob("*/" + MANIFEST):
            directory = place.parent
            if _ID.fullmatch(directory.name):  # not one that is being written
                mark = _mark_of(directory)
                known = self._seen.get(directory.name)
                same = known is not None and known[0] == mark
                listed = known[1] if known is not None and same else _look_at(directory)
                found[directory.name] = (mark, listed)
        self._seen = found
        return sorted((listed for _, listed in found.values()), key=_age)

    async def note(self, id: str) -> Note:
        """Return what is known of a checkpoint; raise StoreUnavailable."""
        return (await self.notes()).get(id, Note())

    async def notes(self) -> dict[str, Note]:
        """Return all that is known, by id; what cannot be read is left out."""
        states = await self._records.states()
        return {
            name.removeprefix(_PREFIX): note
            for name, state in states.items()
            if name.startswith(_PREFIX) and (note := note_of(state)) is not None
        }

    async def keep(self, id: str, note: Note) -> None:
        """Remember it in place of what was known; raise StoreUnavailable."""
        await self._records.save_state(_PREFIX + id, json.dumps(note_as_data(note)))

    async def change(self, id: str, **known: Any) -> Note:
        """Remember some of it; return all of it. Raise StoreUnavailable."""
        note = replace(await self.note(id), **known)
        await self.keep(id, note)
        return note


def _look_at(directory: Path) -> Listed:
    try:
        return Listed(directory.name, Checkpoint.load(directory), "")
    except CheckpointInvalid as error:
        return Listed(directory.name, None, str(error))


def _age(listed: Listed) -> tuple[float, str]:
    created = 0.0 if listed.checkpoint is None else listed.checkpoint.created.timestamp()
    return created, listed.id


def _mark_of(directory: Path) -> _Mark:
    # Of a link that leads nowhere there is the link itself.
    seen = [
        (path.name, path.stat() if path.exists() else path.lstat())
        for path in sorted(directory.iterdir())
    ]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in seen)


def note_as_data(note: Note) -> dict[str, Any]:
    """Return it as plain values for JSON."""
    return {
        "verdict": note.verdict,
        "judged_at": note.judged_at,
        "refused": note.refused,
        "forced": note.forced,
        "over": note.over,
        "changes": {
            name: [_cosines(change.before), _cosines(change.after)]
            for name, change in note.changes.items()
        },
        "calibration": note.calibration,
    }


def note_of(state: str) -> Note | None:
    """Return what a stored state says; None if it cannot be read."""
    try:
        said = json.loads(state)
        changes = {
            str(name): Refit(Thresholds(*before), Thresholds(*after))
            for name, (before, after) in said.pop("changes").items()
        }
        return Note(changes=changes, **said)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _cosines(thresholds: Thresholds) -> list[float | None]:
    return [thresholds.hit, thresholds.near, thresholds.context, thresholds.floor]
