"""What runs beside the proxy in its container: secrets from files, the health check, the set-up."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from proxy.settings import load_settings
from tests.deploy.dockerfile import ROOT
from tests.harness import free_port, proxy_running, settings_for

ENTRYPOINT = ROOT / "deploy" / "entrypoint.sh"
PATH = "/usr/local/bin:/usr/bin:/bin"


def entered(**environ: str) -> subprocess.CompletedProcess[str]:
    """Run `env` behind the entrypoint."""
    command = [str(ENTRYPOINT), "env"]
    return subprocess.run(command, env={"PATH": PATH, **environ}, capture_output=True, text=True)


def test_a_key_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-a 'b' $c `d`\n")
    seen = entered(OPENAI_API_KEY_FILE=str(tmp_path / "key"), OTHER="stays").stdout.splitlines()
    assert "OPENAI_API_KEY=sk-a 'b' $c `d`" in seen and "OTHER=stays" in seen
    assert not [line for line in seen if line.startswith("OPENAI_API_KEY_FILE")]


def test_other_variables_that_name_files_are_left_alone(tmp_path: Path) -> None:
    assert "SSL_CERT_FILE=/nowhere" in entered(SSL_CERT_FILE="/nowhere").stdout.splitlines()


def test_a_value_of_several_lines_names_no_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    seen = entered(TEXT=f"a\nEVIL_KEY_FILE={tmp_path / 'key'}")
    assert seen.returncode == 0 and "EVIL_KEY=x" not in seen.stdout


@pytest.mark.parametrize(
    ("content", "given", "fault"),
    [
        ("", {}, "is empty"),
        (None, {}, "cannot be read"),
        ("a", {"MY_KEY": "b"}, "MY_KEY and MY_KEY_FILE are both set"),
    ],
)
def test_a_secret_that_cannot_be_had_ends_the_start_in_one_line(
    tmp_path: Path, content: str | None, given: dict[str, str], fault: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    answer = entered(MY_KEY_FILE=str(tmp_path / "key"), **given)
    assert answer.returncode == 2 and answer.stdout == ""
    assert fault in answer.stderr and answer.stderr.count("\n") == 1


def health(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", str(ROOT / "deploy" / "health.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


async def test_the_health_check_asks_the_proxy(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, "http://127.0.0.1:9/v1")
    async with proxy_running(settings) as proxy:
        for path in ("/health", "/ready"):
            answer = await asyncio.to_thread(health, path, str(proxy.port))
            assert answer.returncode == 0, answer.stderr
        assert (await asyncio.to_thread(health, "/metricz", str(proxy.port))).returncode == 1


def test_the_health_check_fails_where_nothing_listens() -> None:
    answer = health("/health", str(free_port()))
    assert answer.returncode == 1 and "refused" in answer.stderr


def test_the_set_up_keeps_digests_only_and_never_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(ROOT / "deploy" / "setup.sh", tmp_path / "deploy")
    command = ["sh", script]
    environ = {"PATH": PATH, "OPENAI_API_KEY": "sk-upstream"}
    printed = subprocess.check_output(command, env=environ, text=True)
    keys = [line.split()[-1] for line in printed.splitlines()]
    kept = (tmp_path / ".env").read_text()
    name, _, value = kept.strip().partition("=")
    settings = json.loads(value.strip("'"))
    assert name == "NEARHIT_AUTH__KEYS"
    assert [key["sha256"] for key in settings] == [sha256(k.encode()).hexdigest() for k in keys]
    assert len(set(keys)) == 2 and not any(key in kept for key in keys)
    secrets = tmp_path / "deploy" / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert (secrets / "openai_api_key").read_text() == "sk-upstream"
    password = (secrets / "redis_password").read_text()
    assert len(password) == 64

    subprocess.run(command, env=environ, check=True, capture_output=True)
    assert (tmp_path / ".env").read_text() == kept
    assert (secrets / "redis_password").read_text() == password


def set_up_with(directory: Path, *tools: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up on a machine that has these tools only."""
    (directory / "deploy").mkdir()
    script = shutil.copy(ROOT / "deploy" / "setup.sh", directory / "deploy")
    (directory / "bin").mkdir()
    for tool in ("sh", "od", "tr", "cut", "mkdir", "chmod", "dirname", *tools):
        found = shutil.which(tool, path=PATH)
        assert found is not None, tool
        (directory / "bin" / tool).symlink_to(found)
    environ = {"PATH": str(directory / "bin"), "OPENAI_API_KEY": "sk-upstream"}
    return subprocess.run(["/bin/sh", script], env=environ, capture_output=True, text=True)


@pytest.mark.parametrize("tool", ["sha256sum", "shasum", "openssl"])
def test_the_set_up_takes_whatever_makes_digests_here(tmp_path: Path, tool: str) -> None:
    client, admin = (line.split()[-1] for line in set_up_with(tmp_path, tool).stdout.splitlines())
    kept = (tmp_path / ".env").read_text()
    assert all(sha256(key.encode()).hexdigest() in kept for key in (client, admin))


def test_the_set_up_makes_no_keys_that_nothing_can_be_known_by(tmp_path: Path) -> None:
    done = set_up_with(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs sha256sum, shasum or openssl" in done.stderr
    assert not (tmp_path / ".env").exists()


def test_the_set_up_leaves_folders_of_secrets_open_to_their_owner(tmp_path: Path) -> None:
    (tmp_path / "deploy" / "secrets" / "federated").mkdir(parents=True, mode=0o700)
    script = shutil.copy(ROOT / "deploy" / "setup.sh", tmp_path / "deploy")
    subprocess.run(["sh", script], env={"PATH": PATH}, check=True, capture_output=True)
    folder = tmp_path / "deploy" / "secrets" / "federated"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_set_ups_keys_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = sha256(b"k").hexdigest()
    monkeypatch.setenv("NEARHIT_AUTH__KEYS", json.dumps([{"sha256": digest, "role": "admin"}]))
    settings = load_settings(ROOT / "deploy" / "sidecar.yaml", host="0.0.0.0")
    assert settings.auth.keys[0].role == "admin"
