"""Keys become tenants; only digests are known; without keys every credential is its own tenant."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth import ApiKey, Keyring, Role, Unauthorized


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


KEYRING = Keyring(
    (
        ApiKey(sha256=digest("acme-key"), tenant="acme", upstream_key="sk-acme"),
        ApiKey(sha256=digest("gate-key"), tenant="acme", may_set_user=True),
        ApiKey(sha256=digest("zeta-key").upper(), tenant="zeta", categories=frozenset({"faq"})),
        ApiKey(sha256=digest("root-key"), role=Role.ADMIN),
    )
)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({b"authorization": b"Bearer acme-key"}, id="bearer"),
        pytest.param({b"authorization": b"bearer   acme-key "}, id="bearer, loosely written"),
        pytest.param({b"x-api-key": b"acme-key"}, id="x-api-key"),
        pytest.param(
            {b"authorization": b"Bearer acme-key", b"x-api-key": b"acme-key"}, id="both the same"
        ),
    ],
)
def test_a_configured_key_names_its_tenant(headers: dict[bytes, bytes]) -> None:
    caller = KEYRING.caller(headers)
    assert (caller.tenant, caller.role, caller.upstream_key) == ("acme", Role.CLIENT, "sk-acme")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b"Bearer nobody"},
        {b"authorization": b"Basic acme-key"},
        {b"authorization": b"acme-key"},
        {b"authorization": digest("acme-key").encode()},
        {b"authorization": b"Bearer " + digest("acme-key").encode()},
        {b"authorization": b"Bearer acme-key", b"x-api-key": b"zeta-key"},
        {b"api-key": b"acme-key"},
    ],
)
def test_no_key_an_unknown_key_or_two_keys_are_refused(headers: dict[bytes, bytes]) -> None:
    for _ in range(2):  # a refusal is not remembered as a caller
        with pytest.raises(Unauthorized):
            KEYRING.caller(headers)


def test_a_key_carries_its_role_and_categories() -> None:
    assert KEYRING.caller({b"x-api-key": b"root-key"}).role is Role.ADMIN
    assert KEYRING.caller({b"x-api-key": b"zeta-key"}).categories == frozenset({"faq"})


def test_only_a_key_that_says_so_may_set_the_user() -> None:
    assert KEYRING.caller({b"x-api-key": b"gate-key"}).may_set_user
    assert not KEYRING.caller({b"x-api-key": b"acme-key"}).may_set_user
    assert not Keyring(()).caller({b"x-api-key": b"gate-key"}).may_set_user


def test_a_caller_is_told_apart_by_the_first_digits_of_its_keys_digest() -> None:
    for key in ("acme-key", "zeta-key", "root-key"):
        for headers in ({b"x-api-key": key.encode()}, {b"authorization": f"Bearer {key}".encode()}):
            assert KEYRING.caller(headers).key_id == digest(key)[:12]


def test_without_keys_a_credential_tells_callers_apart_and_none_has_no_id() -> None:
    ring = Keyring(())
    one, other = (ring.caller({b"authorization": b"Bearer " + key}) for key in (b"a", b"b"))
    assert ring.caller({}).key_id == ""
    assert len(one.key_id) == len(other.key_id) == 12
    assert one.key_id != other.key_id
    assert one.tenant.startswith(one.key_id)


def test_only_client_keys_count_as_tenants() -> None:
    assert KEYRING.tenants == 2
    assert Keyring(()).tenants == 1


def test_no_secret_shows_in_a_repr() -> None:
    assert "sk-acme" not in repr(KEYRING.caller({b"x-api-key": b"acme-key"}))


def test_without_keys_nobody_is_refused_and_no_credential_is_the_default_tenant() -> None:
    assert Keyring(()).anonymous
    assert Keyring(()).caller({}).tenant == "default"


credentials = st.fixed_dictionaries(
    {},
    optional={
        name: st.binary(min_size=1, max_size=8).filter(lambda v: b"\n" not in v)
        for name in (b"authorization", b"x-api-key", b"api-key")
    },
)


@given(credentials, credentials)
def test_without_keys_two_callers_share_a_tenant_only_if_they_send_the_same(
    a: dict[bytes, bytes], b: dict[bytes, bytes]
) -> None:
    ring = Keyring(())
    assert (ring.caller(a).tenant == ring.caller(b).tenant) == (a == b)


def test_remembered_callers_are_bounded_and_still_right_after_they_were_forgotten() -> None:
    ring = Keyring(())
    first = ring.caller({b"x-api-key": b"first"})
    for number in range(3000):
        ring.caller({b"x-api-key": str(number).encode()})
    assert len(ring._callers) <= 1024
    assert ring.caller({b"x-api-key": b"first"}) == first
