"""The page of the small models: what it says is what happened, and it replays poor examples."""

from __future__ import annotations

import re

import aiohttp

from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_dashboard import KEYS as WITH_VIEWER
from tests.e2e.test_dashboard import browser, sign_in
from tests.e2e.test_near_hits import FIRST, NEAR_HIT, OPEN, PAIR, SECOND, ask_large, past
from tests.e2e.test_near_hits_replay import JUDGE, helped_badly, improving
from tests.harness import Proxy

PAGE = "/admin/near-hits"


async def signed_in(proxy: Proxy, stage: Stage, key: str) -> aiohttp.ClientSession:
    session = browser(proxy, stage)
    assert (await sign_in(session, key))[0] == 303
    return session


async def get(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


def cells(page: str) -> list[str]:
    """Return the words of a page without its tags."""
    return re.sub(r"<[^>]+>", "|", page).replace("\n", " ").split("|")


async def test_without_a_small_model_the_page_says_how_to_have_one(stage: Stage) -> None:
    proxy = await stage.proxy(auth=WITH_VIEWER)
    page = await get(await signed_in(proxy, stage, "eyes"), PAGE)
    assert "No small model is configured" in page
    assert "offload:" in page and "judge: {" in page and "hx-get" not in page


async def test_arms_shares_and_outcomes_are_shown_while_they_change(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(OPEN, auth=WITH_VIEWER, offload=PAIR)
    session = await signed_in(proxy, stage, "eyes")
    assert "No near-hit has been decided yet" in await get(session, PAGE)
    past(stage)
    await ask_large(ask, stage, proxy, FIRST)
    assert (await ask_large(ask, stage, proxy, SECOND)).status == NEAR_HIT
    part = await get(session, f"{PAGE}/live")
    assert "<html" not in part and "<button" not in part
    said = [cell.strip() for cell in cells(part) if cell.strip()]
    row = said.index("small, with examples")
    assert said[row - 1] == "default" and said[row + 1] == "unjudged"
    assert "100.0\u202f%" in said[row:]
    assert said[said.index("Answered by small models") + 1] == "1"
    page = await get(session, PAGE)
    assert "No judge is configured" in page and "Replay poor examples" not in page


async def test_poor_examples_are_named_first_and_then_replayed(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(OPEN, auth=WITH_VIEWER, offload=PAIR, judge=JUDGE)
    calls = improving(stage)
    await helped_badly(stage, ask, proxy)
    viewer = await signed_in(proxy, stage, "eyes")
    page = await get(viewer, PAGE)
    assert FIRST.replace('"', "&#34;") in page and "Judged: judged" not in page
    headers = {"origin": proxy.url, "hx-request": "true"}
    async with viewer.post(f"{PAGE}/replay", data={"most": "5"}, headers=headers) as answer:
        assert answer.status == 403
    admin = await signed_in(proxy, stage, "root")
    assert "Replay poor examples" in await get(admin, PAGE)
    asked = len(calls)
    async with admin.post(f"{PAGE}/replay", data={"most": "5"}, headers=headers) as answer:
        part = await answer.text()
    assert "1 example would be answered anew" in part and len(calls) == asked
    (ids,) = re.findall(r'name="ids" value="([0-9a-f,]+)"', part)
    form = {"most": "5", "confirmed": "yes", "ids": ids}
    async with admin.post(f"{PAGE}/replay", data=form, headers=headers) as answer:
        part = await answer.text()
    assert "1 of 1 answered anew, 1 of them better" in part and len(calls) > asked
    trail = await get(admin, "/admin/audit")
    assert trail.count("examples.replay") == 1
    async with admin.post(f"{PAGE}/replay", data={"most": "0"}, headers=headers) as answer:
        assert answer.status == 400 and "most" in await answer.text()
