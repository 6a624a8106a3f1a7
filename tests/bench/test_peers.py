"""Peers run in environments of their own, on the same upstream, with the same requests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
import yaml

from bench import peers
from bench.peers import PEERS, install, measure_peers, peer_body
from bench.processes import Server, ServerFailed
from bench.stand import Base, write_config


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A stand of which nothing runs."""
    server = Server("http://127.0.0.1:9", pid=1, ready_seconds=0.1)
    return Base(
        server, server, server, server, server, server, write_config(tmp_path, server, server)
    )


def test_requests_are_what_every_peer_may_cache() -> None:
    body = orjson.loads(peer_body("hello?"))
    assert body == {
        "model": "bench",
        "temperature": 0,
        "messages": [{"role": "user", "content": "hello?"}],
    }


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_pointed_at_the_stands_upstream(peer: peers.Peer, base: Base) -> None:
    command = " ".join(peer.command(Path("/somewhere/bin/python"), base)(8123))
    assert command.endswith("--port 8123")
    told = [*peer.environment(base).values()]
    told += [path.read_text() for path in base.config.parent.glob("*.yaml")]
    assert any(base.upstream.origin + "/v1" in text for text in told)


def test_nearhit_gets_a_data_directory_of_its_own(base: Base) -> None:
    PEERS[0].command(Path(), base)
    ours = yaml.safe_load(base.config.with_name("nearhit-peer.yaml").read_text())
    cases = yaml.safe_load(base.config.read_text())
    assert ours["data_dir"] != cases["data_dir"]
    assert {**ours, "data_dir": 0} == {**cases, "data_dir": 0}


def test_a_peer_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...], **_: object) -> SimpleNamespace:
        commands.append(command)
        Path(tmp_path / "peer-all==1").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    assert install("peer[all]==1") == tmp_path / "peer-all==1" / "bin" / "python"
    assert [command[-1] for command in commands] == [str(tmp_path / "peer-all==1"), "peer[all]==1"]
    install("peer[all]==1")
    assert len(commands) == 2


def test_an_install_that_fails_says_why_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(returncode=1, stderr="no matching distribution")
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    for _ in range(2):
        with pytest.raises(ServerFailed, match="installing peer failed: no matching distribution"):
            install("peer")


async def test_a_peer_that_does_not_run_has_an_invalid_row(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = peers.Peer(
        name="broken",
        package=None,
        ready_path="/",
        command=lambda _python, _base: lambda _port: ("/bin/false",),
    )
    monkeypatch.setattr(peers, "PEERS", (broken,))
    [outcome] = await measure_peers(base, seconds=1)
    assert outcome.verdict == "invalid"
    assert "ended with status 1" in outcome.faults[0]
