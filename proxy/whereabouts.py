"""Where the server of a data directory answers, and the proof that who answers there is that one.

The server leaves its address and a secret beside its lock. Both sides make the proof of the file in
their own directory: it is the same one only if the directory is. So neither another server that has
the port by now is taken for it, nor that of a directory which this one was copied from.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger("nearhit.whereabouts")

FILE = "nearhit.address"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listening there is listening here too


@contextmanager
def findable(directory: Path, listener: socket.socket) -> Iterator[None]:
    """Let commands find who listens there by its data directory, until the end.

    What one that was killed has left is replaced. A disk that is full keeps nobody from serving.
    """
    path = directory / FILE
    told = json.dumps({"url": url_of(listener), "secret": secrets.token_hex(16)})
    try:
        _write(path, told)
    except OSError as error:
        log.warning("commands will not find this server: %s", error)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            if path.read_text() == told:
                path.unlink()


def address(directory: Path) -> str | None:
    """Return the URL that the server of a directory has left, it may be long gone; None: none.

    Raises OSError where it may not be read.
    """
    told = _read(directory)
    return None if told is None else told["url"]


def proof(directory: Path, nonce: str) -> str | None:
    """Return what only who has this directory can say to `nonce`; None where nobody has served.

    Raises OSError.
    """
    told = _read(directory)
    if told is None:
        return None
    # The number of the file: a copy of the directory has another one.
    said = f"{nonce} {told['inode']}".encode()
    return hmac.digest(told["secret"].encode(), said, "sha256").hex()


def _read(directory: Path) -> dict[str, str] | None:
    try:
        with (directory / FILE).open(encoding="utf-8") as file:
            told = json.loads(file.read())
            inode = os.fstat(file.fileno()).st_ino
        return {"url": str(told["url"]), "secret": str(told["secret"]), "inode": str(inode)}
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    """Write it whole or not at all, for the owner's eyes; raise OSError."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def url_of(listener: socket.socket) -> str:
    """Return the URL at which this machine reaches what listens there."""
    host, port = listener.getsockname()[:2]
    host = _ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
