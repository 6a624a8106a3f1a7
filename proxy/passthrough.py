"""Paths that we do not cache: forwarded byte for byte, uploads and downloads as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import unquote

import orjson

from proxy.answer import Answer, Streamed
from proxy.auth import Caller, Keyring
from proxy.call import Request
from proxy.errors import ApiError
from proxy.headers import Credential, client_headers, credential, upstream_headers
from proxy.logs import asking
from proxy.paths import passthrough_allowed
from proxy.upload_form import is_form, model_of_form
from proxy.upstream import UpstreamCall, Upstreams

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_MODELS = "/v1/models"
_PEEKED = 1024 * 1024  # of a body this much is read in any case, to route it by its model


class ClientGone(Exception):
    """The client hung up; nobody is left to answer."""


class Upload:
    """A request's body as it arrives, and afterwards the sign that the client has hung up."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raise ClientGone on a hang-up."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if message["body"]:
                yield message["body"]
            if not message.get("more_body"):
                self._complete.set()
                return

    async def up_to(
        self, limit: int, enough: Callable[[bytes], object] | None = None
    ) -> tuple[bytes, bool]:
        """Return the whole body and True, or the beginning of one that is longer and False.

        That is also what is returned of one whose beginning is `enough`, which is asked whenever
        twice as much has come. Raise ClientGone on a hang-up.
        """
        parts: list[bytes] = []
        size = looked_at = 0
        while size <= limit:
            if enough is not None and size > 2 * looked_at:  # else small chunks cost their square
                looked_at = size
                parts = [b"".join(parts)]
                if enough(parts[0]):
                    break
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message["body"])
            size += len(message["body"])
            if not message.get("more_body"):
                self._complete.set()
                break
        return parts[0] if len(parts) == 1 else b"".join(parts), self._complete.is_set()

    async def until_gone(self) -> None:
        """Return once the client has hung up after sending its whole body."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Passthrough:
    """Forwards what is not cached, within the tenancy rules."""

    def __init__(
        self,
        upstreams: Upstreams,
        keyring: Keyring,
        allowed: tuple[str, ...],
        *,
        body_limit: int = 0,
    ) -> None:
        """JSON bodies of up to `body_limit` bytes are routed by the model that they name."""
        self._upstreams = upstreams
        self._keyring = keyring
        self._allowed = allowed
        self._peeked = max(_PEEKED, body_limit)

    async def answer(
        self, method: str, target: str, request: Request, caller: Caller, upload: Upload
    ) -> Answer:
        """Return the upstream's answer; raise ApiError 403 or an Upstream error."""
        asking.set(request.request_id)
        about = _model_in(target)
        if method in ("GET", "HEAD") and about is not None:
            listed = await self._listed(about, target, request, caller)
            if listed is not None:
                return listed
        self._refuse_unless_allowed(target, caller)
        body, model = await self._body_of(request, upload)
        length = request.headers.get(b"content-length", b"")
        answer = await self._upstreams.open(
            UpstreamCall(
                method=method,
                path=target.removeprefix("/v1"),
                headers=upstream_headers(request.header_list, request.request_id, cacheable=False),
                body=body,
                length=int(length) if length.isdigit() else None,
                model=model,
                about=about or None,
                credential=self._credential(request, caller),
            )
        )
        headers = client_headers(answer.headers, cacheable=False)
        if not any(name == b"x-request-id" for name, _ in headers):
            headers.append((b"x-request-id", request.request_id.encode()))
        if whole := answer.whole():
            # All of it is here: it goes out in one piece, which writes its own length.
            headers = [header for header in headers if header[0] != b"content-length"]
            return Answer(answer.status, headers, whole)
        owned = AsyncExitStack()
        await owned.enter_async_context(answer)
        return Answer(answer.status, headers, Streamed(answer.chunks(), owned))

    def _is_allowed(self, target: str, caller: Caller) -> bool:
        own_key = caller.upstream_key is not None
        return passthrough_allowed(
            target, tenants=self._keyring.tenants, own_key=own_key, allowed=self._allowed
        )

    def _refuse_unless_allowed(self, target: str, caller: Caller) -> None:
        if not self._is_allowed(target, caller):
            raise ApiError(
                403,
                f"{target.partition('?')[0]} is not cached and may name another tenant's objects:"
                " the operator can allow it under `passthrough`, or give this tenant its own"
                " upstream key",
                type="permission_error",
                code="path_not_allowed",
            )

    async def _body_of(
        self, request: Request, upload: Upload
    ) -> tuple[bytes | AsyncIterator[bytes] | None, str | None]:
        """Return the body to send, and the model that it names in JSON or near a form's beginning.

        JSON that is very long names none.
        """
        length = request.headers.get(b"content-length", b"")
        if not length and b"transfer-encoding" not in request.headers:
            await upload.up_to(0)  # the empty body that every request has
            return None, None
        content_type = request.headers.get(b"content-type", b"")
        if is_form(content_type):
            return await _form(content_type, upload)
        is_json = content_type.startswith(b"application/json")
        if not is_json or (length.isdigit() and int(length) > self._peeked):
            return upload.chunks(), None
        raw, whole = await upload.up_to(self._peeked)
        if not whole:  # what has come so far is more than we read
            return _after(raw, upload.chunks()), None
        try:
            body = orjson.loads(raw)
        except ValueError:
            return raw, None  # what it means is the upstream's to say
        model = body.get("model") if isinstance(body, dict) else None
        return raw, model if isinstance(model, str) else None

    def _credential(self, request: Request, caller: Caller) -> Credential:
        return credential(
            request.header_list,
            tenant_key=caller.upstream_key,
            keys_configured=not self._keyring.anonymous,
        )

    async def _listed(
        self, about: str, target: str, request: Request, caller: Caller
    ) -> Answer | None:
        """Return the list of models, or what it says of the one that is asked about.

        None where that is the upstream's to say: it speaks this wire, and the caller may ask it.
        None, too, for a model that is not in the list.
        """
        if about and self._is_allowed(target, caller):
            if all(member.spec.provider is None for member in self._upstreams.route(about).members):
                return None
        told = await self._upstreams.models(self._credential(request, caller))
        if about:
            told = next((model for model in told["data"] if model["id"] == about), {})
        headers = [
            (b"content-type", b"application/json"),
            (b"x-request-id", request.request_id.encode()),
        ]
        return Answer(200, headers, orjson.dumps(told)) if told else None


async def _form(
    content_type: bytes, upload: Upload
) -> tuple[bytes | AsyncIterator[bytes], str | None]:
    model_in: Callable[[bytes], str | None] = partial(model_of_form, content_type)
    begun, whole = await upload.up_to(_PEEKED, model_in)
    return begun if whole else _after(begun, upload.chunks()), model_in(begun)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _model_in(target: str) -> str | None:
    """Return the model that a path below /v1/models names, "" for that itself; else None."""
    path = target.partition("?")[0]
    if path == _MODELS:
        return ""
    return unquote(path[len(_MODELS) + 1 :]) if path.startswith(_MODELS + "/") else None
