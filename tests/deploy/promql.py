"""What a PromQL expression names: metrics, the labels that it selects by and groups by. Pure.

No parser, only a careful reading of words: it refuses what it does not know, so that nothing that
is misspelt passes for a function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

GROUPING = frozenset("by without on ignoring group_left group_right".split())
FUNCTIONS = frozenset(
    "sum max min avg count topk rate irate increase histogram_quantile clamp_min clamp_max abs"
    " absent time vector label_values".split()
)
OPERATORS = frozenset("and or unless offset bool".split())

_TOKEN = re.compile(
    r"\s+|(?P<text>\"(?:[^\"\\]|\\.)*\")|(?P<range>\[[^\]]*\])|(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)"
    r"|(?P<number>[0-9.]+[smhdw]?)|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){},])"
)
_DURATION = re.compile(r"\[(\d+[smhdw]|\$__rate_interval)\]")


class Matcher(NamedTuple):
    """A label that a selector tells by, and the values that it names."""

    metric: str
    label: str
    values: tuple[str, ...]  # of a regular expression its alternatives


class Named(NamedTuple):
    """What an expression names."""

    metrics: frozenset[str]
    matchers: tuple[Matcher, ...]
    grouped: frozenset[str]  # labels


def named(expression: str) -> Named:
    """Return what is named; raise ValueError for a word or a sign that has no meaning here."""
    tokens = list(_tokens(expression))
    metrics: set[str] = set()
    matchers: list[Matcher] = []
    grouped: set[str] = set()
    place, depth = 0, 0
    while place < len(tokens):
        kind, token = tokens[place]
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        place += 1
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth < 0:
            raise ValueError(f"{expression}: a bracket is closed that was not opened")
        if kind != "word" or token in OPERATORS:
            continue
        if token in GROUPING:
            end = _closing(tokens, place, "(", ")")
            grouped |= {word for kind, word in tokens[place:end] if kind == "word"}
            place = end + 1
        elif following in ("(", "by", "without"):
            if token not in FUNCTIONS:
                raise ValueError(f"{expression}: {token} is no function that we know")
        else:
            metrics.add(token)
            if following == "{":
                end = _closing(tokens, place, "{", "}")
                matchers += _matchers(token, tokens[place + 1 : end])
                place = end + 1
    if depth:
        raise ValueError(f"{expression}: a bracket is left open")
    return Named(frozenset(metrics), tuple(matchers), frozenset(grouped))


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(expression):
        found = _TOKEN.match(expression, place)
        if found is None:
            raise ValueError(f"{expression}: {expression[place : place + 20]!r} is not PromQL")
        place = found.end()
        if found.lastgroup == "range" and not _DURATION.fullmatch(found[0]):
            raise ValueError(f"{expression}: {found[0]} is no range")
        if found.lastgroup is not None:
            yield found.lastgroup, found[0]


def _closing(tokens: list[tuple[str, str]], place: int, opening: str, closing: str) -> int:
    if place >= len(tokens) or tokens[place][1] != opening:
        raise ValueError(f"{opening} is missing")
    for end in range(place, len(tokens)):
        if tokens[end][1] == closing:
            return end
    raise ValueError(f"{closing} is missing")


def _matchers(metric: str, tokens: list[tuple[str, str]]) -> Iterator[Matcher]:
    for start in range(0, len(tokens), 4):
        part = tokens[start : start + 4]
        kinds = [kind for kind, _ in part[:3]]
        separated = len(part) < 4 or part[3][1] == ","
        if kinds != ["word", "sign", "text"] or not separated:
            raise ValueError(f"{metric}: {part} is no matcher")
        label, how, text = (token for _, token in part[:3])
        if how not in ("=", "!=", "=~", "!~"):
            raise ValueError(f"{metric}: {how} does not compare labels")
        value = text[1:-1]
        yield Matcher(metric, label, tuple(value.split("|")) if "~" in how else (value,))
