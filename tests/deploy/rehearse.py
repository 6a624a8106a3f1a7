"""The image without Docker: `python -m tests.deploy.rehearse DIRECTORY [--serve]`.

Runs the Dockerfile's own commands under DIRECTORY instead of /, downloading 2 GB, then serves from
what came out and checks it. As root it serves like the container does: as the image's user, who may
write to its data only, and without a network. Left out: apt-get and the user's creation.
`--serve` checks what is built already.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.deploy.dockerfile import ROOT, Stage, let_through, stages

KEY = "rehearsal"
PATHS = ("/opt/nearhit", "/src", "/usr/local/bin", "/var/lib/nearhit", "/etc/nearhit")


def under(directory: Path, text: str) -> str:
    """Move every absolute path of the image that `text` names below `directory`."""
    for path in PATHS:
        text = text.replace(path, f"{directory}{path}")
    return text


def environment(directory: Path, stage: Stage) -> dict[str, str]:
    """Return what a command of this stage sees: how pip reaches its index here, and the stage's."""
    outside = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or "proxy" in k.lower()}
    path = f"{directory}/python/bin:/usr/local/bin:/usr/bin:/bin"
    inside = {k: under(directory, v).replace("$PATH", path) for k, v in stage.env.items()}
    python = {"LD_LIBRARY_PATH": f"{directory}/python/lib"}  # where it has a shared library
    return {"HOME": str(directory), "PATH": path, **python, **outside, **inside}


def copy(directory: Path, where: Path, value: str) -> None:
    """Do a COPY from the tree, of what .dockerignore lets through and git tracks."""
    *sources, target = value.split()
    tracked = subprocess.check_output(["git", "ls-files", *sources], cwd=ROOT, text=True).split()
    to = Path(under(directory, target)) if target.startswith("/") else where / target
    for name in filter(let_through, tracked):
        inside = [Path(name).relative_to(s) for s in sources if Path(name).is_relative_to(s)][0]
        file = to / inside if inside.parts else to / name if target.endswith("/") else to
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, file)


def build(directory: Path) -> None:
    """Do what the stages say, below `directory`."""
    # A Python of its own, as in the image: this one's may lie where only its owner may look.
    shutil.copytree(sys.base_prefix, directory / "python", symlinks=True, ignore=_of_no_use)
    (directory / "python" / "bin" / "python").unlink(missing_ok=True)
    (directory / "python" / "bin" / "python").symlink_to("python3.11")
    for stage in stages():
        where, environ = directory, environment(directory, stage)
        for step in stage.instructions:
            if step.name == "WORKDIR":
                where = Path(under(directory, step.value))
                where.mkdir(parents=True, exist_ok=True)
            elif step.name == "ARG":
                name, _, default = step.value.partition("=")
                environ.setdefault(name, default)
            elif step.name == "COPY" and not step.value.startswith("--from"):
                copy(directory, where, step.value)
            elif step.name == "RUN" and "apt-get" not in step.value:
                say(f"RUN {step.value[:90]}")
                command = ["sh", "-c", under(directory, step.value)]
                subprocess.run(command, cwd=where, env=environ, check=True)


def _of_no_use(_: str, names: list[str]) -> set[str]:
    return {"site-packages", "test", "share", "__pycache__"} & set(names)


class Upstream(BaseHTTPRequestHandler):
    """Answers every chat call alike; counts them, and keeps the credential that came."""

    calls: list[str] = []

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["content-length"]))
        self.calls.append(self.headers["authorization"])
        message = {"role": "assistant", "content": "Rayleigh."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps(answer | {"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(directory: Path, upstream: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the image's command as its user, with an upstream's key in a file."""
    image = stages()[-1]
    data, etc = (Path(under(directory, p)) for p in ("/var/lib/nearhit", "/etc/nearhit"))
    etc.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    entry = {"name": "fake", "base_url": upstream, "models": ["*"], "api_key_env": "UPSTREAM_KEY"}
    (etc / "nearhit.yaml").write_text(json.dumps({"data_dir": str(data), "upstreams": [entry]}))
    (etc / "upstream_key").write_text("of-the-upstream\n")
    keys = [{"sha256": sha256(KEY.encode()).hexdigest(), "tenant": "acme"}]
    environ = environment(directory, image) | {
        "NEARHIT_AUTH__KEYS": json.dumps(keys),
        "UPSTREAM_KEY_FILE": str(etc / "upstream_key"),
    }
    environ["PATH"] = f"{directory}/usr/local/bin:{environ['PATH']}"
    command = [*image.last_list("ENTRYPOINT"), *image.last_list("CMD")]
    command[0] = f"{directory}/usr/local/bin/{command[0]}"
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        uid, gid = map(int, image.values("USER")[-1].split(":"))
        os.chown(data, uid, gid)
        who = {"user": uid, "group": gid, "extra_groups": []}
    process = subprocess.Popen(command, cwd=data, env=environ, **who)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask() -> str:
    """Ask the proxy the same question as ever; return its Cache-Status."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    request = urllib.request.Request(
        "http://127.0.0.1:8080/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.headers["cache-status"])


def healthy(directory: Path, *path: str) -> bool:
    """Whether the image's health check, or that of another path, is content."""
    check = [sys.executable, "-IS", f"{directory}/usr/local/bin/nearhit-health", *path]
    return subprocess.run(check, capture_output=True).returncode == 0


def check(directory: Path) -> None:
    """Serve from what was built; raise AssertionError unless all is well."""
    packages = under(directory, "/opt/nearhit/lib/python3.11/site-packages")
    held = {p.name.split("-")[0].lower() for p in Path(packages).glob("*.dist-info")}
    for needless in ("pytest", "mypy", "ruff", "hypothesis", "xllamacpp", "pip"):
        assert needless not in held, f"{needless} is in the image"
    assert {"nearhit", "torch", "litellm"} <= held
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    Thread(target=upstream.serve_forever, daemon=True).start()
    began = time.time()
    with serving(directory, f"http://127.0.0.1:{upstream.server_port}/v1") as process:
        while not healthy(directory, "/ready"):
            assert process.poll() is None, f"ended with {process.returncode}"
            assert time.time() < began + 60, "not ready in 60 s"
            time.sleep(0.2)
        say(f"ready in {time.time() - began:.1f} s")
        assert healthy(directory)
        assert ask() == "nearhit; fwd=miss"
        again = ask()
        assert again.startswith("nearhit; hit;") and again.endswith("detail=exact"), again
        assert Upstream.calls == ["Bearer of-the-upstream"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, process.returncode
    written = [p for p in Path(under(directory, "/opt/nearhit")).rglob("*") if written_at(p, began)]
    assert not written, f"written outside the data: {written[:5]}"


def written_at(path: Path, began: float) -> bool:
    """Whether a path changed since then."""
    return path.lstat().st_mtime > began


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(line + "\n")


def main(arguments: list[str]) -> int:
    """Build unless `--serve`, then serve and check; return the exit status."""
    directory = Path(arguments[0]).absolute()
    if "--serve" not in arguments:
        build(directory)
        directory.chmod(0o755)
        if os.geteuid() == 0:  # a network of its own, with nothing but loopback
            again = [sys.executable, "-m", "tests.deploy.rehearse", str(directory), "--serve"]
            inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *again]
            return subprocess.run(["unshare", "--net", *inside], cwd=ROOT).returncode
        say("not root: serving as you, with the network")
    check(directory)
    say("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
