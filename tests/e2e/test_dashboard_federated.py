"""The page of the checkpoints: judged before it is promoted, followed, stopped, gone back from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import numpy as np
import pytest

from embed.checkpoint import Checkpoint, Lineage, Precision, Source, write_manifest
from embed.encoder import Vectors
from proxy import sides
from tests.checkpoints_made import label
from tests.e2e.test_dashboard import KEYS
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, policies, proxy_running, settings_for
from tests.word_encoder import DIMENSION, WordEncoder, direction

PAGE = "/admin/federated"
HISTORY = (
    {"round": 0, "judged": 40, "f05": 0.71, "precision": 0.7, "recall": 0.75},
    {"round": 1, "judged": 41, "f05": 0.78, "precision": 0.8, "recall": 0.7},
    {"round": 2, "judged": 41, "f05": 0.8, "precision": 0.82, "recall": 0.72},
)
LINEAGE = Lineage(parent="deaf", rounds=2, clients=3, pairs=412, history=HISTORY)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(sides, "GRACE", 0.05)


class DeafEncoder(WordEncoder):
    """To this one no text is like another."""

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return np.stack([direction(self.checkpoint, text, DIMENSION) for text in texts])


def trained(directory: Path) -> Checkpoint:
    """Make a checkpoint's directory with stand-ins for its files."""
    directory.mkdir(parents=True)
    for name in ("model.onnx", "model-int8.onnx", "tokenizer.json"):
        (directory / name).write_text(name)
    return write_manifest(
        directory,
        name="words",
        dimension=DIMENSION,
        max_tokens=100,
        precision=Precision.FP32,
        source=Source(package="none", version="1", licence="MIT"),
        lineage=LINEAGE,
    )


class Reader:
    """Looks at the page, and sends its forms."""

    def __init__(self, proxy: Proxy, session: aiohttp.ClientSession) -> None:
        self.proxy = proxy
        self._session = session
        self.slow = 0.0  # seconds that a promoted encoder takes for a batch

    async def page(self, path: str = PAGE) -> str:
        async with self._session.get(path) as answer:
            assert answer.status == 200
            return await answer.text()

    async def live(self, seen: str = "") -> tuple[str, bool]:
        """Return the live part, and whether it wants the page to be loaded anew."""
        async with self._session.get(f"{PAGE}/live", params={"seen": seen}) as answer:
            return await answer.text(), "hx-refresh" in answer.headers

    async def send(self, what: str, **form: str) -> tuple[int, str, Any]:
        headers = {"hx-request": "true"}
        url = f"{PAGE}/{what}"
        async with self._session.post(url, data=form, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    async def ended(self) -> str:
        """Wait until nothing is under way; return the page."""
        for _ in range(400):
            if "under way" not in (await self.live())[0]:
                return await self.page()
            await asyncio.sleep(0.02)
        raise TimeoutError(await self.page())


@asynccontextmanager
async def reading(directory: Path, key: str = "", **config: Any) -> AsyncIterator[Reader]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    readers: list[Reader] = []

    async def promoted(name: str) -> WordEncoder:
        return WordEncoder(name, seconds=readers[0].slow)

    async with FakeUpstream() as upstream:
        settings = settings_for(
            directory, upstream.base_url, checkpoints={"min_pairs": 20}, **config
        )
        async with (
            proxy_running(
                settings,
                policies({"name": "default"}),
                encoder=DeafEncoder("deaf"),
                promoted=promoted,
            ) as proxy,
            aiohttp.ClientSession(proxy.url, headers=headers) as session,
        ):
            readers.append(Reader(proxy, session))
            yield readers[0]


async def test_without_a_trained_checkpoint_the_page_says_how_to_get_one(tmp_path: Path) -> None:
    async with reading(tmp_path / "data") as reader:
        page = await reader.page()
        assert "No trained checkpoint yet" in page and "make simulate" in page
        assert "deaf" in page and "the configuration" in page and "Roll back" not in page
        for path, said in (("runs/1", "beginning with a /"), (str(tmp_path), "holds no manifest")):
            status, part, _ = await reader.send(
                "promote", checkpoint=path, by_path="yes", dry_run="yes"
            )
            assert status == 400 and said in part and "<html" not in part
            assert f'value="{path}" aria-invalid="true"' in part


async def test_it_is_judged_then_promoted_and_gone_back_from(tmp_path: Path) -> None:
    await label(tmp_path / "data", 160)
    made = trained(tmp_path / "runs" / "checkpoint")
    async with reading(tmp_path / "data") as reader:
        taken = await reader.send(
            "promote", checkpoint=str(made.directory), by_path="yes", dry_run="yes"
        )
        assert (taken[0], taken[2]["hx-redirect"]) == (204, PAGE)
        page = await reader.ended()
        assert "would be promoted" in page and "The gate lets it pass." in page
        assert "2 rounds, 3 sites, 412 pairs" in page
        assert "Figures by round" in page and "0.780" in page  # of round 1
        assert ">Promote it<" in page and "Roll back" not in page

        status, _, _ = await reader.send("promote", checkpoint=made.id)
        assert status == 204
        page = await reader.ended()
        assert f'<code>{made.id}</code> <span class="badge good">active' in page
        assert ">Promote it<" not in page and "Roll back to it" in page

        status, _, headers = await reader.send("rollback")
        assert (status, headers["hx-redirect"]) == (204, f"{PAGE}?done=back")
        page = await reader.page(headers["hx-redirect"])
        assert (
            "serves again" in page and '<code>deaf</code> <span class="badge good">active' in page
        )


async def test_one_under_way_is_followed_and_can_be_stopped(tmp_path: Path) -> None:
    await label(tmp_path / "data", 160)
    made = trained(tmp_path / "runs" / "checkpoint")
    async with reading(tmp_path / "data") as reader:
        assert (await reader.send("stop"))[0] == 409
        reader.slow = 5.0
        await reader.send("promote", checkpoint=str(made.directory))
        page = await reader.page()
        assert "Stop the promotion" in page and ">Judge it<" not in page
        seen = unquote(page.partition("live?seen=")[2].partition('"')[0])
        part, anew = await reader.live(seen)
        assert "<progress" in part and "<button" not in part and not anew
        assert (await reader.send("promote", checkpoint=made.id))[0] == 409
        status, _, headers = await reader.send("stop")
        assert status == 204
        page = await reader.page(headers["hx-redirect"])
        assert "Nothing has changed for clients" in page and "Stop the promotion" not in page
        assert (await reader.live(seen))[1]  # it has ended: the page is to be loaded anew


async def test_whoever_may_only_look_sees_no_buttons_and_is_refused(tmp_path: Path) -> None:
    async with reading(tmp_path / "data", "eyes", auth=KEYS) as reader:
        page = await reader.page()
        assert "Take a checkpoint in" not in page
        for what in ("promote", "stop", "rollback"):
            assert (await reader.send(what, checkpoint="words"))[0] == 403
