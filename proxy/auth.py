"""Who is calling: API keys to tenants and roles. Only digests of keys are kept.

Every credential is hashed before it is looked up, so that comparison time tells nothing of the key.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_KEY_ID = 12  # hex digits: enough to tell keys apart, and no help to whoever wants one
_REMEMBERED = 1024  # credentials whose caller is kept, so that a hot key is hashed once


class Role(StrEnum):
    """What a key may do."""

    CLIENT = "client"
    VIEWER = "viewer"  # reads the admin pages
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A configured key."""

    sha256: str  # hex digest of the key
    tenant: str = "default"
    role: Role = Role.CLIENT
    categories: frozenset[str] | None = None  # that X-Nearhit-Category may name; None: all
    upstream_key: str | None = field(default=None, repr=False)  # goes upstream for this tenant
    may_set_user: bool = False  # its X-Nearhit-User is believed


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose request this is."""

    tenant: str
    role: Role = Role.CLIENT
    categories: frozenset[str] | None = None
    upstream_key: str | None = field(default=None, repr=False)
    may_set_user: bool = False
    key_id: str = ""  # which key it was, for limits and the audit trail; "": none was sent


class Unauthorized(Exception):
    """No key, or one that is not configured."""


class Keyring:
    """The configured keys. With none, every credential is its own tenant and goes upstream."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = {key.sha256.lower(): key for key in keys}
        self._callers: OrderedDict[tuple[bytes, ...], Caller] = OrderedDict()

    @property
    def anonymous(self) -> bool:
        """Whether no keys are configured."""
        return not self._keys

    @property
    def tenants(self) -> int:
        """How many tenants the client keys name; 1 when anonymous."""
        return len({k.tenant for k in self._keys.values() if k.role is Role.CLIENT}) or 1

    def by_id(self, key_id: str) -> Caller | None:
        """Return whose configured key has this id; None: no such key is configured."""
        for digest, key in self._keys.items():
            if digest.startswith(key_id) and len(key_id) == _KEY_ID:
                return _caller(key)
        return None

    def of_tenant(self, tenant: str) -> Caller:
        """Return a tenant's caller as the first client key that is configured for it makes one."""
        for key in self._keys.values():
            if key.tenant == tenant and key.role is Role.CLIENT:
                return _caller(key)
        return Caller(tenant=tenant)

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return who sent these headers (names in lower case); raise Unauthorized."""
        presented = tuple([headers.get(name, b"") for name in CREDENTIALS])
        known = self._callers.get(presented)
        if known is not None:
            self._callers.move_to_end(presented)
            return known
        caller = self._anonymous(presented) if self.anonymous else self._configured(presented)
        self._callers[presented] = caller
        if len(self._callers) > _REMEMBERED:
            self._callers.popitem(last=False)
        return caller

    def _anonymous(self, presented: tuple[bytes, ...]) -> Caller:
        if not any(presented):
            return Caller(tenant="default")
        digest = sha256(b"\n".join(presented)).hexdigest()
        return Caller(tenant=digest[:32], key_id=digest[:_KEY_ID])

    def _configured(self, presented: tuple[bytes, ...]) -> Caller:
        authorization, api_key = presented[:2]
        scheme, _, token = authorization.partition(b" ")
        bearer = token.strip() if scheme.lower() == b"bearer" else b""
        if bearer and api_key and bearer != api_key:
            raise Unauthorized("Authorization and x-api-key carry different keys: send one")
        if not (bearer or api_key):
            raise Unauthorized("no API key: send Authorization: Bearer KEY or x-api-key: KEY")
        digest = sha256(bearer or api_key).hexdigest()
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.sha256.lower(), digest):
            raise Unauthorized("this API key is not known here")
        return _caller(key)


def _caller(key: ApiKey) -> Caller:
    return Caller(
        tenant=key.tenant,
        role=key.role,
        categories=key.categories,
        upstream_key=key.upstream_key,
        may_set_user=key.may_set_user,
        key_id=key.sha256.lower()[:_KEY_ID],
    )
