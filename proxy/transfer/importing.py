"""From an export that was read to its end into a document store.

Everything may be done again: what is there already is left alone, so that an interrupted import
goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from embed.encoder import Encoder
from proxy.transfer.encoding import encoded, made_for, needs_encoding
from proxy.transfer.files import ExportFile, Ticker
from store.documents.base import DocumentStore
from store.documents.records import BY_ADMIN, Bounds, Pair, PolicyVersion, Records
from store.entry import Entry, EntryId
from store.errors import TransferInvalid
from store.policy import PolicyBook
from store.policy_history import PolicyHistory, Seed, changes, read_version
from store.transfer.lines import LineReader
from store.transfer.values import Carried, Stop, Value, value_of

OnConflict = Literal["newer", "skip", "replace"]

_WHO = "nearhit import"
_ENTRIES_AT_ONCE = 64
_BYTES_AT_ONCE = 8 * 2**20  # of lines; the writer takes 64 MiB of entries at once
_PAIRS_LISTED = 1_000
_NAMES = {Carried: "entries", PolicyVersion: "policies", Pair: "pairs", Stop: "quarantine"}


@dataclass(slots=True)
class Checked:
    """What a file holds that has passed as a whole."""

    counts: Counter[str] = field(default_factory=Counter)  # as in `--what`
    dimensions: dict[str, int] = field(default_factory=dict)  # of vectors, by checkpoint
    policies: PolicyBook | None = None


@dataclass(slots=True)
class Imported:
    """What an import came to."""

    stored: int = 0  # entries that were written, the encoded ones among them
    encoded: int = 0
    exact_only: int = 0  # of the encoded, those that the encoder did not take
    already_there: int = 0
    kept: int = 0  # those of the store that are newer, or were not to be replaced
    pairs: int = 0  # that are new, here and below
    quarantine: int = 0
    policies: str = "left alone"  # or "imported", "unchanged"
    unknown_categories: Counter[str] = field(default_factory=Counter)  # entries in them

    def as_data(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "entries": {
                "stored": self.stored,
                "encoded": self.encoded,
                "exact_only": self.exact_only,
                "already_there": self.already_there,
                "kept": self.kept,
            },
            "pairs": self.pairs,
            "quarantine": self.quarantine,
            "policies": self.policies,
            "unknown_categories": dict(sorted(self.unknown_categories.items())),
        }


def values_in(file: ExportFile) -> Iterator[tuple[int, int, Value]]:
    """Yield line number, length in bytes and value; raise TransferInvalid where it is altered."""
    reader = LineReader()
    for raw in file.lines():
        data = reader.read(raw)
        if data["kind"] in ("header", "footer"):
            continue
        try:
            value = value_of(data)
        except ValueError as error:
            raise reader.refused(str(error)) from None
        yield reader.number, len(raw), value
    reader.end()


def check(file: ExportFile, tick: Ticker) -> Checked:
    """Read the file to its end and change nothing; raise TransferInvalid or PolicyInvalid."""
    checked = Checked()
    for number, _, value in values_in(file):
        checked.counts[_NAMES[type(value)]] += 1
        if isinstance(value, PolicyVersion):
            checked.policies = read_version(value)
        elif isinstance(value, Carried) and value.entry.vector is not None:
            has = len(value.entry.vector)
            known = checked.dimensions.setdefault(value.entry.checkpoint, has)
            if has != known:
                raise TransferInvalid(
                    f"line {number}: vector: {has} numbers are not allowed; allowed: {known},"
                    f" as in the others of checkpoint {value.entry.checkpoint}"
                )
        tick("checking: {:.0%}", file.share)
    return checked


class Importer:
    """Takes what a checked file holds, in its order."""

    def __init__(
        self,
        documents: DocumentStore,
        records: Records,
        *,
        encoder: Encoder | None,  # None where no entries are wanted
        max_batch: int,
        on_conflict: OnConflict,
        book: PolicyBook,
        tick: Ticker,
        at: datetime,
    ) -> None:
        self._documents = documents
        self._records = records
        self._encoder = encoder
        self._max_batch = max_batch
        self._on_conflict = on_conflict
        self._book = book
        self._tick = tick
        self._at = at
        self.came = Imported()

    async def take(self, file: ExportFile, checked: Checked, what: tuple[str, ...]) -> None:
        """Store what is wanted of the file.

        Raises StoreUnavailable, EncoderFailed, and TransferInvalid if the file was altered since
        it was checked, or would push a quarantine out of the store.
        """
        held = set(await self._records.quarantined())
        known = await self._pairs_known() if "pairs" in what else {}
        page: list[Carried] = []
        done = length = 0
        total = sum(checked.counts[name] for name in what)
        for _, size, value in values_in(file):
            if _NAMES[type(value)] not in what:
                continue
            done += 1
            if isinstance(value, Stop):
                await self._stop(value, held)
            elif isinstance(value, Pair):
                await self._label(value, known)
            elif isinstance(value, Carried):
                page.append(value)
                length += size
            if len(page) >= _ENTRIES_AT_ONCE or length >= _BYTES_AT_ONCE:
                await self._store(page)
                page, length = [], 0
            self._tick("importing: {} of {}", done, total)
        await self._store(page)

    async def _stop(self, stop: Stop, held: set[tuple[EntryId, str]]) -> None:
        if stop in held:
            return
        if len(held) >= Bounds().quarantine:  # the oldest would leave, and serve again
            raise TransferInvalid(
                f"quarantine: the store keeps {Bounds().quarantine}, and with the file's it would"
                " be more; lift some first"
            )
        why = _WHO if stop.tenant else BY_ADMIN + _WHO  # the file does not tell who stopped it
        await self._records.quarantine(stop.entry_id, stop.tenant, self._at, why)
        held.add(stop)
        self.came.quarantine += 1

    async def _label(self, pair: Pair, known: dict[tuple[str, str], datetime]) -> None:
        there = known.get((pair.tenant, pair.event))
        if there is None or there < pair.at:  # a tenant's last word counts
            await self._records.add_pair(pair)
            known[pair.tenant, pair.event] = pair.at
            self.came.pairs += 1

    async def _pairs_known(self) -> dict[tuple[str, str], datetime]:
        known: dict[tuple[str, str], datetime] = {}
        cursor = None
        while True:
            page = await self._records.pairs(limit=_PAIRS_LISTED, cursor=cursor)
            known |= {(pair.tenant, pair.event): pair.at for pair in page.items}
            cursor = page.next
            if cursor is None:
                return known

    async def _store(self, page: list[Carried]) -> None:
        """Write those of a page that belong into the store; all are durable on return."""
        encoder = self._encoder
        assert encoder is not None or not page
        if encoder is None:
            return
        chosen = newest_of_each(page)
        there = await asyncio.gather(*(self._documents.get(each.entry.id) for each in chosen))
        taken: list[Carried] = []
        for carried, stored in zip(chosen, there, strict=True):
            if carried.entry.category not in self._book:
                self.came.unknown_categories[carried.entry.category] += 1
            match verdict(carried, stored, self._on_conflict, encoder.checkpoint):
                case "take":
                    taken.append(carried)
                case "there":
                    self.came.already_there += 1
                case "keep":
                    self.came.kept += 1
        bare = [each.entry for each in taken if needs_encoding(each, encoder.checkpoint)]
        made = {entry.id: entry for entry in await encoded(bare, encoder, self._max_batch)}
        entries = [made.get(each.entry.id, each.entry) for each in taken]
        await asyncio.gather(*map(self._documents.put, entries))
        self.came.stored += len(entries)
        self.came.encoded += len(made)
        self.came.exact_only += sum(entry.vector is None for entry in made.values())


def newest_of_each(page: Sequence[Carried]) -> list[Carried]:
    """Return the page with no id twice: an entry that was replaced while it was exported."""
    newest: dict[EntryId, Carried] = {}
    for carried in page:
        other = newest.get(carried.entry.id)
        if other is None or other.entry.created_at <= carried.entry.created_at:
            newest[carried.entry.id] = carried
    return list(newest.values())


def verdict(
    carried: Carried, stored: Entry | None, on_conflict: OnConflict, checkpoint: str
) -> Literal["take", "there", "keep"]:
    """Return whether an entry is to be written over what the store has under its id.

    One of the same moment is the same entry; it is written again where it would be encoded anew.
    """
    if stored is None:
        return "take"
    entry = carried.entry
    if stored.created_at == entry.created_at and stored.checkpoint == made_for(carried, checkpoint):
        return "there"
    match on_conflict:
        case "replace":
            return "take"
        case "skip":
            return "keep"
    return "take" if entry.created_at >= stored.created_at else "keep"


async def take_policies(records: Records, seed: Seed, book: PolicyBook, at: datetime) -> str:
    """Make a version of the book on top of what rules now, unless that is the same.

    Return what became of it: "imported" or "unchanged". Raises StoreUnavailable, PolicyInvalid,
    and VersionTaken when somebody else changes the policies meanwhile.
    """
    history = PolicyHistory(records)
    ruling = await history.current(seed, at)
    differing = changes(ruling, book)
    if not differing:
        return "unchanged"
    before = {name: pair[0] for name, pair in differing.items()}
    after = {name: pair[1] for name, pair in differing.items()}
    await history.edit(book, ("import", None, before, after), _WHO, at, base=ruling)
    return "imported"
