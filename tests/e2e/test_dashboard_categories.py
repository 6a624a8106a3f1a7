"""The pages of the categories over HTTP: edits that are reviewed, and what a threshold would do."""

from __future__ import annotations

import html
import re
from typing import Any

import aiohttp

from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_dashboard import KEYS, browser, sign_in
from tests.harness import Proxy

DEFAULT = {"name": "default", "hit_threshold": 0.999, "near_threshold": 0.5}
FAQ = {"name": "faq", "examples": ["How long is the warranty?", "Where is\nmy order?"]}
QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle using vinegar?"
PART = {"hx-request": "true"}


class Reader:
    """Someone with a browser in front of the dashboard."""

    def __init__(self, session: aiohttp.ClientSession, proxy: Proxy) -> None:
        self._session = session
        self._headers = {**PART, "origin": proxy.url}

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(f"/admin/categories{path}") as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, form: dict[str, str]) -> tuple[int, str, Any]:
        url = f"/admin/categories{path}"
        async with self._session.post(
            url, data=form, headers=self._headers, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text(), answer.headers


async def reader(stage: Stage, proxy: Proxy, key: str = "root") -> Reader:
    session = browser(proxy, stage)
    assert (await sign_in(session, key))[0] == 303
    return Reader(session, proxy)


def form_of(page: str) -> dict[str, str]:
    """Return what the browser would send of the form on a page, or of a part of one."""
    form: dict[str, str] = {}
    _, found, rest = page.partition('<div id="edit">')
    assert found, page
    for tag in re.findall(r"<input [^>]*>", rest):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        checkbox = attributes.get("type") == "checkbox"
        if "name" in attributes and (not checkbox or " checked" in tag):
            form[attributes["name"]] = html.unescape(attributes.get("value", ""))
    for name, text in re.findall(
        r'<textarea [^>]*name="(\w+)"[^>]*>\n(.*?)</textarea>', rest, re.S
    ):
        form[name] = html.unescape(text).replace("\n", "\r\n")
    for name, options in re.findall(r'<select [^>]*name="(\w+)".*?>(.*?)</select>', rest, re.S):
        (form[name],) = re.findall(r"<option selected>(.*?)</option>", options)
    return form


async def policy(stage: Stage, proxy: Proxy, name: str = "default") -> Any:
    url = f"{proxy.url}/admin/api/categories/{name}"
    async with stage.http.get(url, headers={"authorization": "Bearer root"}) as answer:
        return (await answer.json()) if answer.status == 200 else None


async def test_the_table_has_every_category_and_a_part_that_renews_itself(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(DEFAULT, {**FAQ, "error_budget": 0.01}, auth=KEYS)
    client = stage.openai(proxy, "acme")
    for _ in range(2):
        await ask(client, QUESTION, headers={"X-Nearhit-Category": "faq"})
    seen = await reader(stage, proxy, "eyes")
    status, page = await seen.get("")
    assert status == 200 and 'hx-get="/admin/categories/~live"' in page
    status, part = await seen.get("/~live")
    assert status == 200 and "<html" not in part and "<button" not in part
    assert 'href="/admin/categories/default"' in part and "unproven" in part
    assert "50.0\u202f%" in part


async def test_what_is_edited_is_reviewed_applied_and_obeyed_by_the_next_request(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(DEFAULT, FAQ, auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert not (await ask(client, REPHRASED)).hit
    seen = await reader(stage, proxy)
    form = form_of((await seen.get("/default"))[1])
    form |= {"hit_threshold": "0.7", "description": "all & sundry"}
    status, part, _ = await seen.post("/default/review", form)
    assert status == 200 and "<del>0.999</del>" in part and "<ins>0.7</ins>" in part
    assert "all &amp; sundry" in part and "Hits at 0.700" in part
    assert (await policy(stage, proxy))["hit_threshold"] == 0.999
    status, part, _ = await seen.post("/default/form", form_of(part))
    assert status == 200 and form_of(part) == form  # kept for going on
    status, part, _ = await seen.post("/default/apply", form_of(part))
    assert status == 200 and 'id="notice"' in part and "in force" in part
    assert (await policy(stage, proxy))["description"] == "all & sundry"
    assert (await ask(client, REPHRASED)).hit
    _, trail = await seen.get("/../audit")
    assert "policy.put" in trail and "<ins>0.7</ins>" in trail


async def test_a_form_that_nobody_touched_changes_nothing(stage: Stage) -> None:
    everything = {
        "name": "all",
        "description": "x",
        "examples": ["a\\nb", "c\nd", " e"],
        "match": [{"regex": "(?i)\\bprice", "header": {"x-team": "a*"}}, {"model": "m"}],
        "locked": True,
        "mode": "exact",
        "ttl": "90s",
        "quota": {"entries": 7, "bytes": 1000},
        "error_budget": 0.005,
        "audit": False,
        "offload": "unjudged",
        "load": {"latency_target_ms": 1, "threshold_floor": 0.5, "ttl_ceiling": "7d"},
    }
    proxy = await stage.proxy(DEFAULT, everything, auth=KEYS)
    seen = await reader(stage, proxy)
    before = await policy(stage, proxy, "all")
    status, part, _ = await seen.post("/all/review", form_of((await seen.get("/all"))[1]))
    assert status == 200 and "Nothing would change" in part
    await seen.post("/all/apply", form_of(part))
    assert await policy(stage, proxy, "all") == before


NOT_ALLOWED = (
    ("hit_threshold", "1.5", "a number from -1 to 1"),
    ("near_threshold", "0.9995", "at most hit_threshold"),
    ("ttl", "soon", "a duration such as"),
    ("quota_bytes", "much", "a size of 0 or more"),
    ("match", "- {colour: red}", "a list of rules"),
    ("match", "- {", "is not YAML"),
    ("load", "{latency_target_ms: 5}", "null, or all of"),
    ("max_turns", "2.5", "a whole number"),
)


async def test_what_is_not_allowed_is_said_beside_its_field_and_nothing_changes(
    stage: Stage,
) -> None:
    proxy = await stage.proxy(DEFAULT, auth=KEYS)
    seen = await reader(stage, proxy)
    shown = form_of((await seen.get("/default"))[1])
    for field, typed, said in NOT_ALLOWED:
        form = {**shown, field: typed, "description": "kept"}
        for step in ("review", "apply"):
            status, part, _ = await seen.post(f"/default/{step}", form)
            assert status == 400
            assert form_of(part) == form
            (control,) = re.findall(rf'id="f-{field}".*?</div>', part, re.S)
            assert 'aria-invalid="true"' in control and 'class="fault"' in control
            assert said in html.unescape(control)
    assert (await policy(stage, proxy))["description"] == ""


async def test_an_edit_of_what_somebody_else_has_changed_is_not_applied(stage: Stage) -> None:
    proxy = await stage.proxy(DEFAULT, FAQ, auth=KEYS)
    seen = await reader(stage, proxy)
    form = {**form_of((await seen.get("/faq"))[1]), "ttl": "1h"}
    url, root = f"{proxy.url}/admin/api/categories/faq", {"authorization": "Bearer root"}
    async with stage.http.put(url, json={"priority": 3}, headers=root) as answer:
        assert answer.status == 200
    status, part, _ = await seen.post("/faq/apply", form)
    assert status == 409 and "Somebody else has changed faq" in part
    assert "<del>3.0</del>" in part  # what ours would change of theirs
    assert (await policy(stage, proxy, "faq"))["ttl"] == "1d"
    status, part, _ = await seen.post("/faq/apply", form_of(part))
    assert status == 200
    assert (await policy(stage, proxy, "faq"))["ttl"] == "1h"


async def test_a_category_is_added_and_removed(stage: Stage) -> None:
    proxy = await stage.proxy(DEFAULT, auth=KEYS)
    seen = await reader(stage, proxy)
    form = {**form_of((await seen.get("/~new"))[1]), "name": "default", "ttl": "2h"}
    status, part, _ = await seen.post("/~new/review", form)
    assert status == 400 and "there is one already" in part
    status, part, _ = await seen.post("/~new/review", {**form, "name": "Cars!"})
    assert status == 400 and 'id="x-name"' in part
    status, part, _ = await seen.post("/~new/review", {**form, "name": "cars"})
    assert status == 200 and await policy(stage, proxy, "cars") is None
    status, _, headers = await seen.post("/~new/apply", form_of(part))
    assert (status, headers["hx-redirect"]) == (200, "/admin/categories/cars")
    assert (await policy(stage, proxy, "cars"))["ttl"] == "2h"
    status, part = await seen.get("/cars/delete")
    assert status == 200 and "cars holds 0 entries" in part
    (shown,) = re.findall(r'name="seen" value="(\w+)"', part)
    status, _, _ = await seen.post("/cars/delete", {"seen": "other"})
    assert status == 409 and await policy(stage, proxy, "cars") is not None
    status, _, headers = await seen.post("/cars/delete", {"seen": shown})
    assert (status, headers["hx-redirect"]) == (200, "/admin/categories")
    assert await policy(stage, proxy, "cars") is None


async def test_one_goes_back_to_a_version_after_seeing_what_that_changes(stage: Stage) -> None:
    proxy = await stage.proxy(DEFAULT, FAQ, auth=KEYS)
    seen = await reader(stage, proxy)
    form = {**form_of((await seen.get("/faq"))[1]), "ttl": "1h"}
    await seen.post("/faq/apply", form)
    status, page = await seen.get("/~versions")
    assert status == 200 and "Roll back to 1…" in page and "<ins>1h</ins>" in page
    status, page = await seen.get("/~versions/1")
    assert status == 200 and "<del>1h</del>" in page and "<ins>1d</ins>" in page
    (shown,) = re.findall(r'name="seen" value="(\w+)"', page)
    assert (await seen.post("/~versions/1", {"seen": "other"}))[0] == 409
    assert (await seen.post("/~versions/1", {"seen": shown}))[0] == 200
    assert (await policy(stage, proxy, "faq"))["ttl"] == "1d"
    assert (await seen.get("/~versions/99"))[0] == 404


async def test_the_what_if_shows_real_lookups_before_anything_is_applied(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(DEFAULT, auth=KEYS)
    seen = await reader(stage, proxy, "eyes")
    status, part = await seen.get("/default/what-if?hit_threshold=0.7")
    assert status == 200 and "No lookups by meaning yet in this process" in part
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, REPHRASED)
    await ask(client, "How do I descale 3 kettles with vinegar?")  # a guard's
    await ask(client, "How do I bake a loaf of rye bread?", headers={"Cache-Control": "no-store"})
    status, part = await seen.get("/default/what-if?hit_threshold=0.7")
    assert status == 200 and "<mark>do</mark>" in part and "<mark>can</mark>" in part
    assert "rye bread" not in part and "3 kettles" not in part
    url = f"{proxy.url}/admin/api/categories/default/what-if"
    root = {"authorization": "Bearer root"}
    async with stage.http.get(f"{url}?hit_threshold=0.7", headers=root) as answer:
        told = await answer.json()
    assert (told["lookups"], told["hits_now"], told["hits_then"]) == (3, 0, 1)
    (pair,) = told["gained"]
    assert (pair["query"], pair["entry_query"]) == (REPHRASED, QUESTION)
    assert pair["similarity"] > 0.7 and 0 < pair["risk"] < 1
    async with stage.http.get(f"{url}?hit_threshold=0.999", headers=root) as answer:
        assert (await answer.json())["hits_then"] == 0
    for wrong in ("2", "x", "0.4"):
        async with stage.http.get(f"{url}?hit_threshold={wrong}", headers=root) as answer:
            assert answer.status == 400
        assert (await seen.get(f"/default/what-if?hit_threshold={wrong}"))[0] == 400
    purge = f"{proxy.url}/admin/api/purge"
    async with stage.http.post(purge, json={"prefix": QUESTION}, headers=root) as answer:
        assert (await answer.json())["purged"] == 1
    _, part = await seen.get("/default/what-if?hit_threshold=0.7")
    assert "kettle" not in part.replace("3 kettles", "")


async def test_a_viewer_sees_all_of_it_and_changes_nothing(stage: Stage) -> None:
    proxy = await stage.proxy(DEFAULT, FAQ, auth=KEYS)
    seen = await reader(stage, proxy, "eyes")
    status, page = await seen.get("/faq")
    assert status == 200 and "How long is the warranty?" in page and "Where is\\nmy order?" in page
    for button in ("Review changes", "Delete this category"):
        assert button not in page
    assert "New category" not in (await seen.get(""))[1]
    assert "Roll back" not in (await seen.get("/~versions"))[1]
    form = {**form_of(page), "ttl": "1h"}
    for path in ("/faq/review", "/faq/apply", "/faq/delete", "/~versions/1"):
        assert (await seen.post(path, form))[0] == 403
    assert (await policy(stage, proxy, "faq"))["ttl"] == "1d"
    assert (await seen.get("/nothing"))[0] == 404


async def test_without_a_dashboard_no_lookup_is_remembered(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(DEFAULT, auth=KEYS, dashboard={"enabled": False})
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, REPHRASED)
    url = f"{proxy.url}/admin/api/categories/default/what-if?hit_threshold=0.7"
    async with stage.http.get(url, headers={"authorization": "Bearer root"}) as answer:
        assert (await answer.json())["lookups"] == 0
