"""The composition of the dashboard: every page, put together and given its address."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import FastAPI
from starlette.routing import Route

from proxy.admin.access import Access
from proxy.admin.sessions import Sessions
from proxy.admin.trail import TrailAdmin
from proxy.dashboard.assets import Assets
from proxy.dashboard.audit import AuditPage
from proxy.dashboard.login import Login
from proxy.dashboard.overview import OverviewPage
from proxy.dashboard.pages import Page, Pages
from proxy.dashboard.settings_page import SettingsPage
from proxy.parts import Parts
from proxy.readiness import Readiness
from proxy.usage.reading import UsageReader


def add_dashboard(
    app: FastAPI,
    parts: Parts,
    *,
    access: Access,
    sessions: Sessions | None,
    trail: TrailAdmin,
    usage: UsageReader,
    readiness: Readiness,
    clock: Callable[[], datetime],
) -> None:
    """Give every page its address under /admin; `sessions` None: everybody on loopback is admin."""
    pages, assets = Pages(access, clock), Assets()
    login = Login(
        pages=pages,
        access=access,
        keyring=parts.keyring,
        sessions=sessions,
        records=parts.shelves.records,
        clock=clock,
    )
    open_to_all: list[tuple[str, str, Page]] = [
        ("GET", "/login", login.show),
        ("POST", "/login", login.sign_in),
        ("POST", "/logout", login.sign_out),
        ("GET", "/static/{name}", assets.serve),
    ]
    overview = OverviewPage(
        pages=pages,
        trail=trail,
        usage=usage,
        readiness=readiness,
        upstreams=parts.upstreams,
        currency=parts.settings.usage.currency,
        clock=clock,
    )
    guarded: list[tuple[str, str, Page]] = [
        ("GET", "", overview.show),
        ("GET", "/overview/live", overview.live),
        ("GET", "/audit", AuditPage(pages, trail).show),
        ("GET", "/settings", SettingsPage(pages, parts.settings).show),
    ]
    for method, path, page in open_to_all:
        app.router.routes.append(Route(f"/admin{path}", pages.told(page), methods=[method]))
    for method, path, page in guarded:
        app.router.routes.append(Route(f"/admin{path}", pages.guarded(page), methods=[method]))
