"""Sessions of the dashboard: a cookie that cannot be made up, and ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.sessions import Sessions, signed, signed_in
from proxy.auth import ApiKey, Keyring, Role
from tests.fakes_documents import MemoryDocuments
from tests.fakes_records import MemoryRecords
from tests.harness import digest

SECRET = b"of this proxy"
ADMIN = ApiKey(sha256=digest("root"), role=Role.ADMIN)


class At:
    """A clock that tests set; Unix seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def sessions(records: MemoryRecords, clock: At, *keys: ApiKey) -> Sessions:
    return Sessions(Keyring(keys or (ADMIN,)), records, lifetime=100.0, clock=clock)


@given(st.text("0123456789abcdef", min_size=12, max_size=12), st.integers(1, 10**11))
def test_a_cookie_names_its_key_until_it_ends(key_id: str, ends: int) -> None:
    cookie = signed(key_id, ends, SECRET)
    assert signed_in(cookie, ends - 1, SECRET) == key_id
    assert signed_in(cookie, ends, SECRET) is None


@given(st.text(max_size=120))
def test_no_text_that_we_did_not_sign_is_a_session(cookie: str) -> None:
    assert signed_in(cookie, 0.0, SECRET) is None


@given(st.integers(0, 90), st.sampled_from("0123456789abcdef."))
def test_a_cookie_that_was_changed_anywhere_is_none(place: int, other: str) -> None:
    cookie = signed("0123456789ab", 1_000_000, SECRET)
    place = place % len(cookie)
    if cookie[place] == other:
        return
    assert signed_in(cookie[:place] + other + cookie[place + 1 :], 0.0, SECRET) is None


async def test_a_session_is_known_at_every_replica() -> None:
    records, clock = MemoryRecords(MemoryDocuments()), At(1000.0)
    here, elsewhere = sessions(records, clock), sessions(records, clock)
    caller = Keyring((ADMIN,)).by_id(ADMIN.sha256[:12])
    assert caller is not None
    cookie = await here.cookie(caller)
    for replica in (here, elsewhere):
        known = await replica.caller(cookie)
        assert known is not None and known.role is Role.ADMIN


async def test_a_session_ends_with_its_time_and_with_its_key() -> None:
    records, clock = MemoryRecords(MemoryDocuments()), At(1000.0)
    here = sessions(records, clock)
    caller = Keyring((ADMIN,)).by_id(ADMIN.sha256[:12])
    assert caller is not None
    cookie = await here.cookie(caller)
    without = sessions(records, clock, ApiKey(sha256=digest("other"), role=Role.ADMIN))
    assert await without.caller(cookie) is None
    clock.now += 100.0
    assert await here.caller(cookie) is None


async def test_a_strange_cookie_asks_the_store_once_in_a_while_only() -> None:
    records, clock = Counted(MemoryDocuments()), At(1000.0)
    here = sessions(records, clock)
    for _ in range(5):
        assert await here.caller("0123456789ab.2000.00") is None
    assert records.asked == 1
    clock.now += 5.0
    await here.caller("0123456789ab.2000.00")
    assert records.asked == 2


class Counted(MemoryRecords):
    """Records that count who asks for states."""

    asked = 0

    async def states(self) -> dict[str, str]:
        self.asked += 1
        return await super().states()


def test_a_part_of_an_id_is_no_key() -> None:
    keyring = Keyring((ADMIN,))
    assert keyring.by_id(ADMIN.sha256[:11]) is None
    assert keyring.by_id("") is None
