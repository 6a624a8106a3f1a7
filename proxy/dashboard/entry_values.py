"""What pages show of an entry, as values made from what the admin API says. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from proxy.answer_text import answer_text
from proxy.dashboard.formats import cosine, seconds
from store.policy import Scope

MOST_SHOWN = 100_000  # characters of one text; whoever wants the rest asks the API
NO_QUESTION = "(no question text)"


class Badge(NamedTuple):
    """A word about an entry that stands out."""

    text: str
    kind: str  # good, bad, warn, or nothing


class Answer(NamedTuple):
    """A stored answer for people: what it says, and all of it."""

    text: str | None  # None: it is not one text
    raw: str
    cut: bool  # whether there is more of either


def state_of(entry: Mapping[str, Any]) -> list[Badge]:
    """Return whether an entry is served, and for how long."""
    badges = []
    if entry["quarantined_for"]:
        badges.append(Badge(f"quarantined for {', '.join(entry['quarantined_for'])}", "bad"))
    left = entry["expires_in"]
    if left is None:
        badges.append(Badge("its category is gone", "bad"))
    elif left < 0:
        badges.append(Badge("expired", "warn"))
    elif badges:
        badges.append(Badge(f"expires in {seconds(left)}", ""))
    else:
        badges.append(Badge(f"live, expires in {seconds(left)}", "good"))
    return badges


def kind_of_state(entry: Mapping[str, Any]) -> str:
    """Return one word for an entry's state."""
    if entry["quarantined_for"]:
        return "quarantined"
    return "live" if (entry["expires_in"] or 0) > 0 else "expired"


def served_to(entry: Mapping[str, Any], scope: Scope | None) -> str:
    """Say who may be served an entry; `scope` is its category's now, None if that is gone."""
    tenant = entry["tenant"]
    if scope is None:
        return "nobody: its category is gone"
    if entry["shared"]:
        if entry["approved"]:
            return "every tenant (scope shared, approved)"
        return f"tenant {tenant}; others once a second tenant's answer agrees, or you approve it"
    if scope is Scope.USER:
        return f"the same user of tenant {tenant} (scope user)"
    return f"tenant {tenant}"


def never_served(entry: Mapping[str, Any], tenant: str) -> str:
    """Say why keeping an entry from a tenant would do nothing; "" if it would, or for everybody."""
    if not tenant or entry["shared"] or tenant == entry["tenant"]:
        return ""
    return f"Only tenant {entry['tenant']} is served this answer."


def answer_of(route: str, raw: str) -> Answer:
    """Return a stored answer for people; `raw` is its body."""
    try:
        whole = json.loads(raw)
    except ValueError:
        return Answer(None, raw[:MOST_SHOWN], len(raw) > MOST_SHOWN)
    said = answer_text(route, whole) if isinstance(whole, dict) else None
    laid_out = json.dumps(whole, ensure_ascii=False, indent=2)
    cut = len(laid_out) > MOST_SHOWN or len(said or "") > MOST_SHOWN
    return Answer(None if said is None else said[:MOST_SHOWN], laid_out[:MOST_SHOWN], cut)


def apart(neighbor: Mapping[str, Any]) -> list[Badge]:
    """Return what keeps a neighbour's answer from an entry's question."""
    badges = [Badge(f"guard: {name}", "warn") for name in neighbor["vetoes"]]
    threshold = neighbor["threshold"]
    if threshold is None:
        badges.append(Badge("a category is gone", "warn"))
    elif neighbor["similarity"] < threshold:
        badges.append(Badge(f"below the threshold {cosine(threshold)}", ""))
    if not neighbor["same_past"]:
        badges.append(Badge("said otherwise before", ""))
    if not badges:
        budgeted = neighbor["budgeted"]
        badges.append(
            Badge("only the score" if budgeted else "nothing", "" if budgeted else "good")
        )
    return badges


def short(text: str, most: int = 160) -> str:
    """Return a question on one line, cut where it is long."""
    line = " ".join(text.split()) or NO_QUESTION
    return line if len(line) <= most else line[: most - 1] + "…"


def counted(number: int, what: str = "entries", one: str = "entry") -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else what}".replace(",", "\u202f")


def listed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of the admin API with what a table shows besides."""
    return [{**row, "short": short(row["query"]), "state": state_of(row)} for row in rows]
