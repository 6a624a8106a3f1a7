"""The pages of entries over HTTP: finding one, stopping it, purging, and who may not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_dashboard import KEYS, browser, sign_in
from tests.harness import Proxy, digest

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
OTHER = "What is the capital of Portugal?"
SCRIPT = "<script>alert('Dover')</script>"
AUTH: dict[str, Any] = {
    "keys": [*KEYS["keys"], {"sha256": digest("evil"), "tenant": "evil-corp"}],
}


@dataclass
class Reader:
    """Somebody who has signed in to the dashboard."""

    session: aiohttp.ClientSession
    proxy: Proxy

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"/admin/entries{path}") as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, **form: str) -> tuple[int, str]:
        headers = {"origin": self.proxy.url, "hx-request": "true"}
        url = f"/admin/entries{path}"
        async with self.session.post(url, data=form, headers=headers) as answer:
            return answer.status, await answer.text()


async def signed_in(stage: Stage, proxy: Proxy, key: str = "root") -> Reader:
    session = browser(proxy, stage)
    assert (await sign_in(session, key))[0] == 303
    return Reader(session, proxy)


def ids(page: str) -> list[str]:
    """Return the entries that a page leads to, in order."""
    return re.findall(r'href="/admin/entries/([0-9a-f]{32})"', page)


async def test_an_entry_is_found_by_its_text_and_by_what_it_means(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    status, page = await reader.get("")
    assert status == 200 and "Nothing is stored yet" in page
    client = stage.openai(proxy, "acme")
    kettle = (await ask(client, QUESTION, headers={"x-nearhit-tags": "home"})).headers
    await ask(client, OTHER, model="gpt-4o")
    _, page = await reader.get("")
    assert len(ids(page)) == 2
    for by_text in ("?find=KETTLE", "?tag=home", "?model=gpt-4o-mini&tenant=acme"):
        _, page = await reader.get(by_text)
        assert len(ids(page)) == 1 and "descale my kettle" in page, by_text
    _, page = await reader.get("?by=meaning&find=removing+limescale+from+a+kettle")
    found = ids(page)
    assert len(found) == 2 and page.index("kettle with vinegar") < page.index("Portugal")
    for chosen in ("tag=home", "model=gpt-4o-mini"):
        _, page = await reader.get(f"?by=meaning&find=a+seaside+town&{chosen}")
        assert ids(page) == found[:1], chosen
    _, page = await reader.get("?find=nobody")
    assert "No entry matches" in page
    assert "x-nearhit-entry" not in kettle  # a miss: the page is how one gets its id
    assert (await reader.get("?cursor=nonsense"))[0] == 400
    assert "goes with neither" not in (await reader.get("?by=meaning&find=x&cursor=7"))[1]


async def test_a_quarantine_holds_for_the_tenants_next_request(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert (await ask(client, REPHRASED)).hit
    (id,) = ids((await reader.get(""))[1])
    _, page = await reader.get(f"/{id}")
    assert "live, expires in" in page and "tenant acme" in page
    status, part = await reader.post(f"/{id}/quarantine", tenant="acme", reason="wrong vinegar")
    assert status == 200 and "quarantined for acme" in part and 'id="notice"' in part
    assert not (await ask(client, QUESTION)).hit
    assert not (await ask(client, REPHRASED)).hit
    headers = {"Authorization": "Bearer root"}
    async with stage.http.get(f"{proxy.url}/admin/api/audit", headers=headers) as answer:
        (row,) = [r for r in (await answer.json())["audit"] if r["action"] == "entry.quarantine"]
    assert row["after"] == {"id": id, "tenant": "acme", "reason": "wrong vinegar"}
    _, part = await reader.post(f"/{id}/lift")
    assert "live, expires in" in part and "lifted" in part
    assert (await ask(client, QUESTION)).hit
    status, part = await reader.post(f"/{id}/quarantine", tenant="x" * 65, reason="kept")
    assert 'aria-invalid="true"' in part and 'value="kept"' in part and "live" in part
    assert (await reader.post(f"/{id}/approve"))[0] == 409  # it is not of scope shared
    status, part = await reader.post(f"/{id}/delete")
    assert status == 200 and "deleted" in part
    # The other one's own answer, stored meanwhile, is near enough; the deleted one is not served.
    assert (await ask(client, QUESTION)).headers["x-nearhit-entry"] != id


async def test_what_is_approved_serves_the_other_tenants(stage: Stage, ask: Ask) -> None:
    tenants = [
        {"sha256": digest(name), "tenant": name, "categories": ["shared"]}
        for name in ("one", "two")
    ]
    keys = {"keys": [*tenants, {"sha256": digest("root"), "role": "admin"}]}
    proxy = await stage.proxy({"name": "default"}, {"name": "shared", "scope": "shared"}, auth=keys)
    reader = await signed_in(stage, proxy)
    shared = {"x-nearhit-category": "shared"}
    await ask(stage.openai(proxy, "one"), QUESTION, headers=shared)
    (id,) = ids((await reader.get(""))[1])
    _, page = await reader.get(f"/{id}")
    assert "Approve for other tenants" in page and "tenant one; others once" in page
    status, part = await reader.post(f"/{id}/approve")
    assert status == 200 and "Approved" in part and "Approve for" not in part
    assert (await ask(stage.openai(proxy, "two"), QUESTION, headers=shared)).hit


async def test_who_answered_otherwise_is_named_by_entries_that_one_can_look_at(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy({"name": "default", "scope": "shared"}, auth=AUTH)
    reader = await signed_in(stage, proxy)
    for key in ("acme", "evil"):
        await ask(stage.openai(proxy, key), QUESTION)  # the upstream never says the same twice
    (theirs, ours) = ids((await reader.get(""))[1])
    _, page = await reader.get(f"/{ours}")
    assert "Answered otherwise" in page and "by tenants" not in page
    assert theirs in ids(page)


async def test_nobody_is_told_that_a_tenant_is_kept_from_what_it_never_gets(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    (id,) = ids((await reader.get(""))[1])
    _, part = await reader.post(f"/{id}/quarantine", tenant="acne", reason="It says salt")
    assert "live, expires in" in part and 'id="notice"' not in part
    assert "Only tenant acme is served this answer" in part
    assert 'value="acne"' in part and 'value="It says salt"' in part
    assert (await ask(client, QUESTION)).hit


async def test_a_search_that_cannot_be_made_keeps_what_was_typed(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    await ask(stage.openai(proxy, "acme"), QUESTION)
    long = "vinegar " * 600
    status, page = await reader.get(f"?by=meaning&find={long.strip().replace(' ', '+')}&tag=home")
    assert status == 400 and 'aria-invalid="true"' in page and "shorten" in page
    assert f'value="{long.strip()}"' in page and 'value="home"' in page
    assert "No entry matches" not in page


async def test_what_is_gone_says_so_and_may_still_be_let_go(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    (id,) = ids((await reader.get(""))[1])
    await reader.post(f"/{id}/quarantine", tenant="", reason="")
    await reader.post(f"/{id}/delete")
    _, page = await reader.get("/stopped?gone=true")
    assert f'href="/admin/entries/{id}"' in page and "no new answer will be" in page
    status, page = await reader.get(f"/{id}")
    assert status == 404 and "still quarantined for everybody" in page
    status, part = await reader.post(f"/{id}/delete")
    assert status == 404 and 'role="alert"' in part
    assert (await reader.get(f"/{id}/around"))[0] == 404
    status, part = await reader.post(f"/{id}/lift")
    assert status == 200 and "quarantined" not in part
    assert f'href="/admin/entries/{id}"' not in (await reader.get("/stopped"))[1]
    await ask(client, QUESTION)
    assert (await ask(client, QUESTION)).hit


async def test_a_purge_is_counted_before_anything_goes(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, OTHER)
    wanted = {"selector": "similar_to", "value": REPHRASED, "threshold": "0.9"}
    _, part = await reader.post("/purge/count", **wanted)
    assert "Purge 1 entry" in part and len(ids(part)) == 1
    assert (await ask(client, QUESTION)).hit and (await ask(client, OTHER)).hit
    _, part = await reader.post("/purge", **wanted, counted="3")
    assert "Purged 1 entry. There were 3 entries when you counted" in part
    assert (await ask(client, OTHER)).hit and not (await ask(client, QUESTION)).hit
    everything = {"selector": "all", "value": "", "threshold": ""}
    _, part = await reader.post("/purge/count", **everything)
    assert "Purge 2 entries" in part and 'name="word"' in part
    _, part = await reader.post("/purge", **everything, counted="2", word="yes")
    assert "Type purge to confirm" in part and (await ask(client, OTHER)).hit
    _, part = await reader.post("/purge", **everything, counted="2", word="purge")
    assert "Purged 2 entries." in part and not (await ask(client, OTHER)).hit


async def test_what_is_not_compared_by_meaning_is_not_purged_by_it(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, f"{QUESTION} " * 500)  # more than an address may hold, and than is encoded
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "What is this?"}
    await ask(client, {"role": "user", "content": [text, picture]})
    await client.embeddings.create(model="text-embedding-3-small", input="vinegar")
    found = ids((await reader.get(""))[1])
    pages = [(await reader.get(f"/{id}"))[1] for id in found]  # the newest first
    assert ["Purge what means the same" in page for page in pages] == [False] * 3 + [True]
    for page in pages[:2]:
        assert "an embedding" in page and "pictures, tool results" in page
        assert "had no user text" not in page


async def test_what_a_tenant_said_is_text_and_never_markup(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "evil")
    answer = await ask(client, f"Say {SCRIPT}")
    await ask(client, f"Please say {SCRIPT} today")
    assert SCRIPT in answer.text  # the upstream echoes it
    (id, other) = ids((await reader.get(""))[1])
    pages = [
        await reader.get(path)
        for path in ("", "?by=meaning&find=Say", "/map", f"/{id}", f"/{other}", f"/{id}/around")
    ]
    pages.append(await reader.post("/purge/count", selector="prefix", value="Say <script"))
    for status, page in pages:
        assert status == 200 and "&lt;script&gt;alert(" in page
        assert "<script>alert" not in page


async def test_a_viewer_looks_and_changes_nothing(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy, "eyes")
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    (id,) = ids((await reader.get(""))[1])
    for path in (f"/{id}", "/purge", "/map"):
        status, page = await reader.get(path)
        assert status == 200 and "hx-post" not in page
    for path in (f"/{id}/delete", f"/{id}/quarantine", f"/{id}/lift", "/purge", "/purge/count"):
        status, part = await reader.post(path, selector="all", value="", word="purge")
        assert status == 403 and 'role="alert"' in part, path
    assert (await ask(client, QUESTION)).hit


async def test_neighbours_say_what_keeps_them_apart(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=AUTH)
    reader = await signed_in(stage, proxy)
    client = stage.openai(proxy, "acme")
    first = "How do I book a table for 4 people at noon?"
    for question in (first, first.replace("4", "6"), OTHER):
        assert not (await ask(client, question)).hit
    _, page = await reader.get("?find=table+for+4")
    (id,) = ids(page)
    _, part = await reader.get(f"/{id}/around")
    assert len(ids(part)) == 2 and "guard: numbers" in part and "below the threshold" in part
    assert "Nobody has judged it" in part
    again = await ask(client, first)
    verdict = {"response_id": again.headers["x-request-id"], "verdict": "wrong", "comment": "<i>"}
    headers = {"Authorization": "Bearer acme"}
    url = f"{proxy.url}/nearhit/feedback"
    async with stage.http.post(url, json=verdict, headers=headers) as answer:
        assert answer.status == 202
    _, part = await reader.get(f"/{id}/around")
    assert "wrong" in part and "&lt;i&gt;" in part and "feedback, tenant acme" in part


async def test_the_map_leads_to_every_entry_of_a_category(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq"}, auth=AUTH)
    reader = await signed_in(stage, proxy)
    _, page = await reader.get("/map")
    assert "This category holds nothing" in page
    client = stage.openai(proxy, "acme")
    anew = {"cache-control": "no-cache"}  # or the second may be a hit on the first
    for n in "ab":
        await ask(client, f"{QUESTION} And what of box {n}?", headers=anew)
    await ask(client, OTHER, headers={"x-nearhit-category": "faq"})
    for by in ("state", "model", "partition"):
        _, page = await reader.get(f"/map?by={by}")
        assert page.count("<circle") >= 3 and len(set(ids(page))) == 2
    _, page = await reader.get("/map?category=faq")
    assert len(set(ids(page))) == 1 and "Portugal" in page and "100\u202f%" in page
