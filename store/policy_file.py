"""Policies as data: reading them whole or not at all, and writing them back.

Parsing is total: a document with one fault is refused as a whole, with a line per fault that
names the key, the value and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from store.errors import PolicyInvalid
from store.eviction import Quota
from store.match import MatchRule
from store.policy import (
    DEFAULT_CATEGORY,
    HIT_THRESHOLD,
    NEAR_THRESHOLD,
    SCORED_CONTEXT_THRESHOLD,
    SCORED_HIT_THRESHOLD,
    SCORED_NEAR_THRESHOLD,
    LoadRule,
    Mode,
    Offload,
    Policy,
    PolicyBook,
    Scope,
)
from store.units import duration_text, parse_duration, parse_size
from store.yaml_text import read_yaml

STARTER_FILE = Path(__file__).parent / "starter_policies.yaml"
MAX_CATEGORIES = 200  # each is a value of metric labels
MAX_EXAMPLES = 200  # a category: each is encoded
MAX_EXAMPLE = 1000  # characters
MAX_RULES = 50  # a category: each is asked at every request
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_READ_ONLY = "effective"  # what the admin API adds to a policy

Reader = Callable[[object], Any]


def _number(low: float, high: float, *, above: bool = False) -> Reader:
    def read(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if (low < value if above else low <= value) and value <= high:
                return float(value)
        raise ValueError(f"a number {'above' if above else 'from'} {low:g} to {high:g}")

    return read


def _whole(low: int) -> Reader:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 2**53:
            raise ValueError(f"a whole number, {low} or more")
        return value

    return read


def _joined(text: str) -> str:
    """Return a text with its surrogate pairs joined; raise ValueError for half of one.

    YAML leaves apart what JSON's escapes write as two, and no encoding has room for a half.
    """
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise ValueError("a text without half a surrogate pair in it") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 10_000:
        raise ValueError("a text")
    return _joined(value)


def _glob(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise ValueError("a glob of 1 to 256 characters")
    return _joined(value)


def _flag(value: object) -> bool:
    if value in ("on", "off"):
        return value == "on"
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _one_of(*allowed: str) -> Reader:
    def read(value: object) -> str:
        # YAML 1.1 reads a bare `on` as true and a bare `off` as false.
        if isinstance(value, bool):
            value = "on" if value else "off"
        if value not in allowed:
            raise ValueError(" | ".join(allowed))
        return str(value)

    return read


def _quota(value: object) -> Quota:
    if not isinstance(value, dict) or not value.keys() <= {"entries", "bytes"}:
        raise ValueError("{entries: N, bytes: SIZE}")
    default = Policy(name="").quota
    entries = _whole(0)(value.get("entries", default.entries))
    return Quota(entries, parse_size(value.get("bytes", default.bytes)))


def _load(value: object) -> LoadRule | None:
    keys = {"latency_target_ms", "threshold_floor", "ttl_ceiling"}
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != keys:
        raise ValueError("null, or all of {latency_target_ms, threshold_floor, ttl_ceiling}")
    try:
        return LoadRule(
            latency_target_ms=_number(0, 1e9, above=True)(value["latency_target_ms"]),
            threshold_floor=_number(-1, 1)(value["threshold_floor"]),
            ttl_ceiling=parse_duration(value["ttl_ceiling"]),
        )
    except ValueError as error:
        raise ValueError(
            f"latency_target_ms above 0, threshold_floor a cosine, ttl_ceiling a duration ({error})"
        ) from None


def _examples(value: object) -> tuple[str, ...]:
    texts = isinstance(value, list) and all(
        isinstance(text, str) and text.strip() and len(text) <= MAX_EXAMPLE for text in value
    )
    if not isinstance(value, list) or not texts or len(value) > MAX_EXAMPLES:
        raise ValueError(f"a list of at most {MAX_EXAMPLES} texts of 1 to {MAX_EXAMPLE} characters")
    return tuple(dict.fromkeys(map(_joined, value)))


def _rule(value: object) -> MatchRule:
    keys = {"model", "tenant", "path", "header", "regex"}
    if not isinstance(value, dict) or not value or not value.keys() <= keys:
        raise ValueError("a list of rules with any of model, tenant, path, header, regex")
    headers = _headers(value["header"]) if "header" in value else ()
    return MatchRule(
        model=_glob(value["model"]) if "model" in value else None,
        tenant=_glob(value["tenant"]) if "tenant" in value else None,
        path=_glob(value["path"]) if "path" in value else None,
        header=headers,
        regex=_text(value["regex"]) if "regex" in value else None,
    )


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
        globs = {_joined(name).lower(): _glob(glob) for name, glob in value.items()}
        if len(globs) == len(value):
            return tuple(sorted(globs.items()))
    raise ValueError("header: a mapping of header names, each once, to globs; one at least")


def _rules(value: object) -> tuple[MatchRule, ...]:
    if not isinstance(value, list) or len(value) > MAX_RULES:
        raise ValueError(f"a list of at most {MAX_RULES} rules")
    return tuple(_rule(rule) for rule in value)


def _budget(value: object) -> float | None:
    if value is None:
        return None
    number: float = _number(0, 0.5, above=True)(value)
    return number


_READERS: dict[str, Reader] = {
    "description": _text,
    "examples": _examples,
    "match": _rules,
    "locked": _flag,
    "mode": lambda value: Mode(_one_of(*Mode)(value)),
    "hit_threshold": _number(-1, 1),
    "near_threshold": _number(-1, 1),
    "context_threshold": _number(-1, 1),
    "ttl": parse_duration,
    "stale_if_error": parse_duration,
    "quota": _quota,
    "priority": _number(0, 1000, above=True),
    "max_temperature": _number(0, 1e9),
    "max_turns": _whole(0),
    "scope": lambda value: Scope(_one_of(*Scope)(value)),
    "store_tool_calls": _flag,
    "error_budget": _budget,
    "audit": _flag,
    "offload": lambda value: Offload(_one_of(*Offload)(value)),
    "example_scope": lambda value: Scope(_one_of(Scope.USER, Scope.TENANT)(value)),
    "quality_floor": _number(0, 1),
    "exploration": _number(0, 1),
    "answer_format": _one_of("free", "exact", "number", "json"),
    "load": _load,
}
FIELDS = ("name", *_READERS)


def _fault(where: str, value: object, allowed: str) -> str:
    return f"{where}: {value!r} is not allowed; allowed: {allowed}"


def read_policy(raw: object, where: str, faults: list[str]) -> Policy | None:
    """Return one category's policy; add a line to `faults` for whatever is wrong with it."""
    if not isinstance(raw, dict):
        faults.append(_fault(where, raw, "a mapping with a `name`"))
        return None
    name = raw.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        faults.append(_fault(f"{where}.name", name, "a-z, 0-9, _ and -, 64 characters at most"))
        return None
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key in ("name", _READ_ONLY):
            continue
        if key not in _READERS:
            faults.append(f"{where}.{key}: unknown key; allowed: {', '.join(FIELDS)}")
            continue
        try:
            values[key] = _READERS[key](value)
        except ValueError as error:
            faults.append(_fault(f"{where}.{key}", value, str(error)))
    _check_order(values, where, faults)
    return Policy(name=name, **values)


def _check_order(values: dict[str, Any], where: str, faults: list[str]) -> None:
    """Refuse pairs in the wrong order; an unset near threshold follows a low hit threshold.

    With an error budget the thresholds that are not set are the lower ones: the score decides. By
    cosine and guards alone they would let one hit in three be wrong.
    """
    scored = values.get("error_budget") is not None
    if scored:
        values.setdefault("hit_threshold", SCORED_HIT_THRESHOLD)
        values.setdefault("context_threshold", SCORED_CONTEXT_THRESHOLD)
    hit = values.get("hit_threshold", HIT_THRESHOLD)
    if "near_threshold" not in values:
        values["near_threshold"] = min(SCORED_NEAR_THRESHOLD if scored else NEAR_THRESHOLD, hit)
    elif values["near_threshold"] > hit:
        allowed = f"at most hit_threshold ({hit:g})"
        faults.append(_fault(f"{where}.near_threshold", values["near_threshold"], allowed))
    load = values.get("load")
    if load is None:
        return
    ttl = values.get("ttl", Policy(name="").ttl)
    if load.threshold_floor > hit:
        allowed = f"at most hit_threshold ({hit:g})"
        faults.append(_fault(f"{where}.load.threshold_floor", load.threshold_floor, allowed))
    if load.ttl_ceiling < ttl:
        allowed = f"at least ttl ({duration_text(ttl)})"
        shown = duration_text(load.ttl_ceiling)
        faults.append(_fault(f"{where}.load.ttl_ceiling", shown, allowed))


def parse_policies(raw: object, file: str) -> PolicyBook:
    """Read a policies document; raise PolicyInvalid: a line per fault with file, key and value."""
    faults: list[str] = []
    policies: dict[str, Policy] = {}
    categories = raw.get("categories") if isinstance(raw, dict) else None
    if not isinstance(categories, list):
        raise PolicyInvalid([f"{file}: categories: missing; allowed: a list of categories"])
    if isinstance(raw, dict):
        faults += [f"{key}: unknown key; allowed: categories" for key in raw if key != "categories"]
    if len(categories) > MAX_CATEGORIES:
        faults.append(f"categories: {len(categories)} of them; allowed: {MAX_CATEGORIES}")
    for number, category in enumerate(categories[:MAX_CATEGORIES]):
        policy = read_policy(category, f"categories[{number}]", faults)
        if policy is None:
            continue
        if policy.name in policies:
            faults.append(_fault(f"categories[{number}].name", policy.name, "each name once"))
        if not faults and not _reads_back(policy):
            faults.append(f"categories[{number}]: cannot be written so that it reads back the same")
        policies[policy.name] = policy
    if faults:
        raise PolicyInvalid([f"{file}: {fault}" for fault in faults])
    if DEFAULT_CATEGORY not in policies:
        policies[DEFAULT_CATEGORY] = Policy(name=DEFAULT_CATEGORY)
    return PolicyBook(policies)


def _reads_back(policy: Policy) -> bool:
    """Whether what is stored of a policy says the same again.

    A server whose newest version could not be read would never start again.
    """
    faults: list[str] = []
    again = read_policy(policy_as_data(policy), policy.name, faults)
    return again == policy and not faults


def read_document(path: Path) -> tuple[bytes, PolicyBook]:
    """Read a policies file; return its bytes and what they say; raise PolicyInvalid."""
    try:
        raw = path.read_bytes()
        data = read_yaml(raw.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyInvalid([f"{path}: cannot be read: {error}"]) from None
    except ValueError as error:
        raise PolicyInvalid([f"{path}: {error}"]) from None
    return raw, parse_policies(data, str(path))


def load_policies(path: Path | None) -> PolicyBook:
    """Read a policies file, or the starter file for None; raise PolicyInvalid."""
    return read_document(path or STARTER_FILE)[1]


def book_as_data(book: PolicyBook) -> dict[str, object]:
    """Return a book as the document that parse_policies reads."""
    return {"categories": [policy_as_data(book[name]) for name in book.names]}


def policy_as_data(policy: Policy) -> dict[str, object]:
    """Return a policy as the plain values that a policies file holds, every key of it."""
    return {name: _as_data(getattr(policy, name)) for name in FIELDS}


def _as_data(value: object) -> object:
    match value:
        case timedelta():
            return duration_text(value)
        case Quota():
            return {"entries": value.entries, "bytes": value.bytes}
        case LoadRule():
            names = ("latency_target_ms", "threshold_floor", "ttl_ceiling")
            return {name: _as_data(getattr(value, name)) for name in names}
        case MatchRule():
            return _rule_as_data(value)
        case tuple():
            return [_as_data(each) for each in value]
        case Mode() | Scope() | Offload():
            return str(value)
    return value


def _rule_as_data(rule: MatchRule) -> Mapping[str, object]:
    conditions = {
        "model": rule.model,
        "tenant": rule.tenant,
        "path": rule.path,
        "header": dict(rule.header) or None,
        "regex": rule.regex,
    }
    return {name: value for name, value in conditions.items() if value is not None}
