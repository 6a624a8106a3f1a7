"""The composition of the dashboard: every page, put together and given its address."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Route

from proxy.admin.desks import Desks
from proxy.dashboard.assets import Assets
from proxy.dashboard.audit import AuditPage
from proxy.dashboard.categories import CategoryPages
from proxy.dashboard.entries_page import EntriesPage
from proxy.dashboard.entry_page import EntryPage
from proxy.dashboard.federated import FederatedPage
from proxy.dashboard.login import Login
from proxy.dashboard.map_page import MapPage
from proxy.dashboard.near_hits import NearHitsPage
from proxy.dashboard.overview import OverviewPage
from proxy.dashboard.pages import Page, Pages
from proxy.dashboard.playground import PlaygroundPage
from proxy.dashboard.policy_edits import PolicyEdits
from proxy.dashboard.policy_versions import VersionPages
from proxy.dashboard.purge_page import PurgePage
from proxy.dashboard.settings_page import SettingsPage
from proxy.parts import Parts
from proxy.readiness import Readiness

Routes = list[tuple[str, str, Page]]  # method, path below /admin, what answers


def add_dashboard(
    app: FastAPI,
    parts: Parts,
    desks: Desks,
    readiness: Readiness,
    clock: Callable[[], datetime],
) -> None:
    """Give every page its address under /admin."""
    pages, assets = Pages(desks.access, clock), Assets()
    login = Login(
        pages=pages,
        access=desks.access,
        keyring=parts.keyring,
        sessions=desks.sessions,
        records=parts.shelves.records,
        clock=clock,
    )
    open_to_all: Routes = [
        ("GET", "/login", login.show),
        ("POST", "/login", login.sign_in),
        ("POST", "/logout", login.sign_out),
        ("GET", "/static/{name}", assets.serve),
    ]
    overview = OverviewPage(
        pages=pages,
        trail=desks.trail,
        usage=desks.usage_reader,
        readiness=readiness,
        upstreams=parts.upstreams,
        currency=parts.settings.usage.currency,
        clock=clock,
    )
    guarded: Routes = [
        ("GET", "", overview.show),
        ("GET", "/overview/live", overview.live),
        *_category_pages(pages, parts, desks),
        ("GET", "/audit", AuditPage(pages, desks.trail).show),
        *_entry_pages(pages, parts, desks),
        ("GET", "/settings", SettingsPage(pages, parts.settings).show),
        *_learning_pages(pages, parts, desks),
    ]
    for method, path, page in open_to_all:
        app.router.routes.append(Route(f"/admin{path}", pages.told(page), methods=[method]))
    for method, path, page in guarded:
        app.router.routes.append(Route(f"/admin{path}", pages.guarded(page), methods=[method]))
    refuse = pages.or_page(app.exception_handlers[HTTPException])
    app.add_exception_handler(HTTPException, refuse)


def _entry_pages(pages: Pages, parts: Parts, desks: Desks) -> Routes:
    """Return the pages of entries; an id comes last, for it could be any word."""
    purge = PurgePage(pages, desks.entries)
    one = EntryPage(pages, desks.entries, desks.trail, parts.in_force)
    entries = EntriesPage(pages, desks.entries, parts.in_force)
    return [
        ("GET", "/entries", entries.show),
        ("GET", "/entries/stopped", entries.stopped),
        ("GET", "/entries/map", MapPage(pages, desks.entries, parts.cache, parts.in_force).show),
        ("GET", "/entries/purge", purge.show),
        ("POST", "/entries/purge", purge.purge),
        ("POST", "/entries/purge/count", purge.count),
        ("GET", "/entries/{id}", one.show),
        ("GET", "/entries/{id}/around", one.around),
        ("POST", "/entries/{id}/delete", one.delete),
        ("POST", "/entries/{id}/quarantine", one.quarantine),
        ("POST", "/entries/{id}/lift", one.lift),
        ("POST", "/entries/{id}/approve", one.approve),
    ]


def _learning_pages(pages: Pages, parts: Parts, desks: Desks) -> Routes:
    """Return the pages of what decides: tried out, taught by judges, and trained elsewhere."""
    federated = FederatedPage(pages, desks.checkpoints)
    near_hits_page = NearHitsPage(pages, desks.near_hits, parts.in_force, parts.metrics)
    playground = PlaygroundPage(pages, desks.explainer, parts.in_force, _models(parts))
    return [
        ("GET", "/playground", playground.show),
        ("POST", "/playground", playground.explain),
        ("GET", "/near-hits", near_hits_page.show),
        ("GET", "/near-hits/live", near_hits_page.live),
        ("POST", "/near-hits/replay", near_hits_page.replay),
        ("GET", "/federated", federated.show),
        ("GET", "/federated/live", federated.live),
        ("POST", "/federated/promote", federated.promote),
        ("POST", "/federated/stop", federated.stop),
        ("POST", "/federated/rollback", federated.roll_back),
    ]


def _models(parts: Parts) -> list[str]:
    """Return the models that the configuration names word for word."""
    named = [model for upstream in parts.settings.upstreams for model in upstream.models]
    return [model for model in dict.fromkeys(named) if not set("*?[") & set(model)]


def _category_pages(pages: Pages, parts: Parts, desks: Desks) -> Routes:
    shown = CategoryPages(
        pages,
        in_force=parts.in_force,
        standing=desks.standing,
        metrics=parts.metrics,
        what_ifs=desks.what_ifs,
    )
    edits = PolicyEdits(pages, desks.editor, desks.what_ifs, desks.standing)
    versions = VersionPages(pages, desks.policies, desks.editor)
    # No category can have a name with a ~ in it.
    return [
        ("GET", "/categories", shown.show),
        ("GET", "/categories/~live", shown.live),
        ("GET", "/categories/~new", edits.show_new),
        ("GET", "/categories/~versions", versions.show),
        ("GET", "/categories/~versions/{number:int}", versions.show_one),
        ("POST", "/categories/~versions/{number:int}", versions.roll_back),
        ("GET", "/categories/{name}", shown.show_one),
        ("GET", "/categories/{name}/live", shown.live_one),
        ("GET", "/categories/{name}/what-if", shown.what_if),
        ("POST", "/categories/{name}/form", edits.form),
        ("POST", "/categories/{name}/review", edits.review),
        ("POST", "/categories/{name}/apply", edits.apply),
        ("GET", "/categories/{name}/delete", edits.ask_delete),
        ("POST", "/categories/{name}/delete", edits.delete),
    ]
