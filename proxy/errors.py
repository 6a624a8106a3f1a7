"""Errors on the wire: OpenAI's envelope, and the only table from our exceptions to HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import orjson

from proxy.auth import Unauthorized
from proxy.identity import InvalidJson, UserNotAllowed
from proxy.paths import PathRefused
from proxy.upstream_errors import (
    ModelUnknown,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.wire.base import InvalidRequest
from store.errors import StoreUnavailable, VersionTaken
from store.flight import LeaderGone


class ApiError(Exception):
    """An answer of our own: a status and the four fields of OpenAI's envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after  # seconds

    def body(self) -> bytes:
        """Return the envelope as JSON."""
        return envelope(str(self), type=self.type, param=self.param, code=self.code)


def envelope(
    message: str, *, type: str, param: str | None = None, code: str | None = None
) -> bytes:
    """Return `{"error": {message, type, param, code}}`: all four keys always."""
    where = None if param is None else _encodable(param)
    error = {"message": _encodable(message), "type": type, "param": where, "code": code}
    return orjson.dumps({"error": error})


def _encodable(text: str) -> str:
    """Return a text with half surrogate pairs, which a request may hold, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def error_event(path: str, error: Exception) -> bytes:
    """Return the SSE event that ends a broken stream, in the shape that the route's SDK raises on.

    An empty line comes first: the stream may have broken off within an event.
    """
    told = as_api_error(error)
    message = _encodable(str(told))
    if path == "/v1/messages":
        inner = {"type": told.type, "message": message}
        return b"\n\nevent: error\ndata: %b\n\n" % orjson.dumps({"type": "error", "error": inner})
    if path == "/v1/responses":
        # As OpenAI documents it, and with the `error` without which the SDK does not raise.
        fields = {"code": told.code, "message": message, "param": None}
        data = {"type": "error", **fields, "sequence_number": 0, "error": fields}
        return b"\n\nevent: error\ndata: %b\n\n" % orjson.dumps(data)
    return b"\n\ndata: %b\n\n" % told.body()


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How one kind of exception is told to a client."""

    status: HTTPStatus
    type: str
    code: str | None


ERROR_KINDS: dict[type[Exception], ErrorKind] = {
    InvalidJson: ErrorKind(HTTPStatus.BAD_REQUEST, "invalid_request_error", "invalid_json"),
    InvalidRequest: ErrorKind(HTTPStatus.BAD_REQUEST, "invalid_request_error", None),
    PathRefused: ErrorKind(HTTPStatus.BAD_REQUEST, "invalid_request_error", "invalid_path"),
    Unauthorized: ErrorKind(HTTPStatus.UNAUTHORIZED, "authentication_error", "invalid_api_key"),
    UserNotAllowed: ErrorKind(HTTPStatus.FORBIDDEN, "permission_error", "user_not_allowed"),
    ModelUnknown: ErrorKind(HTTPStatus.NOT_FOUND, "invalid_request_error", "model_not_found"),
    UpstreamUnavailable: ErrorKind(HTTPStatus.BAD_GATEWAY, "server_error", "upstream_unavailable"),
    UpstreamTimeout: ErrorKind(HTTPStatus.GATEWAY_TIMEOUT, "server_error", "upstream_timeout"),
    LeaderGone: ErrorKind(HTTPStatus.BAD_GATEWAY, "server_error", "upstream_broken"),
    UpstreamBroken: ErrorKind(HTTPStatus.BAD_GATEWAY, "server_error", "upstream_broken"),
    VersionTaken: ErrorKind(HTTPStatus.CONFLICT, "invalid_request_error", "policies_changed"),
    # On a cacheable route the call is forwarded instead; this is for those who ask the store.
    StoreUnavailable: ErrorKind(
        HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "store_unavailable"
    ),
}


# Whose own words name paths of this machine.
_SAID: dict[type, str] = {
    StoreUnavailable: "the document store does not work now; the log says why"
}


def as_api_error(error: Exception) -> ApiError:
    """Return what the client is told; anything unexpected is a 500 that says nothing of inside."""
    if isinstance(error, ApiError):
        return error
    for kind in type(error).__mro__:
        if (known := ERROR_KINDS.get(kind)) is not None:
            param = getattr(error, "param", None)
            told = _SAID.get(kind) or str(error)
            return ApiError(known.status, told, type=known.type, param=param, code=known.code)
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Nearhit failed on this request; the log has the details under its X-Request-Id",
        type="server_error",
        code="internal_error",
    )
