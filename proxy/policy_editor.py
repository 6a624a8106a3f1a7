"""Changing the policies in force: by the file, by an admin, by going back. One change at a time.

A change is checked whole, its prototypes are encoded, it is made durable, and only then swapped
in; whatever fails before that leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from embed.errors import EmbedError
from proxy.encoding import Encoding
from proxy.prototypes import Prototypes
from proxy.rules import InForce, Rules
from store.errors import PolicyInvalid, StoreUnavailable, VersionTaken
from store.journal import PolicyAdded, Record
from store.policy import DEFAULT_CATEGORY, Policy, PolicyBook
from store.policy_file import parse_policies, policy_as_data
from store.policy_history import Change, PolicyHistory, Seed, digest_of, read_changed_seed

log = logging.getLogger("nearhit.policies")

WATCH_EVERY = 2.0  # seconds between two looks at the file
Build = Callable[[PolicyBook, Encoding], Awaitable[Prototypes]]
Elsewhere = Callable[[], Awaitable[bool]]
Edited = tuple[PolicyBook, Change]  # the policies after an edit, and what it was


async def _nowhere() -> bool:
    return False


Seen = Callable[[PolicyBook], bool]  # whether policies are what whoever edits has looked at


def _anything(book: PolicyBook) -> bool:
    return True


def seen_of(book: PolicyBook, name: str) -> str:
    """Return what names a category as it is now, to see whether it still is; "": there is none."""
    return digest_of(PolicyBook({name: book[name]}))[:32] if name in book else ""


class NoSuchCategory(Exception):
    """There is no category of this name."""


class NoSuchVersion(Exception):
    """There is no policy version of this number."""


def _check_seen(seen: Seen, base: PolicyBook) -> None:
    if not seen(base):
        raise VersionTaken("the policies have been changed meanwhile")


class PolicyEditor:
    """The only writer of the policies in force."""

    def __init__(
        self,
        *,
        history: PolicyHistory,
        in_force: InForce,
        build: Build,
        seed: Seed,
        file: Path | None,
        on_change: Callable[[PolicyBook], None],
        clock: Callable[[], datetime],
    ) -> None:
        """`build` encodes a book's examples by the checkpoint that is to serve with them.

        `seed` is what the file said at start.
        """
        self._history = history
        self._in_force = in_force
        self._build = build
        self._seed = seed
        self._file = file
        self._on_change = on_change
        self._clock = clock
        self._turn = asyncio.Lock()
        self._added = asyncio.Event()  # another process has made a version
        self._refused = ""  # the file's fault that was logged last
        self._belongs_elsewhere: Elsewhere = _nowhere
        self._to_store: Callable[[], tuple[str, str] | None] = lambda: None

    @property
    def book(self) -> PolicyBook:
        """The policies in force."""
        return self._in_force.rules.book

    async def put(
        self, name: str, raw: Mapping[str, object], who: str, *, seen: Seen = _anything
    ) -> Policy:
        """Replace or add a category; only while the policies are as `seen` says they were.

        Raises PolicyInvalid, EmbedError, StoreUnavailable, and VersionTaken when others change
        the policies at the same time.
        """
        named = raw.get("name", name)
        if named != name:
            raise PolicyInvalid(
                [f"name: {named!r} is not allowed; allowed: {name!r} as in the path"]
            )
        given = parse_policies({"categories": [{**raw, "name": name}]}, "body")

        def edited(base: PolicyBook) -> Edited:
            _check_seen(seen, base)
            policies = dict(base.policies)
            policies[name] = given[name]
            before = policy_as_data(base[name]) if name in base else None
            # Once more as a whole: there is a bound on how many categories there may be.
            data = [policy_as_data(policy) for policy in policies.values()]
            book = parse_policies({"categories": data}, "body")
            return book, ("put", name, before, policy_as_data(book[name]))

        async with self._turn:
            await self._edit(edited, who)
            return self.book[name]

    async def delete(self, name: str, who: str, *, seen: Seen = _anything) -> None:
        """Remove a category; what it holds is not served from now on, and leaves.

        Only while the policies are as `seen` says. Raises NoSuchCategory, PolicyInvalid for
        `default`, EmbedError, StoreUnavailable, VersionTaken.
        """

        def edited(base: PolicyBook) -> Edited:
            if name not in base:
                raise NoSuchCategory(name)
            if name == DEFAULT_CATEGORY:
                raise PolicyInvalid([f"{name}: cannot be removed: every request needs a category"])
            _check_seen(seen, base)
            book = PolicyBook({n: p for n, p in base.policies.items() if n != name})
            return book, ("delete", name, policy_as_data(base[name]), None)

        async with self._turn:
            await self._edit(edited, who)

    async def rollback(self, number: int, who: str, *, seen: Seen = _anything) -> int:
        """Make an earlier version the newest; return its number.

        Only while the policies are as `seen` says.
        Raises NoSuchVersion, PolicyInvalid, EmbedError, StoreUnavailable, VersionTaken.
        """
        async with self._turn:
            book = await self._history.book(number)
            if book is None:
                raise NoSuchVersion(str(number))
            change: Change = ("rollback", None, None, {"version": number})

            def edited(base: PolicyBook) -> Edited:
                _check_seen(seen, base)
                return book, change

            return await self._edit(edited, who)

    async def version(self, number: int) -> PolicyBook | None:
        """Return what a version said; None if there is none. Raises PolicyInvalid."""
        return await self._history.book(number)

    async def reload(self) -> bool:
        """Look at the file; take it if it has changed. A bad one is logged, and nothing changes.

        Return whether it was taken. Raises StoreUnavailable.
        """
        if self._file is None:
            return False
        try:
            seed = await asyncio.to_thread(read_changed_seed, self._file, self._seed.digest)
            if seed is None:
                self._refused = ""  # mended by going back: the same fault again is a new one
                return False
            async with self._turn:
                prototypes = await self._built(seed.book)
                book = await self._history.current(seed, self._clock())
                if book != seed.book:  # another process took the file, and it was edited since
                    prototypes = await self._built(book)
                self._seed = seed
                self._swap(book, prototypes)
        except (PolicyInvalid, EmbedError) as error:
            if str(error) != self._refused:  # once, not every two seconds
                self._refused = str(error)
                log.error("%s is refused, the policies in force stay", self._file)
                for fault in str(error).split("\n"):
                    log.error("%s", fault)
            return False
        self._refused = ""
        log.info("%s has changed and is in force", self._file)
        return True

    async def exchange(
        self,
        encoding: Encoding,
        edited: Callable[[PolicyBook], Edited],
        who: str,
        *,
        state: tuple[str, str],
        note: str = "",
    ) -> None:
        """Put another checkpoint in force, with the policies that `edited` makes for it.

        Nothing is in force before all of it is durable: the version and `state`, the name and the
        text of what says which checkpoint it is for, in one step. Then policies, prototypes,
        encoder and score change in one step. Raises PolicyInvalid, EmbedError,
        StoreUnavailable, VersionTaken.
        """
        async with self._turn:
            base = self.book
            book, change = edited(base)
            prototypes = await self._build(book, encoding)
            now = self._clock()
            await self._history.edit(book, change, who, now, base=base, note=note, state=state)
            self._in_force.rules = Rules(book=book, prototypes=prototypes, encoding=encoding)
            self._on_change(book)

    async def take_over(self, encoding: Encoding, is_active: Callable[[], Awaitable[bool]]) -> bool:
        """Put a checkpoint in force that another replica has chosen, with the newest policies.

        Unless those belong to yet another one by now, which `is_active` says: return whether.
        Examples that it cannot encode now are made up for later. Raises PolicyInvalid,
        StoreUnavailable.
        """
        async with self._turn:
            book = await self._newest_if(is_active)
            if book is None:
                return False
            prototypes: Prototypes | None = None
            with suppress(EmbedError):
                prototypes = await self._build(book, encoding)
            self._in_force.rules = Rules(book=book, prototypes=prototypes, encoding=encoding)
            self._on_change(book)
            return True

    async def _newest_if(self, holds: Callable[[], Awaitable[bool]]) -> PolicyBook | None:
        """Return the newest policies if something held of the checkpoint that they came with.

        The two are written in one step, so what is read between two looks at one version is its.
        """
        while True:
            number, book = await self._history.newest()
            held = await holds()
            if (await self._history.newest())[0] == number:
                return book if held else None

    async def is_forgotten(self) -> bool:
        """Whether the store knows of no policies any more; raise StoreUnavailable."""
        return (await self._history.newest())[0] == 0

    def wait_for(self, others: Elsewhere, to_store: Callable[[], tuple[str, str]]) -> None:
        """Have others' versions wait while `others` says that they belong to another checkpoint.

        `to_store` says which one is in force, where the store has forgotten that.
        """
        self._belongs_elsewhere, self._to_store = others, to_store

    def apply(self, record: Record) -> None:
        """Note a version that another process has made; `watch` and `adopt` take it up."""
        if isinstance(record.change, PolicyAdded) and not record.own:
            self._added.set()

    async def adopt(self) -> bool:
        """Put the newest stored version in force if it is another; return whether it was.

        Where none is stored any more, the policies in force become one. Raises StoreUnavailable.
        """
        async with self._turn:
            return await self._take_up()

    async def _take_up(self) -> bool:
        try:
            if await self.is_forgotten():
                change: Change = ("restore", None, None, None)
                now, base, state = self._clock(), self.book, self._to_store()
                await self._history.edit(base, change, "nearhit", now, base=base, state=state)
                return False
            book = await self._newest_if(self._belongs_here)
            if book is None or book == self.book:
                return False
            self._swap(book, await self._built(book))
            return True
        except VersionTaken:
            self._added.set()  # somebody else's is there by now
            return False
        except (PolicyInvalid, EmbedError) as error:
            log.error("the policies of another replica are not in force here: %s", error)
            return False

    async def _belongs_here(self) -> bool:
        return not await self._belongs_elsewhere()

    async def follow(self) -> None:
        """Take up versions that other processes make, as they come."""
        while True:
            await self._added.wait()
            self._added.clear()
            try:
                await self.adopt()
            except StoreUnavailable as error:
                log.warning("the policies of another replica cannot be read: %s", error)
                await asyncio.sleep(WATCH_EVERY)
                self._added.set()

    async def watch(self) -> None:
        """Look at the file every two seconds, and make prototypes that are still owed."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            try:
                await self.reload()
                await self.make_up()
            except Exception:
                log.exception("the policies could not be looked after; trying again")

    async def make_up(self) -> bool:
        """Encode examples that are not encoded yet, at start or since the encoder failed.

        Return whether there are none left.
        """
        if self._in_force.rules.prototypes is not None:
            return True
        async with self._turn:
            try:
                prototypes = await self._built(self.book)
            except EmbedError as error:
                log.warning("categories cannot be told from texts yet: %s", error)
                return False
            self._in_force.rules = replace(self._in_force.rules, prototypes=prototypes)
            return True

    async def _edit(self, edited: Callable[[PolicyBook], Edited], who: str) -> int:
        """Make a version of what is edited; once more when another process was first."""
        try:
            return await self._edit_once(edited, who)
        except VersionTaken:
            await self._take_up()
            return await self._edit_once(edited, who)

    async def _edit_once(self, edited: Callable[[PolicyBook], Edited], who: str) -> int:
        base = self.book
        book, change = edited(base)
        prototypes = await self._built(book)
        number = await self._history.edit(book, change, who, self._clock(), base=base)
        self._swap(book, prototypes)
        return number

    async def _built(self, book: PolicyBook) -> Prototypes:
        """Return a book's prototypes by the checkpoint in force: only `exchange` changes that."""
        return await self._build(book, self._in_force.rules.encoding)

    def _swap(self, book: PolicyBook, prototypes: Prototypes) -> None:
        # What load has bent was bent from other policies: it begins anew from these.
        encoding = self._in_force.rules.encoding
        self._in_force.rules = Rules(book=book, prototypes=prototypes, encoding=encoding)
        self._on_change(book)
