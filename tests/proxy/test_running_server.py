"""A command asks the server of its data directory, and no other that happens to listen."""

from __future__ import annotations

import asyncio
import shutil
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import aiohttp.client
import pytest
from aiohttp import web

from proxy.running_server import Unreachable, ask_server
from proxy.settings import Settings, load_settings
from proxy.whereabouts import FILE, address, findable, proof


class Server:
    """Listens as the server of a directory, and keeps what it was asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[tuple[str, str]] = []  # path, key
        self.seconds = 0.0  # that an answer takes

    async def identity(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("authorization", "")))
        return web.Response(text=proof(self.directory, request.query["nonce"]) or "")

    async def purge(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("authorization", "")))
        await asyncio.sleep(self.seconds)
        return web.json_response({"matched": 1, "purged": 1})

    async def listen(self, stack: AsyncExitStack, port: int = 0) -> socket.socket:
        """Listen until the stack is closed; on a free port, or on one that was another's."""
        listener = socket.create_server(("127.0.0.1", port))
        app = web.Application()
        app.router.add_get("/nearhit/identity", self.identity)
        app.router.add_post("/admin/api/purge", self.purge)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener).start()
        return listener


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def directory(place: Path, name: str) -> Path:
    made = place / name
    made.mkdir()
    return made


def settings_of(data_dir: Path, **server: Any) -> Settings:
    settings = load_settings(None, environ={}, **server)
    return settings.model_copy(update={"data_dir": data_dir})


async def purge(data_dir: Path, **server: Any) -> dict[str, Any]:
    return await ask_server(settings_of(data_dir, **server), "purge", {"all": True})


async def test_the_server_of_the_directory_is_asked_whatever_port_is_configured(
    tmp_path: Path, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARHIT_ADMIN_KEY", "root")
    ours, other = Server(directory(tmp_path, "a")), Server(directory(tmp_path, "b"))
    configured = await other.listen(stack)
    stack.enter_context(findable(ours.directory, await ours.listen(stack)))
    done = await purge(ours.directory, port=configured.getsockname()[1])
    assert (done["purged"], other.asked) == (1, [])
    assert ours.asked == [("/nearhit/identity", ""), ("/admin/api/purge", "Bearer root")]


async def test_another_server_on_the_port_of_one_that_was_killed_is_told_nothing(
    tmp_path: Path, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARHIT_ADMIN_KEY", "root")
    killed, other = directory(tmp_path, "a"), Server(directory(tmp_path, "b"))
    listener = await other.listen(stack)
    stack.enter_context(findable(other.directory, listener))
    stack.enter_context(findable(killed, listener))  # as kill -9 has left it
    with pytest.raises(Unreachable, match=r"is not the server of .*/a, which does not run") as told:
        await purge(killed)
    assert "\n" not in str(told.value)
    assert other.asked == [("/nearhit/identity", "")]
    assert (await purge(other.directory))["purged"] == 1


async def test_who_proves_nothing_is_told_nothing(tmp_path: Path, stack: AsyncExitStack) -> None:
    ours = directory(tmp_path, "a")
    stranger = Server(tmp_path)  # which has no such file
    stack.enter_context(findable(ours, await stranger.listen(stack)))
    with pytest.raises(Unreachable, match="is not the server of"):
        await purge(ours)


async def test_a_copy_of_the_directory_does_not_lead_to_the_server_of_the_original(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    ours = Server(directory(tmp_path, "a"))
    stack.enter_context(findable(ours.directory, await ours.listen(stack)))
    shutil.copytree(ours.directory, tmp_path / "copy")
    with pytest.raises(Unreachable, match=r"is not the server of .*/copy"):
        await purge(tmp_path / "copy")


async def test_where_nobody_serves_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no server has left its address in"):
        await purge(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed, ExitStack() as stack:
        stack.enter_context(findable(tmp_path, closed))
        closed.close()
        with pytest.raises(Unreachable, match="does not answer, where a server should") as told:
            await purge(tmp_path)
        assert "\n" not in str(told.value)
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(Unreachable, match="no server has left its address in"):
        await purge(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(Unreachable, match="where the server answers cannot be read: "):
        await purge(tmp_path)


async def test_long_work_is_waited_for(
    tmp_path: Path, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = aiohttp.ClientTimeout(total=0.05)  # in place of the library's five minutes
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", hasty)
    ours = Server(directory(tmp_path, "a"))
    ours.seconds = 0.3
    stack.enter_context(findable(ours.directory, await ours.listen(stack)))
    assert (await purge(ours.directory))["purged"] == 1


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}"),
        ("0.0.0.0", "http://127.0.0.1:{port}"),
        ("::", "http://[::1]:{port}"),
        ("::1", "http://[::1]:{port}"),
    ],
)
def test_the_address_is_one_that_can_be_asked_and_gone_at_the_end(
    tmp_path: Path, host: str, url: str
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        with findable(tmp_path, listener):
            assert address(tmp_path) == url.format(port=listener.getsockname()[1])
            assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == []


def test_the_next_servers_address_is_not_removed_by_the_last_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as last:
        last.enter_context(findable(tmp_path, listener))
        with findable(tmp_path, listener):
            last.close()
            assert address(tmp_path) is not None


def test_a_directory_that_cannot_be_written_keeps_nobody_from_serving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        findable(tmp_path / "missing", listener),
    ):
        assert "commands will not find this server" in caplog.text
