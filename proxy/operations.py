"""FastAPI's share: health, readiness, metrics, feedback, and the admin API."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from proxy.admin.desks import Desks
from proxy.auth import Keyring, Role
from proxy.errors import ERROR_KINDS, ApiError, as_api_error, envelope
from proxy.feedback import Feedback, FeedbackDesk
from proxy.headers import request_id
from proxy.readiness import Ping, readiness
from proxy.routes import Receive
from proxy.whereabouts import proof
from store.errors import StoreUnavailable

log = logging.getLogger("nearhit.operations")


class Operations:
    """What a platform asks of the process, and what a client says of its answers."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        feedback: FeedbackDesk,
        metrics: Callable[[], Awaitable[bytes]],
        pings: Mapping[str, Ping],
        data_dir: Path,
    ) -> None:
        """`metrics` returns the Prometheus text; `data_dir` is the host's."""
        self._data_dir = data_dir
        self._keyring = keyring
        self._feedback = feedback
        self._metrics = metrics
        self._pings = pings

    async def ready(self) -> JSONResponse:
        """Say which parts work: 200, or 503 when one does not."""
        seen = await readiness(self._pings)
        status = 503 if seen.failing else 200
        return JSONResponse({"ok": seen.ok, "failing": seen.failing}, status)

    async def render_metrics(self) -> Response:
        """Return the Prometheus text."""
        return Response(await self._metrics(), media_type="text/plain; version=0.0.4")

    def prove_identity(self, nonce: Annotated[str, Query(max_length=64)]) -> Response:
        """Prove to a command that this server is the one of its data directory; no key is needed.

        Reads a file, so FastAPI calls it in a thread.
        """
        return PlainTextResponse(proof(self._data_dir, nonce) or "")

    async def take_feedback(self, feedback: Feedback, request: Request) -> dict[str, str]:
        """Take a verdict on an answer that this key got."""
        caller = self._keyring.caller(dict(request.scope["headers"]))
        if caller.role is not Role.CLIENT:
            raise ApiError(
                403,
                "feedback is a client's: use a client key",
                type="permission_error",
                code="admin_key",
            )
        await self._feedback.take(caller, feedback)
        return {"status": "accepted"}


def within(receive: Receive, limit: int) -> Receive:
    """Return a receive that refuses a body of more than `limit` bytes with a 413."""
    left = limit

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"the body is larger than {limit} bytes")
        return message

    return bounded


def operations_app(operations: Operations, desks: Desks) -> FastAPI:
    """Return the FastAPI application; every error is OpenAI's envelope."""
    app = FastAPI(title="Nearhit admin API", docs_url=None, redoc_url=None, openapi_url=None)
    admin: Sequence[Any] = [Depends(desks.access.allow)]
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("GET", "/overview", desks.trail.overview),
        ("GET", "/categories", desks.policies.list_categories),
        ("GET", "/categories/{name}", desks.policies.show_category),
        ("PUT", "/categories/{name}", desks.policies.put_category),
        ("DELETE", "/categories/{name}", desks.policies.delete_category),
        ("GET", "/categories/{name}/what-if", desks.policies.what_if),
        ("GET", "/policies/versions", desks.policies.list_versions),
        ("POST", "/policies/rollback", desks.policies.roll_back),
        ("GET", "/entries", desks.entries.list_entries),
        ("GET", "/entries/{id}", desks.entries.show_entry),
        ("GET", "/entries/{id}/neighbors", desks.entries.list_neighbors),
        ("DELETE", "/entries/{id}", desks.entries.delete_entry),
        ("POST", "/entries/{id}/quarantine", desks.entries.quarantine),
        ("GET", "/quarantine", desks.entries.list_quarantined),
        ("POST", "/entries/{id}/approve", desks.entries.approve),
        ("POST", "/purge", desks.entries.purge),
        ("GET", "/pairs", desks.trail.list_pairs),
        ("GET", "/audit", desks.trail.list_audit),
        ("GET", "/usage", desks.usage.usage),
        ("POST", "/explain", desks.playground.explain),
        ("GET", "/router", desks.near_hits.router),
        ("POST", "/replay", desks.near_hits.replay),
        ("GET", "/checkpoints", desks.checkpoints.list_checkpoints),
        ("POST", "/checkpoints/promote", desks.checkpoints.promote),
        ("POST", "/checkpoints/rollback", desks.checkpoints.roll_back),
    ]
    accepted = {"/checkpoints/promote": 202}  # it goes on after the answer
    for method, path, endpoint in routes:
        app.add_api_route(
            f"/admin/api{path}",
            endpoint,
            methods=[method],
            dependencies=admin,
            status_code=accepted.get(path),
        )
    app.add_api_route(
        "/nearhit/feedback", operations.take_feedback, methods=["POST"], status_code=202
    )
    app.add_api_route(
        "/nearhit/identity",
        operations.prove_identity,
        methods=["GET"],
        response_class=PlainTextResponse,
    )
    app.add_api_route("/health", lambda: {"status": "ok"}, methods=["GET"])
    app.add_api_route("/ready", operations.ready, methods=["GET"], response_class=JSONResponse)
    app.add_api_route("/metrics", operations.render_metrics, methods=["GET"])

    app.add_api_route("/admin/api/openapi.json", app.openapi, methods=["GET"], dependencies=admin)
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    # What is expected by its kind: what Exception's handler answers is raised again, for the server
    # to log it and to close the connection.
    expected: tuple[type[Exception], ...] = (ApiError, *ERROR_KINDS)
    for kind in expected:
        app.add_exception_handler(kind, _expected)
    app.add_exception_handler(Exception, _failed)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or None
    message = f"{where or 'body'}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] == "json_invalid":  # which is said of the place where reading ended
        where, message = None, f"the body is not valid JSON: {first['ctx']['error']}"
    elif where is None and isinstance(first.get("input"), bytes):
        message = "the body is not read as JSON: send Content-Type: application/json"
    return _refused(request, 400, envelope(message, type="invalid_request_error", param=where))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _refused(request, error.status_code, envelope(message, type="invalid_request_error"))


def _expected(request: Request, error: Exception) -> Response:
    if isinstance(error, StoreUnavailable):  # whose words the answer leaves to the log
        log.warning("%s %s failed: %s", request.method, request.url.path, error)
    return _failed(request, error)


def _failed(request: Request, error: Exception) -> Response:
    told = as_api_error(error)
    return _refused(request, told.status, told.body(), told.retry_after)


def _refused(
    request: Request, status: int, body: bytes, retry_after: int | None = None
) -> Response:
    sent = request.headers.get("x-request-id")
    ticket = request_id(None if sent is None else sent.encode("latin-1"))
    headers = {"x-request-id": ticket}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return Response(body, status, headers, media_type="application/json")
