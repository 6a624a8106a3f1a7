"""The dashboard over HTTP: who gets in, and what a page of another origin cannot do."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import Stage
from tests.harness import Proxy, digest

KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme"},
        {"sha256": digest("root"), "role": "admin"},
        {"sha256": digest("eyes"), "role": "viewer"},
    ]
}


def browser(proxy: Proxy, stage: Stage) -> aiohttp.ClientSession:
    """Return a session that keeps cookies, as a browser does."""
    session = aiohttp.ClientSession(proxy.url, cookie_jar=aiohttp.CookieJar(unsafe=True))
    stage.stack.push_async_callback(session.close)
    return session


async def sign_in(session: aiohttp.ClientSession, key: str, **more: Any) -> tuple[int, str, Any]:
    form = {"key": key, "to": more.pop("to", "")}
    async with session.post("/admin/login", data=form, allow_redirects=False, **more) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_an_admin_signs_in_reads_and_signs_out(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    session = browser(proxy, stage)
    async with session.get("/admin/audit?cursor=", allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["location"] == "/admin/login?to=%2Fadmin%2Faudit%3Fcursor%3D"
    status, _, headers = await sign_in(session, "root", to="/admin/audit")
    assert (status, headers["location"]) == (303, "/admin/audit")
    cookie = headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/admin"))
    assert "Secure" not in cookie and "root" not in cookie
    async with session.get("/admin/audit") as answer:
        page = await answer.text()
        assert answer.status == 200 and "login" in page and digest("root")[:12] in page
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    origin = {"origin": proxy.url}
    async with session.post("/admin/logout", headers=origin, allow_redirects=False) as answer:
        assert answer.status == 303
    async with session.get("/admin/audit", allow_redirects=False) as answer:
        assert answer.status == 303


@pytest.mark.parametrize(
    ("key", "status", "said"),
    [("wrong", 401, "not known here"), ("acme", 403, "client key"), ("", 401, "not known here")],
)
async def test_who_may_not_sign_in_is_told_why(
    stage: Stage, key: str, status: int, said: str
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    found, page, headers = await sign_in(browser(proxy, stage), key)
    assert found == status and said in page and "set-cookie" not in headers


async def test_guessing_is_slowed_down(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    session = browser(proxy, stage)
    tries = [(await sign_in(session, f"guess {n}"))[0] for n in range(11)]
    assert tries == [401] * 10 + [429]


async def test_signing_in_goes_to_our_own_pages_only(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    for to in ("https://evil.example/", "//evil.example", "/admin\\evil", "/adminx", "/v1/models"):
        _, _, headers = await sign_in(browser(proxy, stage), "root", to=to)
        assert headers["location"] == "/admin"


async def test_a_session_changes_nothing_for_a_page_of_another_origin(stage: Stage) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq"}, auth=KEYS)
    session = browser(proxy, stage)
    await sign_in(session, "root")
    other_port = proxy.url.replace(str(proxy.port), "1")
    for origin in ("http://evil.example", other_port, "null", None):
        headers = {} if origin is None else {"origin": origin}
        async with session.delete("/admin/api/categories/faq", headers=headers) as answer:
            assert answer.status == 403, origin
    async with session.delete("/admin/api/categories/faq", headers={"origin": proxy.url}) as answer:
        assert answer.status == 200


async def test_a_viewer_reads_and_changes_nothing(stage: Stage) -> None:
    proxy = await stage.proxy({"name": "default"}, {"name": "faq"}, auth=KEYS)
    session = browser(proxy, stage)
    assert (await sign_in(session, "eyes"))[0] == 303
    async with session.get("/admin/api/categories") as answer:
        assert answer.status == 200
    async with session.delete("/admin/api/categories/faq", headers={"origin": proxy.url}) as answer:
        assert answer.status == 403


async def test_a_session_behind_tls_is_for_tls_only(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    told = {"x-forwarded-proto": "https"}
    _, _, headers = await sign_in(browser(proxy, stage), "root", headers=told)
    assert "Secure" in headers["set-cookie"]


async def test_a_part_of_a_page_sends_the_browser_to_sign_in(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    async with browser(proxy, stage).get("/admin/audit", headers={"hx-request": "true"}) as answer:
        assert answer.status == 401 and answer.headers["hx-redirect"] == "/admin/login"


async def test_without_keys_there_is_nobody_to_sign_in(stage: Stage) -> None:
    proxy = await stage.proxy()
    session = browser(proxy, stage)
    async with session.get("/admin/login", allow_redirects=False) as answer:
        assert answer.status == 303
    async with session.get("/admin/settings") as answer:
        assert answer.status == 200 and "anonymous on loopback" in await answer.text()
    async with session.get("/admin/settings", headers={"host": "evil.example"}) as answer:
        assert answer.status == 403 and "loopback only" in await answer.text()


async def test_what_is_missing_or_wrong_is_said_on_a_page(stage: Stage) -> None:
    proxy = await stage.proxy()
    session = browser(proxy, stage)
    async with session.get("/admin/audit?cursor=nonsense") as answer:
        page = await answer.text()
        assert answer.status == 400 and "<h1>" in page and 'role="alert"' in page
    async with session.get("/admin/static/nothing.js") as answer:
        assert answer.status == 404
    browsing = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with session.get("/admin/entrys", headers=browsing) as answer:
        page = await answer.text()
        assert answer.status == 404 and 'role="alert"' in page and "Overview</a>" in page
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in ("/admin/entrys", "/admin/api/entrys", "/elsewhere"):
        sent = browsing if path != "/admin/entrys" else {"accept": "*/*"}
        async with session.get(path, headers=sent) as answer:
            assert answer.status == 404 and "not_found" not in await answer.text()
            assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}


async def test_assets_are_asked_again_and_not_sent_again(stage: Stage) -> None:
    proxy = await stage.proxy()
    session = browser(proxy, stage)
    async with session.get("/admin/static/dashboard.css") as answer:
        assert answer.status == 200 and answer.content_type == "text/css"
        tag = answer.headers["etag"]
    headers = {"if-none-match": tag}
    async with session.get("/admin/static/dashboard.css", headers=headers) as answer:
        assert answer.status == 304


async def test_without_a_dashboard_the_admin_api_is_there_all_the_same(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS, dashboard={"enabled": False})
    headers = {"Authorization": "Bearer root"}
    async with stage.http.get(f"{proxy.url}/admin/settings", headers=headers) as answer:
        assert answer.status == 404
    async with stage.http.get(f"{proxy.url}/admin/api/overview", headers=headers) as answer:
        assert answer.status == 200
