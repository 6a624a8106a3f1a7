"""A policy as the fields of a form, and back. Pure; what is allowed `store/policy_file.py` says."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from proxy.dashboard.audit import Change, changes
from store.errors import PolicyInvalid
from store.policy import Mode, Offload, Policy, Scope
from store.policy_file import parse_policies, policy_as_data
from store.yaml_text import read_yaml

OTHER = ""  # where faults are kept that belong to no field


class Field(NamedTuple):
    """A control. Its name is the policy's key; `quota_entries` and `quota_bytes` make `quota`."""

    name: str
    label: str
    kind: str  # text, long, yaml, number, choice, flag
    hint: str
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key of the policy that a fault of this field names."""
        return self.name.partition("_")[0] if self.name.startswith("quota_") else self.name


class Group(NamedTuple):
    """Fields that belong together."""

    title: str
    fields: tuple[Field, ...]


_COSINE = "A cosine from -1 to 1; empty: the default."
GROUPS = (
    Group(
        "What belongs here",
        (
            Field("description", "Description", "text", "For people only."),
            Field("examples", "Examples", "long",
                  "Questions that belong here, one a line; 8 to 20 of varied wording do well. "
                  "\\n stands for a line break within one, \\\\ for a backslash."),
            Field("match", "Match rules", "yaml",
                  "YAML, a list: - {regex: \"(?i)price of\"}. Any of model, tenant, path, header, "
                  "regex; all conditions of a rule must hold, one rule is enough."),
            Field("locked", "Locked", "flag", "The rules go before any header."),
        ),
    ),
    Group(
        "What may be served",
        (
            Field("mode", "Mode", "choice",
                  "semantic: by exact key or by meaning. exact: by exact key. off: never.",
                  tuple(Mode)),
            Field("scope", "Scope", "choice", "Whose answers may be served to whom.", tuple(Scope)),
            Field("hit_threshold", "Hit threshold", "number",
                  f"The least likeness of a hit by meaning. {_COSINE}"),
            Field("near_threshold", "Near threshold", "number",
                  f"From here on an answer may be an example. {_COSINE}"),
            Field("context_threshold", "Context threshold", "number",
                  f"The least likeness of earlier turns. {_COSINE}"),
            Field("error_budget", "Error budget", "number",
                  "The share of wrong hits by meaning that is allowed, as 0.01; empty: none."),
            Field("max_temperature", "Highest temperature", "number",
                  "Above it nothing is looked up or stored."),
            Field("max_turns", "Most user turns", "number", "Above it only the exact key counts."),
        ),
    ),
    Group(
        "How long, and how much",
        (
            Field("ttl", "Lifetime (ttl)", "text", "As 30s, 15m, 24h or 7d."),
            Field("stale_if_error", "Stale if error", "text",
                  "How long after that it may stand in for an upstream that fails."),
            Field("quota_entries", "Quota: entries", "number", "What the category may hold."),
            Field("quota_bytes", "Quota: bytes", "text", "As 64KiB, 256MiB or 2GiB."),
            Field("priority", "Priority", "number", "2 keeps twice as much of lent room as 1."),
            Field("store_tool_calls", "Store tool calls", "flag",
                  "Answers that end in tool calls are stored."),
            Field("audit", "Audit", "flag", "Hits may be asked again and shown to the judge."),
        ),
    ),
    Group(
        "Near-hits",
        (
            Field("offload", "Offload", "choice",
                  "Whether a small model may answer: on needs a judge or feedback.",
                  tuple(Offload)),
            Field("example_scope", "Example scope", "choice", "Whose answers it may be shown.",
                  (Scope.USER, Scope.TENANT)),
            Field("quality_floor", "Quality floor", "number",
                  "The least mean quality of its answers, 1 being the requested model's."),
            Field("exploration", "Exploration", "number",
                  "The least share of requests for an arm that is not the favourite."),
            Field("answer_format", "Answer format", "choice", "How its answers are compared.",
                  ("free", "exact", "number", "json")),
        ),
    ),
    Group(
        "Under load",
        (
            Field("load", "Load", "yaml",
                  "YAML; empty: never bent. {latency_target_ms: 2000, threshold_floor: 0.9, "
                  "ttl_ceiling: 30d}"),
        ),
    ),
)  # fmt: skip
FIELDS = tuple(field for group in GROUPS for field in group.fields)
_WHOLE = ("max_turns", "quota_entries")
_SIZES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
Values = dict[str, str]  # what stands in each field; a flag that is not there is off
Faults = dict[str, list[str]]  # by key of the policy


def values_of(policy: Policy) -> Values:
    """Return what stands in the form of a policy."""
    data = policy_as_data(policy)
    values: Values = {}
    for field in FIELDS:
        if field.name == "quota_entries":
            values[field.name] = str(policy.quota.entries)
        elif field.name == "quota_bytes":
            values[field.name] = _size_text(policy.quota.bytes)
        elif field.kind == "flag":
            if data[field.name]:
                values[field.name] = "on"
        else:
            values[field.name] = _text(field, data[field.name])
    return values


def raw_of(values: Values) -> tuple[dict[str, Any], Faults]:
    """Return the policy that a form says, to be parsed, and what of it cannot be read at all.

    What is left empty is left out, and takes its default.
    """
    raw: dict[str, Any] = {}
    faults: Faults = {}
    for field in FIELDS:
        typed = values.get(field.name, "")
        if field.kind == "flag":
            raw[field.name] = typed == "on"
            continue
        if field.name != "examples" and not typed.strip():
            continue
        try:
            value = _read(field, typed)
        except ValueError as error:
            faults[field.name] = [str(error)]
            continue
        if field.key == "quota":
            raw.setdefault("quota", {})[field.name.removeprefix("quota_")] = value
        else:
            raw[field.name] = value
    return raw, faults


def parsed(name: str, values: Values) -> tuple[Policy | None, dict[str, Any], Faults]:
    """Return the policy that a form says, its raw data, and what is wrong with it by key."""
    raw, faults = raw_of(values)
    raw["name"] = name
    try:
        policy = parse_policies({"categories": [raw]}, "body")[name]
    except PolicyInvalid as refused:
        for key, said in faults_by_key(refused).items():
            faults.setdefault(key, []).extend(said)
        return None, raw, faults
    return (None if faults else policy), raw, faults


def faults_by_key(refused: PolicyInvalid) -> Faults:
    """Return what is wrong with a policy by the key that it is about; OTHER for the rest."""
    keys = {"name", *(field.key for field in FIELDS)}
    by_key: Faults = {}
    for fault in refused.faults:
        told = fault.removeprefix("body: ").removeprefix("categories[0].")
        where, _, said = told.partition(": ")
        key = where.partition(".")[0]
        if key in keys:
            within = where.partition(".")[2]
            by_key.setdefault(key, []).append(f"{within}: {said}" if within else said)
        else:
            by_key.setdefault(OTHER, []).append(told)
    return by_key


def differences(before: object, after: object) -> list[Change]:
    """Return what differs between two policies' data; of examples which came and which went."""
    told = []
    for change in changes(before, after):
        if change.key == "examples" and isinstance(before, dict) and isinstance(after, dict):
            was, now = before.get("examples") or [], after.get("examples") or []
            told += [Change("examples", text, None) for text in was if text not in now]
            told += [Change("examples", None, text) for text in now if text not in was]
            if sorted(was) == sorted(now):
                told.append(Change("examples", None, "in another order"))
        else:
            told.append(change)
    return told


def _text(field: Field, value: Any) -> str:
    if value is None or value == []:
        return ""
    if field.name == "examples":
        return "\n".join(_escaped(text) for text in value)
    if field.kind == "yaml":
        dumped: str = yaml.safe_dump(
            value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000
        )
        return dumped
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _read(field: Field, typed: str) -> Any:
    if field.name == "examples":
        lines = typed.replace("\r\n", "\n").split("\n")
        return [_unescaped(line) for line in lines if line.strip()]
    if field.kind == "yaml":
        return read_yaml(typed)
    if field.kind == "number":
        return _number(typed.strip(), field.name in _WHOLE)
    return typed if field.name == "description" else typed.strip()


def _number(typed: str, whole: bool) -> Any:
    """Return the number; what is none stays as it is, for the parser to say what is allowed."""
    try:
        return int(typed) if whole else float(typed)
    except ValueError:
        return typed


def _size_text(bytes: int) -> str:
    for unit, scale in _SIZES:
        if bytes and bytes % scale == 0:
            return f"{bytes // scale}{unit}"
    return str(bytes)


_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_MEANT = {escape: meant for meant, escape in _ESCAPES.items()}


def _escaped(text: str) -> str:
    return re.sub(r"[\\\n\r]", lambda found: _ESCAPES[found[0]], text)


def _unescaped(line: str) -> str:
    return re.sub(r"\\[\\nr]", lambda found: _MEANT[found[0]], line)
