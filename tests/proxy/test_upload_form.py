"""The model of a form is read from its beginning, and never from within a file."""

from __future__ import annotations

import pytest

from proxy.upload_form import is_form, model_of_form

TYPE = b'multipart/form-data; boundary="edge"'
FIELD = b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
FILE = (
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\0\r\n\r\n\1\r\n"
)
END = b"--edge--\r\n"


@pytest.mark.parametrize(
    ("begun", "model"),
    [
        pytest.param(FIELD + FILE + END, "whisper-1", id="first"),
        pytest.param(FILE + FIELD + END, "whisper-1", id="last"),
        pytest.param(b"preamble\r\n" + FIELD + END, "whisper-1", id="after a preamble"),
        pytest.param(FIELD + b"--edge", "whisper-1", id="the rest is to come"),
        pytest.param(FIELD.replace(b'"model"', b"model") + END, "whisper-1", id="unquoted"),
        pytest.param(99 * FILE + FIELD + END, "whisper-1", id="the hundredth"),
        pytest.param(100 * FILE + FIELD + END, None, id="beyond a hundred"),
        pytest.param(FILE + END, None, id="none"),
        pytest.param(FIELD, None, id="not whole yet"),
        pytest.param(FILE.replace(b'"file"', b'"model"') + END, None, id="a file of that name"),
        pytest.param(
            FILE.replace(b"\1", b'name="model"\r\n\r\nwhisper-9') + END, None, id="within a file"
        ),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"\xff\0", None, id="garbage"),
    ],
)
def test_a_model_is_what_its_field_holds(begun: bytes, model: str | None) -> None:
    assert model_of_form(TYPE, begun) == model


@pytest.mark.parametrize("size", [1, 7, 64])
def test_it_is_known_as_soon_as_its_field_has_come(size: int) -> None:
    whole = FIELD + FILE + END
    known = [model_of_form(TYPE, whole[:end]) for end in range(0, len(whole), size)]
    assert set(known[: len(FIELD) // size]) == {None}
    assert known[-1] == "whisper-1"


def test_a_form_without_a_boundary_names_none() -> None:
    assert model_of_form(b"multipart/form-data", FIELD + END) is None


@pytest.mark.parametrize(
    ("content_type", "form"),
    [(TYPE, True), (b"Multipart/Form-Data; boundary=a", True), (b"", False)],
)
def test_what_is_a_form_is_told_by_its_type(content_type: bytes, form: bool) -> None:
    assert is_form(content_type) is form
