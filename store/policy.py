"""How each category of traffic is cached: the rules as data, and the one judgement over them.

Parsing is total: a file with one fault is refused as a whole with a line per fault. Fields of
CONTRACT.md whose feature is not in this version are known but may only hold their default, so
that nobody believes in a rule that is not applied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from store.errors import PolicyInvalid
from store.eviction import Quota

DEFAULT_CATEGORY = "default"
HIT_THRESHOLD = 0.92  # from the sweep in docs/LOG.md: precision before recall


class Mode(StrEnum):
    """How far a category may be answered from the cache."""

    SEMANTIC = "semantic"
    EXACT = "exact"
    OFF = "off"


class Verdict(StrEnum):
    """What a candidate is worth to a query."""

    HIT = "hit"
    STALE = "stale"
    MISS = "miss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one category is cached."""

    name: str
    description: str = ""
    mode: Mode = Mode.SEMANTIC
    hit_threshold: float = HIT_THRESHOLD
    ttl: timedelta = timedelta(hours=24)
    quota: Quota = Quota(10_000, 256 * 2**20)
    max_temperature: float = 1.0
    max_turns: int = 20
    store_tool_calls: bool = False

    def judge(self, similarity: float, age: timedelta) -> Verdict:
        """Say what an entry of this cosine and age is worth; the threshold is inclusive."""
        if similarity < self.hit_threshold:
            return Verdict.MISS
        return Verdict.STALE if self.expired(age) else Verdict.HIT

    def expired(self, age: timedelta) -> bool:
        """Whether an entry of this age is past its lifetime; hits never extend it."""
        return age > self.ttl


_STRICTNESS = (Mode.SEMANTIC, Mode.EXACT, Mode.OFF)


def stricter(a: Policy, b: Policy) -> Policy:
    """Return `a` with the stricter of both policies' mode, threshold and TTL.

    An entry is judged by its own category's policy and the request's, so that a query on the
    border of two categories cannot fetch an expired price as a fact.
    """
    if a is b:
        return a
    return replace(
        a,
        mode=max(a.mode, b.mode, key=_STRICTNESS.index),
        hit_threshold=max(a.hit_threshold, b.hit_threshold),
        ttl=min(a.ttl, b.ttl),
    )


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """All categories by name; `default` is always among them."""

    policies: Mapping[str, Policy]

    def __getitem__(self, category: str) -> Policy:
        return self.policies[category]

    def __contains__(self, category: str) -> bool:
        return category in self.policies

    @property
    def names(self) -> list[str]:
        """Every category's name, in the file's order."""
        return list(self.policies)

    @property
    def capacity(self) -> Quota:
        """The sum of all quotas."""
        quotas = [policy.quota for policy in self.policies.values()]
        return Quota(sum(q.entries for q in quotas), sum(q.bytes for q in quotas))


STARTER_BOOK = PolicyBook({DEFAULT_CATEGORY: Policy(name=DEFAULT_CATEGORY)})

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_SCALE = {
    None: 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


def parse_duration(value: object) -> timedelta:
    """Read "15m", "7d" or a number of seconds; raise ValueError saying what is allowed."""
    allowed = "a duration such as 30s, 15m, 24h or 7d"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return timedelta(seconds=value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(allowed)
    seconds = float(match[1]) * _UNIT[match[2]]
    if seconds >= 1e9:
        raise ValueError(allowed)
    return timedelta(seconds=seconds)


def parse_size(value: object) -> int:
    """Read "256MiB" or a number of bytes; raise ValueError saying what is allowed."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size of 0 or more, such as 64KiB or 256MiB")
    return int(float(match[1]) * _SCALE[match[2]])


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= float(value) <= high:  # type: ignore[arg-type]
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type]

    return read


def _whole(low: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"a whole number, {low} or more")
        return value

    return read


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _flag(value: object) -> bool:
    if value in ("on", "off"):
        return value == "on"
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _mode(value: object) -> Mode:
    # YAML 1.1 reads a bare `off` as false.
    value = "off" if value is False else value
    if value not in tuple(Mode):
        raise ValueError(" | ".join(Mode))
    return Mode(str(value))


def _quota(value: object) -> Quota:
    if not isinstance(value, dict) or not value.keys() <= {"entries", "bytes"}:
        raise ValueError("{entries: N, bytes: SIZE}")
    default = Policy(name="").quota
    entries = _whole(0)(value.get("entries", default.entries))
    return Quota(entries, parse_size(value.get("bytes", default.bytes)))


_READERS: dict[str, Callable[[object], Any]] = {
    "description": _text,
    "mode": _mode,
    "hit_threshold": _number(-1, 1),
    "ttl": parse_duration,
    "quota": _quota,
    "max_temperature": _number(0, 1e9),
    "max_turns": _whole(0),
    "store_tool_calls": _flag,
}
# Of CONTRACT.md, in force in later versions: accepted at their default only.
_NOT_YET: dict[str, tuple[object, ...]] = {
    "examples": ([],),
    "match": ([],),
    "locked": (False,),
    "stale_if_error": ("0s", 0),
    "priority": (1,),
    "scope": ("tenant",),
    "error_budget": (None,),
    "audit": ("on", True),
    "offload": ("on", True),
    "example_scope": ("user",),
    "quality_floor": (0.85,),
    "exploration": (0.05,),
    "answer_format": ("free",),
    "load": (None,),
}
_THRESHOLDS_NOT_YET = ("near_threshold", "context_threshold")  # no numeric default of their own


def _fault(where: str, value: object, allowed: str) -> str:
    return f"{where}: {value!r} is not allowed; allowed: {allowed}"


def _read_category(raw: object, where: str, faults: list[str]) -> Policy | None:
    if not isinstance(raw, dict):
        faults.append(_fault(where, raw, "a mapping with a `name`"))
        return None
    name = raw.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        faults.append(_fault(f"{where}.name", name, "a-z, 0-9, _ and -, 64 characters at most"))
        return None
    values: dict[str, Any] = {}
    for key, value in raw.items():
        at = f"{where}.{key}"
        if key == "name":
            continue
        if key in _READERS:
            try:
                values[key] = _READERS[key](value)
            except ValueError as error:
                faults.append(_fault(at, value, str(error)))
        elif key in _THRESHOLDS_NOT_YET:
            _check_unused_threshold(raw, key, at, faults)
        elif key in _NOT_YET:
            if not any(value == default for default in _NOT_YET[key]):
                default = _NOT_YET[key][0]
                faults.append(_fault(at, value, f"{default!r} only; not in force in this version"))
        else:
            known = ", ".join(["name", *_READERS, *_THRESHOLDS_NOT_YET, *_NOT_YET])
            faults.append(f"{at}: unknown key; allowed: {known}")
    return Policy(name=name, **values)


def _check_unused_threshold(raw: dict[Any, Any], key: str, where: str, faults: list[str]) -> None:
    """A near threshold does nothing yet, but a pair in the wrong order is a mistake today too."""
    try:
        near = _number(-1, 1)(raw[key])
        hit = _number(-1, 1)(raw.get("hit_threshold", HIT_THRESHOLD))
    except ValueError as error:
        faults.append(_fault(where, raw[key], str(error)))
        return
    if key == "near_threshold" and near > hit:
        faults.append(_fault(where, near, f"at most hit_threshold ({hit:g})"))


def parse_policies(raw: object, file: str) -> PolicyBook:
    """Read a policies document; raise PolicyInvalid: a line per fault with file, key and value."""
    faults: list[str] = []
    policies: dict[str, Policy] = {}
    categories = raw.get("categories") if isinstance(raw, dict) else None
    if not isinstance(categories, list):
        raise PolicyInvalid([f"{file}: categories: missing; allowed: a list of categories"])
    if isinstance(raw, dict):
        faults += [f"{key}: unknown key; allowed: categories" for key in raw if key != "categories"]
    for number, category in enumerate(categories):
        policy = _read_category(category, f"categories[{number}]", faults)
        if policy is None:
            continue
        if policy.name in policies:
            faults.append(_fault(f"categories[{number}].name", policy.name, "each name once"))
        policies[policy.name] = policy
    if faults:
        raise PolicyInvalid([f"{file}: {fault}" for fault in faults])
    if DEFAULT_CATEGORY not in policies:
        policies[DEFAULT_CATEGORY] = Policy(name=DEFAULT_CATEGORY)
    return PolicyBook(policies)


def load_policies(path: Path | None) -> PolicyBook:
    """Read a policies file, or the starter book for None; raise PolicyInvalid."""
    if path is None:
        return STARTER_BOOK
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyInvalid([f"{path}: cannot be read: {error}"]) from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise PolicyInvalid([f"{path}: is not YAML: {text}"]) from None
    return parse_policies(raw, str(path))


def policy_as_data(policy: Policy) -> dict[str, object]:
    """Return a policy as the plain values that a policies file holds."""
    values: dict[str, object] = {f.name: getattr(policy, f.name) for f in fields(policy)}
    values["mode"] = str(policy.mode)
    values["ttl"] = f"{policy.ttl.total_seconds():.10g}s"
    values["quota"] = {"entries": policy.quota.entries, "bytes": policy.quota.bytes}
    return values
