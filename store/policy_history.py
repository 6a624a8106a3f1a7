"""Which policies rule: the newest version in the document store, seeded by a file.

A file (or the starter file where none is configured) becomes a new version whenever its digest
changes; edits are new versions that never touch the file. Pure but for the records it is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from store.documents.records import AuditRow, PolicyVersion, Records, Source
from store.errors import PolicyInvalid, StoreUnavailable, VersionTaken
from store.policy import Offload, PolicyBook
from store.policy_file import (
    STARTER_FILE,
    book_as_data,
    parse_policies,
    policy_as_data,
    read_document,
)

TRIES = 5  # to be first
Change = tuple[str, str | None, object, object]  # action, category, before, after


@dataclass(frozen=True, slots=True)
class Seed:
    """A policies document from outside the store."""

    kind: Literal["file", "starter"]
    digest: str
    book: PolicyBook

    @property
    def name(self) -> str:
        """What a version that it seeded, or that was made on top of it, remembers of it."""
        return f"{self.kind}:{self.digest}"


def read_seed(file: Path | None) -> Seed:
    """Read the configured policies file, or the starter file for None; raise PolicyInvalid."""
    raw, book = read_document(file or STARTER_FILE)
    return Seed("starter" if file is None else "file", sha256(raw).hexdigest(), book)


def read_changed_seed(file: Path, digest: str) -> Seed | None:
    """Read a policies file unless its digest is this one; raise PolicyInvalid.

    Reading YAML takes 30 ms of the interpreter, so that it is not for looking whether it changed.
    """
    try:
        if sha256(file.read_bytes()).hexdigest() == digest:
            return None
    except OSError:
        pass  # said by reading it
    return read_seed(file)


def unjudged(seed: Seed) -> Seed:
    """Return a seed whose categories offload near-hits though nobody judges them: for a demo."""
    policies = {
        name: replace(policy, offload=Offload.UNJUDGED) if policy.offload is Offload.ON else policy
        for name, policy in seed.book.policies.items()
    }
    return replace(seed, digest=f"{seed.digest}+unjudged", book=PolicyBook(policies))


def takes_over(seed: Seed, latest: PolicyVersion | None) -> bool:
    """Whether a seed becomes a new version in place of the newest one.

    A file does whenever it is another than the last. The starter file does not do so over edits:
    it changes with an upgrade of Nearhit, and nobody meant to lose their edits by that.
    """
    if latest is None:
        return True
    if latest.seed == seed.name:
        return False
    edited = latest.seed.startswith("starter:") and latest.source != "starter"
    return not (seed.kind == "starter" and edited)


def read_version(version: PolicyVersion) -> PolicyBook:
    """Return the book of a stored version; raise PolicyInvalid if this Nearhit cannot read it."""
    return parse_policies(json.loads(version.document), f"stored policy version {version.number}")


def changes(before: PolicyBook | None, after: PolicyBook) -> Mapping[str, tuple[object, object]]:
    """Return what differs, as (before, after) of each category; None where it was not there."""
    old = {} if before is None else {n: policy_as_data(before[n]) for n in before.names}
    new = {name: policy_as_data(after[name]) for name in after.names}
    names = [*old, *(name for name in new if name not in old)]
    return {
        name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)
    }


class PolicyHistory:
    """The versions in the document store."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def current(self, seed: Seed, at: datetime) -> PolicyBook:
        """Return the book that rules, making a new version of the seed if it takes over.

        Of several processes that read one file, the first makes its version. Raises
        StoreUnavailable, and PolicyInvalid for a stored version that cannot be read.
        """
        for _ in range(TRIES):
            latest = await self._records.latest_version()
            if latest is not None and not takes_over(seed, latest):
                return read_version(latest)
            try:
                await self._seed(seed, latest, at)
                return seed.book
            except VersionTaken:
                continue
        raise StoreUnavailable("others change the policies all the time")

    async def _seed(self, seed: Seed, latest: PolicyVersion | None, at: datetime) -> None:
        try:
            before = None if latest is None else read_version(latest)
        except PolicyInvalid:  # written by another Nearhit: it is being replaced anyway
            before = None
        differing = changes(before, seed.book)
        old = {name: pair[0] for name, pair in differing.items()}
        new = {name: pair[1] for name, pair in differing.items()}
        who = "policies file" if seed.kind == "file" else "starter file"
        version = _version(seed.book, at, who, seed.kind, seed.name)
        audit = _audit(version, seed.kind, None, old, new)
        await self._records.add_version(version, audit, after=_number(latest))

    async def edit(
        self,
        book: PolicyBook,
        change: Change,
        who: str,
        at: datetime,
        *,
        base: PolicyBook,
        note: str = "",
        state: tuple[str, str] | None = None,
    ) -> int:
        """Make a version of an edit of `base`; return its number.

        `state` is a name and what is stored under it in the same step.

        An action that is not the policies' own, as "checkpoint.promote", is audited under its name.

        Raises VersionTaken when `base` is not what rules any more, StoreUnavailable, and
        PolicyInvalid when what rules cannot be read.
        """
        action, category, before, after = change
        latest = await self._records.latest_version()
        if latest is not None and read_version(latest) != base:
            raise VersionTaken("the policies have been changed meanwhile")
        seed = "" if latest is None else latest.seed
        source: Source = "rollback" if action == "rollback" else "api"
        version = replace(_version(book, at, who, source, seed), note=note)
        audit = _audit(version, action, category, before, after)
        return await self._records.add_version(version, audit, after=_number(latest), state=state)

    async def newest(self) -> tuple[int, PolicyBook | None]:
        """Return the newest version's number and book; 0 and None if there is none.

        Raises PolicyInvalid, StoreUnavailable.
        """
        version = await self._records.latest_version()
        return _number(version), None if version is None else read_version(version)

    async def latest(self) -> PolicyBook | None:
        """Return the newest version's book; None if there is none.

        Raises PolicyInvalid, StoreUnavailable.
        """
        version = await self._records.latest_version()
        return None if version is None else read_version(version)

    async def digest(self) -> str:
        """Return the digest of the newest version; "" if there is none. Raises StoreUnavailable."""
        latest = await self._records.latest_version()
        return "" if latest is None else sha256(latest.document.encode()).hexdigest()

    async def book(self, number: int) -> PolicyBook | None:
        """Return a version's book; None if there is none. Raises PolicyInvalid."""
        version = await self._records.version(number)
        return None if version is None else read_version(version)


def digest_of(book: PolicyBook) -> str:
    """Return the digest of a version that holds these policies."""
    return sha256(_document(book).encode()).hexdigest()


def _document(book: PolicyBook) -> str:
    return json.dumps(book_as_data(book))


def _number(version: PolicyVersion | None) -> int:
    return 0 if version is None else version.number


def _version(book: PolicyBook, at: datetime, who: str, source: Source, seed: str) -> PolicyVersion:
    return PolicyVersion(at=at, who=who, source=source, seed=seed, document=_document(book))


def _audit(
    version: PolicyVersion, action: str, category: str | None, before: object, after: object
) -> AuditRow:
    return AuditRow(
        at=version.at,
        who=version.who,
        action=action if "." in action else f"policy.{action}",
        category=category,
        before=None if before is None else json.dumps(before),
        after=None if after is None else json.dumps(after),
    )
