"""One call over HTTP: the pool of connections, bodies on their way up, and what went wrong."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from proxy.fleet import UpstreamSpec
from proxy.headers import NO_CREDENTIAL, Credential
from proxy.upstream_errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)

# Seconds that an idle connection is kept: less than the 5 after which many servers close theirs
# (uvicorn, Node), for whoever writes to a connection in that moment gets no answer.
KEEP_ALIVE = 4.0
_CONNECTIONS = 1000
_NO_STATUS = 600  # from here on HTTP knows none
_LARGEST_HEADER = 64 * 1024
_WRITE_AT_ONCE = 256 * 1024  # bytes; larger bodies are written piece by piece


@dataclass(slots=True, kw_only=True)
class UpstreamCall:
    """One request to be sent upstream. `path` follows the base URL, query string included."""

    method: str
    path: str
    headers: list[tuple[str, str]] = field(repr=False)  # without credentials and length
    body: bytes | AsyncIterator[bytes] | None = field(default=None, repr=False)
    length: int | None = None  # of a body that is a stream, if known
    model: str | None = None  # None: the group of `about`
    about: str | None = None  # a model that is asked about, of whoever serves it; None: the default
    credential: Credential = NO_CREDENTIAL

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent twice: a body that is a stream is there once only."""
        return isinstance(self.body, bytes | None)


class HttpSource:
    """An answer that comes over HTTP."""

    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = list(response.raw_headers)

    def arrived(self) -> bytes:
        return self._response.content.read_nowait()

    def complete(self) -> bool:
        return self._response.content.is_eof()

    def ended(self) -> bool:
        return self._response.content.at_eof()

    async def more(self) -> bytes:
        return await self._response.content.readany()

    async def aclose(self) -> None:
        self._response.close()


class Connections:
    """The pool that all upstreams share."""

    def __init__(self, specs: Sequence[UpstreamSpec]) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._timeouts = {
            spec.name: aiohttp.ClientTimeout(total=None, sock_connect=spec.connect_timeout)
            for spec in specs
        }

    def open(self) -> None:
        """Make the pool; needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, ttl_dns_cache=60, keepalive_timeout=KEEP_ALIVE
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            raise_for_status=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=_LARGEST_HEADER,
            max_field_size=_LARGEST_HEADER,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        spec: UpstreamSpec,
        call: UpstreamCall,
        base_url: str | None,
        headers: list[tuple[str, str]],
    ) -> HttpSource:
        """Send a call and return its answer once the head is there; raise an UpstreamError."""
        assert self._session is not None, "opened before it is used"
        seconds = spec.connect_timeout + spec.first_byte_timeout
        upload: _Upload | None = None
        body: Any = call.body
        try:
            async with asyncio.timeout(seconds) as deadline:
                if isinstance(body, bytes):
                    body = io.BytesIO(body) if len(body) > _WRITE_AT_ONCE else body
                elif body is not None:
                    if call.length is not None:
                        headers.append(("content-length", str(call.length)))
                    upload = _Upload(body, deadline, seconds)
                    body = upload.chunks()
                response = await self._session.request(
                    call.method,
                    URL(f"{base_url}{call.path}", encoded=True),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=self._timeouts[spec.name],
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            if upload is not None and upload.error is not None:
                raise upload.error from None  # the client's doing, not the upstream's
            raise _told(spec, error) from error
        finally:
            if upload is not None:
                upload.waiting = False
        if response.status >= _NO_STATUS:  # it could be told to nobody
            response.close()
            raise UpstreamBroken(f"upstream {spec.name}: it answered with status {response.status}")
        return HttpSource(response)


class _Upload:
    """A streamed body on its way up: while it moves, the answer is not late."""

    def __init__(
        self, body: AsyncIterator[bytes], deadline: asyncio.Timeout, seconds: float
    ) -> None:
        self._body = body
        self._deadline = deadline
        self._seconds = seconds
        self.waiting = True  # for the head of the answer
        self.error: Exception | None = None  # raised by the body itself

    async def chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            async for chunk in self._body:
                if self.waiting:
                    self._deadline.reschedule(loop.time() + self._seconds)
                yield chunk
        except Exception as error:
            self.error = error
            raise


def _told(spec: UpstreamSpec, error: Exception) -> UpstreamError:
    """Say what happened in words that name neither URL nor key."""
    name = f"upstream {spec.name}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            seconds = spec.connect_timeout
            return UpstreamTimeout(f"{name}: no connection within {seconds:g} s", not_sent=True)
        case aiohttp.ClientConnectorError():
            return UpstreamUnavailable(f"{name}: no connection ({_reason(error)})")
        case TimeoutError():
            seconds = spec.first_byte_timeout
            return UpstreamTimeout(f"{name}: no answer within {seconds:g} s")
        case aiohttp.ClientConnectionError():
            message = f"{name}: it closed the connection without an answer"
            return UpstreamBroken(message, no_answer=True)
    return UpstreamBroken(f"{name}: its answer is not readable HTTP")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name does not resolve"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    # The error's own text has the address in it.
    return os.strerror(error.errno).lower() if error.errno else "all its addresses failed"
