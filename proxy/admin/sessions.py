"""Who is signed in to the dashboard: a signed cookie, so that any replica knows it.

The cookie names the key that signed in and when it ends; what the key may do is looked up anew each
time, so a key that is taken out of the configuration is signed out by that.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from proxy.auth import Caller, Keyring
from store.documents.records import Records
from store.errors import StoreUnavailable

COOKIE = "nearhit_session"
STATE = "dashboard-sessions"  # under which the secret is kept, for all replicas
_ASKED_EVERY = 5.0  # seconds between two looks at the store for a secret that others have made


def signed(key_id: str, ends: int, secret: bytes) -> str:
    """Return the cookie of a key's session that ends at Unix second `ends`."""
    told = f"{key_id}.{ends}"
    return f"{told}.{hmac.new(secret, told.encode(), sha256).hexdigest()}"


def signed_in(cookie: str, now: float, secret: bytes) -> str | None:
    """Return the id of the key that a cookie was given to; None if it is not ours or has ended."""
    key_id, _, rest = cookie.partition(".")
    ends, _, _ = rest.partition(".")
    if not (ends.isascii() and ends.isdigit() and len(ends) <= 12):
        return None
    if not hmac.compare_digest(signed(key_id, int(ends), secret).encode(), cookie.encode()):
        return None
    return key_id if now < int(ends) else None


class Sessions:
    """Gives cookies to those who sign in, and knows them again."""

    def __init__(
        self,
        keyring: Keyring,
        records: Records,
        lifetime: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`lifetime` in seconds; `clock` gives Unix seconds."""
        self.lifetime = lifetime
        self._keyring = keyring
        self._records = records
        self._clock = clock
        self._secret = b""
        self._asked = -_ASKED_EVERY

    async def cookie(self, caller: Caller) -> str:
        """Return the cookie of a session that begins now; raise StoreUnavailable."""
        await self._read()
        if not self._secret:
            made = secrets.token_hex(32)
            await self._records.save_state(STATE, made)
            await self._read()  # another replica may have made one as well: the last one counts
        return signed(caller.key_id, int(self._clock() + self.lifetime), self._secret)

    async def caller(self, cookie: str) -> Caller | None:
        """Return whose session a cookie is; None if it is nobody's, or has ended."""
        key_id = self._known(cookie)
        if key_id is None and self._clock() >= self._asked + _ASKED_EVERY:
            try:
                await self._read()
            except StoreUnavailable:
                return None
            key_id = self._known(cookie)
        return None if key_id is None else self._keyring.by_id(key_id)

    def _known(self, cookie: str) -> str | None:
        return signed_in(cookie, self._clock(), self._secret) if self._secret else None

    async def _read(self) -> None:
        self._asked = self._clock()
        self._secret = (await self._records.states()).get(STATE, "").encode()
