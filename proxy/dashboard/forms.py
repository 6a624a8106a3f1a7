"""What a browser sends: the fields of a form, and those of an address."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from proxy.errors import ApiError

_FIELDS = 200  # of one form


async def fields(request: Request) -> dict[str, str]:
    """Return the fields of a submitted form; of a repeated one the last. Raises ApiError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise ApiError(415, "a form is sent as application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, max_num_fields=_FIELDS
        )
    except ValueError as error:
        raise ApiError(400, f"the form cannot be read: {error}") from None
    return dict(pairs)


def whole(text: str, name: str, least: int, most: int) -> int:
    """Return a field that is a whole number within bounds; raise ApiError naming the field."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise ApiError(400, f"{name}: {text!r} is not allowed; from {least} to {most}", param=name)
    return number
