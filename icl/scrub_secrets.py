"""Rules that find credentials and network addresses: what opens something, or says whose it is."""

from __future__ import annotations

import ipaddress
import re
from itertools import pairwise

from icl.scrub_rule import DIGITS, Rule

_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,12000}"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)
_URL_USER = re.compile(r"(?<=://)[^\s/@:<>]{0,64}:[^\s/@<>]{1,200}(?=@)")
_NAMES = (
    r"(?:api[_-]?key|apikey|access[_-]?key|access[_-]?token|auth[_-]?token|refresh[_-]?token|token"
    r"|client[_-]?secret|secret[_-]?key|secret|password|passwd|passphrase|passcode|pwd|pin"
    r"|passwort|kennwort|mot de passe|contraseña|senha|parola|wachtwoord"
    r"|signature|sig|session[_-]?id|credentials?)"
)
_QUERY = re.compile(rf"(?<=[?&])({_NAMES}|key|code|auth|session)=([^\s&#<>\"']{{4,400}})", re.I)
_ASSIGNED = re.compile(
    rf"(?<![^\W_])({_NAMES}[\"']?(?:\s{{0,2}}(?:=|:|=>)\s{{0,2}}|\sis:?\s)[\"'`]?)"
    r"([^\s\"'`<>,;(){}\[\]]{4,400})",
    re.I,
)
_KNOWN = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{16,200}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,200}"
    r"|gh[pousr]_[A-Za-z0-9]{20,200}|github_pat_[A-Za-z0-9_]{20,200}|glpat-[A-Za-z0-9_-]{16,100}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,200}|A(?:KIA|SIA|ROA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,60}"
    r"|hf_[A-Za-z0-9]{20,100}|npm_[A-Za-z0-9]{30,60}|pypi-[A-Za-z0-9_-]{40,300}"
    r"|SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{16,60}|ya29\.[A-Za-z0-9_-]{20,300}"
    r"|eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,8000}(?:\.[A-Za-z0-9_-]{0,2000})?)"
)
_BEARER = re.compile(r"\b(bearer\s{1,3}|basic\s{1,3})([A-Za-z0-9._~+/=-]{12,2000})", re.I)
_HEX = re.compile(r"(?<![A-Za-z0-9])(?:0x)?[0-9a-fA-F]{32,8000}(?![A-Za-z0-9])")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{32,8000}={0,2}(?![A-Za-z0-9+/=_-])")
_MAC = re.compile(
    r"(?<![\w:-])(?:[0-9A-Fa-f]{2}([:-]))(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?<=::))(?![\w:])")
_RANDOM = 0.45  # share of neighbours of another kind; random base64 has 0.6, identifiers 0.3


def _assigned(match: re.Match[str]) -> str:
    """A value with a digit in it; `token: str` and `password = ask()` are code."""
    return f"{match[1]}<SECRET>" if any(c.isdigit() for c in match[2]) else match[0]


def _bearer(match: re.Match[str]) -> str:
    return f"{match[1]}<SECRET>" if any(map(str.isdigit, match[2])) else match[0]


def _hex(match: re.Match[str]) -> str:
    said = match[0]
    mixed = any(c.isdigit() for c in said) and any(c.isalpha() for c in said.removeprefix("0x"))
    return "<SECRET>" if mixed else said


def _kind(character: str) -> int:
    if character.isdigit():
        return 0
    return 1 if character.islower() else 2 if character.isupper() else 3


def _base64(match: re.Match[str]) -> str:
    kinds = [_kind(character) for character in match[0]]
    if not {0, 1, 2} <= set(kinds):
        return match[0]
    changes = sum(a != b for a, b in pairwise(kinds))
    return "<SECRET>" if changes >= _RANDOM * len(kinds) else match[0]


def _ipv4(match: re.Match[str]) -> str:
    """An address of a machine: no loopback, mask or the like, and no number above 255."""
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return match[0]
    nobody = address.is_loopback or address.is_unspecified or address.is_multicast
    return match[0] if nobody or match[0].startswith("255.") else "<IP>"


def _ipv6(match: re.Match[str]) -> str:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return match[0]
    written = match[0].split(":")
    code = len(written) < 8 and (len(written[0]) < 3 or not any(c.isdigit() for c in match[0]))
    nobody = address.is_loopback or address.is_unspecified
    return match[0] if nobody or code else "<IP>"  # a::b is a path in several languages


_PREFIXES = (
    "sk-", "_live_", "_test_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "xox", "akia", "asia", "aroa", "aiza", "hf_", "npm_", "pypi-", "sg.", "ya29.", "eyj",
)  # fmt: skip
_NAMED = (
    "key", "token", "secret", "pass", "pwd", "pin", "sig", "session", "credential",
    "kennwort", "contraseña", "senha", "parola", "wachtwoord",
)  # fmt: skip
SECRETS = (
    Rule(("-----begin",), _PEM, "<SECRET>"),
    Rule(("://",), _URL_USER, "<SECRET>"),
    Rule(("?", "&"), _QUERY, r"\1=<SECRET>"),
    Rule(_PREFIXES, _KNOWN, "<SECRET>"),
    Rule(("bearer", "basic"), _BEARER, _bearer),
    Rule(_NAMED, _ASSIGNED, _assigned),
    Rule(DIGITS, _HEX, _hex),
    Rule(DIGITS, _BASE64, _base64),
    Rule((":", "-"), _MAC, "<MAC>"),
    Rule((":",), _IPV6, _ipv6),
    Rule(DIGITS, _IPV4, _ipv4),
)
