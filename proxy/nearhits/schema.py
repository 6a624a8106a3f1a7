"""Whether JSON breaks the schema that the client gave: only what is certain, for a veto. Pure.

What is not known here (`pattern`, `$ref`, bounds of numbers ...) breaks nothing.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 64  # schemas within each other; what is deeper breaks nothing
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
    "integer": (int, float),
}


def breaks(value: Any, schema: Any, depth: int = 0) -> bool:
    """Whether a value, as `json.loads` gives it, certainly is not what a JSON schema asks for."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema is False
    depth += 1
    if _is_another_kind(value, schema.get("type")):
        return True
    if "const" in schema and not _same(value, schema["const"]):
        return True
    allowed = schema.get("enum")
    if isinstance(allowed, list) and not any(_same(value, each) for each in allowed):
        return True
    for word in ("anyOf", "oneOf"):
        ways = schema.get(word)
        if isinstance(ways, list) and ways and all(breaks(value, way, depth) for way in ways):
            return True
    parts = schema.get("allOf")
    if isinstance(parts, list) and any(breaks(value, part, depth) for part in parts):
        return True
    if isinstance(value, dict):
        return _breaks_object(value, schema, depth)
    if isinstance(value, list) and "prefixItems" not in schema:
        return any(breaks(each, schema.get("items", True), depth) for each in value)
    return False


def _breaks_object(value: dict[str, Any], schema: dict[str, Any], depth: int) -> bool:
    required, properties = schema.get("required"), schema.get("properties")
    if isinstance(required, list) and any(
        isinstance(name, str) and name not in value for name in required
    ):
        return True
    known = properties if isinstance(properties, dict) else {}
    others = True if "patternProperties" in schema else schema.get("additionalProperties", True)
    return any(breaks(each, known.get(name, others), depth) for name, each in value.items())


def _is_another_kind(value: Any, wanted: Any) -> bool:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(kinds, list) or not kinds:
        return False
    return not any(_is_kind(value, kind) for kind in kinds)


def _is_kind(value: Any, kind: Any) -> bool:
    types = _KINDS.get(kind) if isinstance(kind, str) else None
    if types is None:
        return True  # not a kind that is known
    if isinstance(value, bool):
        return bool(kind == "boolean")
    if kind == "integer" and isinstance(value, float):
        return bool(value.is_integer())
    return isinstance(value, types)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)
