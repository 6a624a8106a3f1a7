"""FastAPI's share: health, readiness, metrics, and the admin API over stored entries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.exceptions import HTTPException

from proxy.auth import Keyring, Role
from proxy.errors import ApiError, as_api_error, envelope
from proxy.headers import request_id
from proxy.metrics import Metrics
from proxy.settings import is_loopback
from store.cache import Cache
from store.documents.base import DocumentStore, Filter, Summary
from store.entry import Entry, EntryId

Ping = Callable[[], Awaitable[None]]
_PAGE = 500  # entries looked at in one step of a purge


class Purge(BaseModel):
    """Which entries go: one selector, and whether to only count."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    category: str | None = None
    tenant: str | None = None
    model: str | None = None
    tag: str | None = None
    prefix: str | None = None
    all: Literal[True] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_selector(self) -> Purge:
        if len(self.model_dump(exclude={"dry_run"}, exclude_none=True)) != 1:
            raise ValueError("give one of id, category, tenant, model, tag, prefix, all")
        return self

    def selects(self, entry: Summary) -> bool:
        """Whether this entry goes."""
        return (
            self.all is True
            or self.id == entry.id
            or self.category == entry.category
            or self.tenant == entry.tenant
            or self.model == entry.model
            or self.tag in entry.tags
            or (self.prefix is not None and entry.query.startswith(self.prefix))
        )


class Operations:
    """What an operator reads and does."""

    def __init__(
        self,
        keyring: Keyring,
        cache: Cache,
        documents: DocumentStore,
        metrics: Metrics,
        pings: Mapping[str, Ping],
        refresh: Callable[[], None],
    ) -> None:
        self._keyring = keyring
        self._cache = cache
        self._documents = documents
        self._metrics = metrics
        self._pings = pings
        self._refresh = refresh

    async def ready(self) -> JSONResponse:
        """Say which parts work: 200, or 503 when one does not."""
        ok: list[str] = []
        failing: dict[str, str] = {}
        for name, ping in self._pings.items():
            try:
                await ping()
                ok.append(name)
            except Exception as error:
                failing[name] = type(error).__name__
        return JSONResponse({"ok": ok, "failing": failing}, 503 if failing else 200)

    def render_metrics(self) -> Response:
        """Return the Prometheus text."""
        self._refresh()
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    def allow(self, request: Request) -> None:
        """Raise ApiError unless this request may use the admin API."""
        headers = dict(request.scope["headers"])
        host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname or ""
        origin = headers.get(b"origin")
        if origin and urlsplit(origin.decode("latin-1")).hostname != host:
            raise _forbidden("a page of another origin may not use the admin API")
        if self._keyring.anonymous:
            peer = request.client.host if request.client else ""
            # The Host too: a name that a stranger's DNS points at 127.0.0.1 is not loopback.
            if not (is_loopback(peer) and is_loopback(host)):
                raise _forbidden("without configured keys the admin API is open on loopback only")
            return
        role = self._keyring.caller(headers).role
        reads = request.method in ("GET", "HEAD")
        if role is not Role.ADMIN and not (role is Role.VIEWER and reads):
            raise _forbidden("this takes an admin key")

    async def list_entries(
        self, category: str = "", tenant: str = "", q: str = "", limit: int = 50, cursor: str = ""
    ) -> dict[str, Any]:
        """Return a page of entries, newest first."""
        if not 1 <= limit <= 1000:
            raise ApiError(400, f"limit: {limit} is not allowed; allowed: 1 to 1000", param="limit")
        chosen = Filter(category=category, tenant=tenant, text=q)
        try:
            page = await self._documents.browse(chosen, limit=limit, cursor=cursor or None)
        except ValueError as error:
            raise ApiError(400, str(error), param="cursor") from None
        live = [summary_as_data(e) for e in page.entries if self._cache.exact(e.id) is not None]
        return {"entries": live, "next": page.next}

    async def show_entry(self, id: str) -> dict[str, Any]:
        """Return one entry with its answer."""
        entry = await self._documents.get(EntryId(id)) if self._cache.exact(EntryId(id)) else None
        if entry is None:
            raise _no_entry(id)
        return entry_as_data(entry)

    async def delete_entry(self, id: str) -> dict[str, Any]:
        """Remove one entry; nothing serves it after the return."""
        if await self._cache.remove([EntryId(id)]) == 0:
            raise _no_entry(id)
        return {"deleted": id}

    async def purge(self, purge: Purge) -> dict[str, int]:
        """Remove every entry that the selector names; count only on a dry run."""
        found = await matching(self._documents, purge)
        held = [id for id in found if self._cache.exact(id) is not None]
        purged = 0 if purge.dry_run else await self._cache.remove(held)
        return {"matched": len(held), "purged": purged}


async def matching(documents: DocumentStore, purge: Purge) -> list[EntryId]:
    """Return the ids of the stored entries that a purge selects.

    The filter spares reading the others. It lets everything pass where the selector is empty, so
    the selector has the last word.
    """
    chosen = Filter(
        id=purge.id or "",
        category=purge.category or "",
        tenant=purge.tenant or "",
        model=purge.model or "",
        tag=purge.tag or "",
        prefix=purge.prefix or "",
    )
    found: list[EntryId] = []
    cursor: str | None = None
    while True:
        page = await documents.browse(chosen, limit=_PAGE, cursor=cursor)
        found += [entry.id for entry in page.entries if purge.selects(entry)]
        if (cursor := page.next) is None:
            return found


def entry_as_data(entry: Entry) -> dict[str, Any]:
    """Return an entry with its answer as plain values."""
    answer = entry.body.decode("utf-8", "replace")
    return {**_heading(entry), "content_type": entry.content_type, "answer": answer}


def summary_as_data(entry: Summary) -> dict[str, Any]:
    """Return one line of a listing as plain values."""
    return {**_heading(entry), "size": entry.size}


def _heading(entry: Entry | Summary) -> dict[str, Any]:
    return {
        "id": entry.id,
        "tenant": entry.tenant,
        "category": entry.category,
        "route": entry.route,
        "model": entry.model,
        "query": entry.query,
        "tags": list(entry.tags),
        "created_at": entry.created_at.isoformat(),
    }


def _forbidden(message: str) -> ApiError:
    return ApiError(403, message, type="permission_error", code="forbidden")


def _no_entry(id: str) -> ApiError:
    return ApiError(404, f"there is no entry {id}", param="id", code="not_found")


def operations_app(operations: Operations) -> FastAPI:
    """Return the FastAPI application; every error is OpenAI's envelope."""
    app = FastAPI(title="Nearhit admin API", docs_url=None, redoc_url=None, openapi_url=None)
    admin: Sequence[Any] = [Depends(operations.allow)]
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("GET", "/entries", operations.list_entries),
        ("GET", "/entries/{id}", operations.show_entry),
        ("DELETE", "/entries/{id}", operations.delete_entry),
        ("POST", "/purge", operations.purge),
    ]
    for method, path, endpoint in routes:
        app.add_api_route(f"/admin/api{path}", endpoint, methods=[method], dependencies=admin)
    app.add_api_route("/health", lambda: {"status": "ok"}, methods=["GET"])
    app.add_api_route("/ready", operations.ready, methods=["GET"], response_class=JSONResponse)
    app.add_api_route("/metrics", operations.render_metrics, methods=["GET"])

    app.add_api_route("/admin/api/openapi.json", app.openapi, methods=["GET"], dependencies=admin)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(ApiError, _failed)
    return app


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or None
    message = f"{where or 'body'}: {first['msg'].removeprefix('Value error, ')}"
    return _refused(request, 400, envelope(message, type="invalid_request_error", param=where))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _refused(request, error.status_code, envelope(message, type="invalid_request_error"))


def _failed(request: Request, error: Exception) -> Response:
    told = as_api_error(error)
    return _refused(request, told.status, told.body())


def _refused(request: Request, status: int, body: bytes) -> Response:
    sent = request.headers.get("x-request-id")
    ticket = request_id(None if sent is None else sent.encode("latin-1"))
    headers = {"x-request-id": ticket}
    return Response(body, status, headers, media_type="application/json")
