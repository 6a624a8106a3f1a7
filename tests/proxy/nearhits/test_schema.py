"""What certainly breaks a schema is told from what may do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.nearhits.schema import breaks

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "role": {"enum": ["cook", "baker"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ada", "age": 36},
        {"name": "Ada", "age": None, "role": "cook", "tags": ["a"]},
        {"name": "Ada", "age": 36.0},
    ],
)
def test_what_keeps_to_it_breaks_nothing(value: Any) -> None:
    assert not breaks(value, PERSON)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(42, id="no object"),
        pytest.param({"name": "Ada"}, id="a field is missing"),
        pytest.param({"name": 7, "age": 36}, id="another kind"),
        pytest.param({"name": "Ada", "age": True}, id="true is no number"),
        pytest.param({"name": "Ada", "age": 36.5}, id="not whole"),
        pytest.param({"name": "Ada", "age": 36, "role": "king"}, id="none of those allowed"),
        pytest.param({"name": "Ada", "age": 36, "tags": ["a", 1]}, id="within a list"),
        pytest.param({"name": "Ada", "age": 36, "born": 1815}, id="a field too many"),
    ],
)
def test_what_does_not_breaks_it(value: Any) -> None:
    assert breaks(value, PERSON)


@pytest.mark.parametrize(
    ("schema", "value", "broken"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, True),
        ({"allOf": [{"type": "object"}, {"required": ["a"]}]}, {}, True),
        ({"const": 1}, True, True),
        ({"$ref": "#/$defs/x"}, 1, False),
        ({"type": "quark"}, 1, False),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, ["a"], False),
        ({"patternProperties": {"^a": {}}, "additionalProperties": False}, {"ab": 1}, False),
    ],
)
def test_only_what_is_certain_counts(schema: Any, value: Any, broken: bool) -> None:
    assert breaks(value, schema) is broken


@given(JSON, JSON)
def test_whatever_a_client_calls_a_schema_is_looked_at(value: Any, schema: Any) -> None:
    assert breaks(value, {"properties": schema, "items": schema, "type": schema}) in (True, False)
