"""The files that pages are made of besides themselves: read once, and served from memory."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".svg": "image/svg+xml"}  # fmt: skip


class Assets:
    """Scripts and styles, each under its name."""

    def __init__(self) -> None:
        self._files = {
            file.name: (file.read_bytes(), _TYPES[file.suffix])
            for file in sorted(STATIC.iterdir())
            if file.suffix in _TYPES
        }
        self._tags = {n: f'"{sha256(b).hexdigest()[:16]}"' for n, (b, _) in self._files.items()}

    async def serve(self, request: Request) -> Response:
        """Return one file; a browser that has it is told so."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        body, kind = self._files[name]
        headers = {
            "etag": self._tags[name],
            "cache-control": "no-cache",  # asked again each time, answered with 304
            "x-content-type-options": "nosniff",
        }
        if request.headers.get("if-none-match") == self._tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=kind, headers=headers)
