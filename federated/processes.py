"""Flower's own processes, started and ended in the right order: a SuperLink, SuperNodes, a run.

Each gets a home of its own (FLWR_HOME), and nothing asks or tells anybody outside: no telemetry, no
look for updates, no packages fetched while it runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Say = Callable[[str], None]
Value = bool | int | float | str

PACKAGE = Path(__file__).resolve().parent  # the Flower app's directory
CONNECTION = "nearhit"  # the SuperLink's name in FLWR_HOME/config.toml
START = 60.0  # seconds until a SuperLink answers
STOP = 10.0  # seconds that a process gets before the next signal
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray forks where gRPC runs already; gRPC's own care for the child may crash it at once.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


class FlowerFailed(Exception):
    """A process of Flower's did not do its work; the lines say what it said last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM files: who vouches for the SuperLink, and with what it proves to be itself."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a SuperLink listens on the loopback."""

    control: int
    fleet: int
    app: int


class Flower:
    """A SuperLink, the SuperNodes that join it, and runs. Leaving the block ends all of them."""

    def __init__(
        self, home: Path, *, tls: Tls | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Keep everything in `home`; with `tls` nothing is sent in the clear."""
        self._home, self._tls = home.absolute(), tls
        self._home.mkdir(parents=True, exist_ok=True)
        binaries = str(Path(sys.executable).parent)
        self._environ = {**environ, **QUIET, "FLWR_HOME": str(self._home)}
        self._environ["PATH"] = os.pathsep.join([binaries, environ.get("PATH", os.defpath)])
        self._superlink: subprocess.Popen[bytes] | None = None
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: Ports | None = None

    def __enter__(self) -> Flower:
        """Nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs: nodes first, since a node without its SuperLink tries again for long."""
        for process in self._nodes.values():  # at once: each takes its seconds
            _signal(process, signal.SIGTERM)
        for name in list(self._nodes):
            self.stop_supernode(name)
        if self._superlink is not None:
            end(self._superlink)
            self._superlink = None

    def superlink(
        self, ports: Ports, *, simulation: bool = False, known_nodes_only: bool = False
    ) -> None:
        """Start the SuperLink, and return once it answers; raise FlowerFailed.

        With `simulation` it runs sites itself; with `known_nodes_only` (needs TLS) a SuperNode must
        have been registered by its key.
        """
        command = [
            *("flower-superlink", "--isolation", "subprocess"),
            *("--control-api-address", f"127.0.0.1:{ports.control}"),
            *("--serverappio-api-address", f"127.0.0.1:{ports.app}"),
            "--disable-runtime-dependency-installation",
        ]
        if simulation:
            command.append("--simulation")
        else:
            command += ["--fleet-api-address", f"127.0.0.1:{ports.fleet}"]
        if known_nodes_only:
            command.append("--enable-supernode-auth")
        command += self._server_tls()
        self._ports = ports
        self._write_connection(ports)
        self._superlink = self._start(command, "superlink")
        deadline = time.monotonic() + START
        while self._flwr("list", CONNECTION).returncode != 0:
            if self._superlink.poll() is not None or time.monotonic() > deadline:
                raise FlowerFailed(f"the SuperLink does not answer:\n{self.log('superlink')}")

    def register(self, public_key: Path) -> None:
        """Let the SuperNode with this key (OpenSSH, NIST curve) join; raise FlowerFailed."""
        answer = self._flwr("supernode", "register", str(public_key), CONNECTION)
        if answer.returncode != 0:
            raise FlowerFailed(answer.stdout + answer.stderr)

    def supernode(
        self,
        name: str,
        port: int,
        config: Mapping[str, Value],
        *,
        key: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start a site's SuperNode; `port` is for its own processes, `key` proves who it is."""
        assert self._ports is not None, "the SuperLink comes first"
        command = [
            *("flower-supernode", "--superlink", f"127.0.0.1:{self._ports.fleet}"),
            *("--clientappio-api-address", f"127.0.0.1:{port}"),
            *("--node-config", as_config(config)),
            *self._client_tls(),
        ]
        if key is not None:
            command += ["--auth-supernode-private-key", str(key)]
        self._nodes[name] = self._start(command, name, environ)

    def stop_supernode(self, name: str, *, kill: bool = False) -> None:
        """End a SuperNode; with `kill` as a crash would."""
        process = self._nodes.pop(name)
        if kill:
            _signal(process, signal.SIGKILL)
        end(process)

    def run(
        self,
        config: Mapping[str, Value],
        say: Say,
        *,
        federation: Mapping[str, Value] | None = None,
        timeout: float = 3600.0,
    ) -> None:
        """Run the app, its lines going to `say`; raise FlowerFailed unless it ends well."""
        command = ["run", str(PACKAGE), CONNECTION, "--stream", "--run-config", as_config(config)]
        if federation:
            command += ["--federation-config", as_config(federation)]
        lines: list[str] = []
        with subprocess.Popen(
            self._command(["flwr", *command]),
            env=self._environ,
            cwd=self._home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            timer = threading.Timer(timeout, process.kill)
            timer.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    lines.append(line.rstrip())
                    say(lines[-1])
            except BaseException:
                process.kill()
                raise
            finally:
                timer.cancel()
        said = "\n".join(lines[-30:])
        started = re.search(r"Successfully started run (\d+)", "\n".join(lines))
        if started is None:
            raise FlowerFailed(f"the run did not start:\n{said}")
        if (status := self._status(started[1])) != "finished:completed":
            raise FlowerFailed(f"the run ended as {status}:\n{said}")

    def log(self, name: str) -> str:
        """Return what a process has said: `superlink`, or a SuperNode by its name."""
        return (self._home / f"{name}.log").read_text(errors="replace")

    def _status(self, run: str) -> str:
        """Return how a run stands; it may take Flower a moment to note that it has ended."""
        for _ in range(20):
            answer = self._flwr("list", CONNECTION, "--run-id", run, "--format", "json")
            found = re.search(r"\{.*\}", answer.stdout, re.DOTALL)
            runs = json.loads(found[0]).get("runs", []) if found else []
            status = str(runs[0]["status"]) if runs else "unknown"
            if status.startswith("finished"):
                return status
            time.sleep(0.5)
        return status

    def _server_tls(self) -> list[str]:
        if self._tls is None:
            return ["--insecure"]
        return [
            *("--ssl-ca-certfile", str(self._tls.authority)),
            *("--ssl-certfile", str(self._tls.certificate)),
            *("--ssl-keyfile", str(self._tls.key)),
        ]

    def _client_tls(self) -> list[str]:
        if self._tls is None:
            return ["--insecure"]
        return ["--root-certificates", str(self._tls.authority)]

    def _write_connection(self, ports: Ports) -> None:
        lines = ["[superlink]", f'default = "{CONNECTION}"', "", f"[superlink.{CONNECTION}]"]
        lines.append(f'address = "127.0.0.1:{ports.control}"')
        if self._tls is None:
            lines.append("insecure = true")
        else:
            lines.append(
                f"root-certificates = {json.dumps(str(self._tls.authority), ensure_ascii=False)}"
            )
        (self._home / "config.toml").write_text("\n".join(lines) + "\n")

    def _start(
        self, command: Sequence[str], name: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self._home / f"{name}.log").open("ab") as log:
            return _detached(
                self._command(command), {**self._environ, **(environ or {})}, self._home, log
            )

    def _flwr(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(["flwr", *words]),
            env=self._environ,
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=START,
        )

    def _command(self, command: Sequence[str]) -> list[str]:
        return [str(Path(sys.executable).parent / command[0]), *command[1:]]


def as_config(values: Mapping[str, Value]) -> str:
    """Return values as Flower's command line wants them: `key=value key="text"`."""
    # TOML knows no pairs of escapes, as JSON has for an emoji.
    told = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return " ".join(f"{key}={value}" for key, value in told.items())


def end(process: subprocess.Popen[bytes], patience: float = STOP) -> None:
    """End a process and all of its children: asked twice, then killed."""
    for seconds in (patience, patience, None):
        _signal(process, signal.SIGKILL if seconds is None else signal.SIGTERM)
        try:
            process.wait(seconds)
            break
        except subprocess.TimeoutExpired:
            continue
    _signal(process, signal.SIGKILL)  # children that outlived it


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _detached(
    command: Sequence[str], environ: Mapping[str, str], place: Path, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, so that Ctrl-C reaches it through `end` alone."""
    return subprocess.Popen(
        command,
        env=environ,
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
