"""The model that an uploaded form names. Pure."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesHeaderParser

_NAMED = "content-disposition"
_MOST = 100  # fields that are read: a body of nothing but boundaries must not keep others waiting


def is_form(content_type: bytes) -> bool:
    """Whether a body of this type is a form with files."""
    return content_type.lower().startswith(b"multipart/form-data")


def model_of_form(content_type: bytes, begun: bytes) -> str | None:
    """Return what the field `model` holds, None unless that has come whole among the first fields.

    `begun` is as much of the form as has come.
    """
    told = Message()
    told["content-type"] = content_type.decode("latin-1")
    boundary = told.get_boundary()
    if not boundary:
        return None
    # What stands before the first boundary is no field, and the last field may go on.
    fields = (b"\r\n" + begun).split(b"\r\n--" + boundary.encode("latin-1"), _MOST + 1)
    for field in fields[1:-1]:
        head, _, value = field.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        about = BytesHeaderParser().parsebytes(head)
        if about.get_param("name", header=_NAMED) == "model" and about.get_filename() is None:
            return value.decode("utf-8", "replace")
    return None
