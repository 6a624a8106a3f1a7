"""The lines of an export: a header, one value a line, a footer.

Each line is a JSON object that ends in `"crc"`: a CRC-32 over everything before it in the line and
over the line before, so that the first line that was altered, moved or lost is known by its
number. The footer's SHA-256 is over all bytes before the footer: what passes is what was written.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.errors import TransferInvalid
from store.transfer.values import Data

FORMAT = "nearhit-export"
VERSION = 1
# In this order. Quarantine before entries: an import then never has an entry that may not serve
# before it knows so.
KINDS = ("header", "policy", "quarantine", "pair", "entry", "footer")
_SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"\}\n')
_SEAL_LENGTH = len(b',"crc":"00000000"}\n')


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the first line says. It is for people; each entry names its own checkpoint."""

    at: datetime
    nearhit: str  # the version that wrote it
    checkpoint: str | None  # that of the newest entry; here and below None: there was none
    dimension: int | None
    vectors: bool
    what: tuple[str, ...]
    category: str = ""  # what was asked for alone; "": everything
    tenant: str = ""

    def as_data(self) -> Data:
        """Return the object of the line."""
        return {
            "kind": "header",
            "format": FORMAT,
            "version": VERSION,
            "at": self.at.isoformat(),
            "nearhit": self.nearhit,
            "checkpoint": self.checkpoint,
            "dimension": self.dimension,
            "vectors": self.vectors,
            "what": self.what,
            "category": self.category,
            "tenant": self.tenant,
        }


class LineWriter:
    """Turns objects into lines, in the order of KINDS; keeps nothing but sums."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._crc = 0
        self._whole = hashlib.sha256()

    def line(self, data: Data) -> bytes:
        """Return the next line; ValueError for what JSON cannot say."""
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        content = text.encode()[:-1]
        self._crc = zlib.crc32(content, self._crc)
        raw = b'%b,"crc":"%08x"}\n' % (content, self._crc)
        self._whole.update(raw)
        if data["kind"] != "header":
            self.counts[data["kind"]] += 1
        return raw

    def footer(self) -> bytes:
        """Return the last line."""
        digest = self._whole.hexdigest()
        return self.line({"kind": "footer", "counts": dict(self.counts), "sha256": digest})


class LineReader:
    """Turns lines into objects. Nothing of a file counts until `end` has passed."""

    def __init__(self) -> None:
        self.number = 0  # of the line that was read last
        self.counts: Counter[str] = Counter()
        self.ended = False
        self._place = 0  # in KINDS
        self._crc = 0
        self._whole = hashlib.sha256()

    def read(self, raw: bytes) -> Data:
        """Return the object of the next line; raise TransferInvalid if it is not as written."""
        self.number += 1
        if self.ended:
            raise self.refused("stands after the footer: the file was altered")
        if self.number == 1:
            _check_format(raw)
        content, seal = raw[:-_SEAL_LENGTH], _SEAL.fullmatch(raw[-_SEAL_LENGTH:])
        if seal is None:
            cut = "" if raw.endswith(b"\n") else " or cut"
            raise self.refused(f"has no checksum at its end: it was altered{cut}")
        self._crc = zlib.crc32(content, self._crc)
        if int(seal[1], 16) != self._crc:
            raise self.refused("does not match its checksum: it, or a line before it, was altered")
        try:
            data: Data = json.loads(content + b"}")
        except (ValueError, RecursionError) as error:
            raise self.refused(f"is not JSON: {error}") from None
        self._count(data)
        self._whole.update(raw)
        return data

    def end(self) -> None:
        """Say that there are no more lines; raise TransferInvalid if one is missing."""
        if self.number == 0:
            raise TransferInvalid("line 1: the file is empty; allowed: what nearhit export wrote")
        if not self.ended:
            raise self.refused("is the last one, and no footer: the file was cut")

    def refused(self, why: str) -> TransferInvalid:
        """Return what to raise about the line that was read last."""
        return TransferInvalid(f"line {self.number}: {why}")

    def _count(self, data: Any) -> None:
        kind = data.get("kind") if isinstance(data, dict) else None
        if kind not in KINDS:
            raise self.refused(f"kind: {kind!r} is not allowed; allowed: {', '.join(KINDS)}")
        place = KINDS.index(kind)
        if place < self._place or (place == 0) != (self.number == 1):
            raise self.refused(f"{kind} is out of order; allowed: {', '.join(KINDS)}")
        self._place = place
        if kind == "footer":
            if data.get("sha256") != self._whole.hexdigest() or data.get("counts") != self.counts:
                raise self.refused("the file's SHA-256 or its counts do not match: it was altered")
            self.ended = True
        elif kind != "header":
            self.counts[kind] += 1


def _check_format(raw: bytes) -> None:
    """Refuse another file, or one of another version, by what it says and not by its checksum."""
    try:
        data = json.loads(raw)
        name, version = data["format"], data["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name, version = None, None
    if name != FORMAT:
        raise TransferInvalid("line 1: is not the first one of what nearhit export wrote")
    if version != VERSION:
        raise TransferInvalid(
            f"line 1: version: {version!r} is not allowed; this Nearhit reads version {VERSION}"
        )
