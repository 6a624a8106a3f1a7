"""Which category a request is in, as far as that can be told without its vector. Pure.

In this order: rules that nobody gets around, the header, the other rules, the nearest examples.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from proxy.errors import ApiError
from store.match import Traits
from store.policy import DEFAULT_CATEGORY, Mode, Policy, PolicyBook, Scope

Allowed = frozenset[str] | None  # the categories that a key names; None: it names none


class Told(StrEnum):
    """What told a category."""

    FIRST_RULE = "first_rule"  # a rule that nobody gets around: of a locked category, or mode off
    HEADER = "header"
    RULE = "rule"
    EXAMPLES = "examples"  # or what is not near any
    NOTHING = "nothing"  # no rule matched and there are no examples: `default`


def told(
    book: PolicyBook, traits: Callable[[], Traits], asked: bytes | None, allowed: Allowed
) -> tuple[str | None, Told]:
    """Return the category's name, None where the query's own vector has to tell, and what told it.

    `asked` is the X-Nearhit-Category header. Raise ApiError 400 if it names no category and 403 if
    the key may not choose it, whatever the rules say. `traits` is called if a rule is to be asked.
    """
    chosen = None if asked is None else _chosen(book, asked, allowed)
    if book.ruled_first or (chosen is None and book.ruled):
        seen = traits()
        for policy in book.ruled_first:
            if _is_ruled(policy, seen) or _was_ruled(policy, seen):
                return policy.name, Told.FIRST_RULE
        if chosen is None:
            for policy in book.ruled:
                if _is_ruled(policy, seen):
                    return policy.name, Told.RULE
    if chosen is not None:
        return chosen, Told.HEADER
    return (None, Told.EXAMPLES) if book.exemplified else (DEFAULT_CATEGORY, Told.NOTHING)


def choosable(book: PolicyBook, allowed: Allowed) -> list[str]:
    """Return the categories that the header of such a key may name, in the book's order.

    What is stored under a shared category may serve other tenants, so a key has to be given it by
    name. `default` needs no permission: it is where a request without the header may end.
    """
    return [name for name in book.names if _may_choose(book[name], allowed)]


def _may_choose(policy: Policy, allowed: Allowed) -> bool:
    if allowed is not None and policy.name in allowed:
        return True
    if policy.scope is Scope.SHARED:
        return False
    return allowed is None or policy.name == DEFAULT_CATEGORY


def _chosen(book: PolicyBook, asked: bytes, allowed: Allowed) -> str:
    name = asked.decode("latin-1").strip()
    if name not in book:
        known = ", ".join(book.names)
        raise ApiError(
            400,
            f"X-Nearhit-Category: {name!r} is unknown; known: {known}",
            code="unknown_category",
        )
    if not _may_choose(book[name], allowed):
        may = ", ".join(sorted(choosable(book, allowed)))
        raise ApiError(
            403,
            f"X-Nearhit-Category: this key may not choose {name!r}; it may choose: {may}",
            type="permission_error",
            code="category_not_allowed",
        )
    return name


def _is_ruled(policy: Policy, traits: Traits) -> bool:
    for rule in policy.match:
        if rule.matches(traits):
            return True
    return False


def _was_ruled(policy: Policy, traits: Traits) -> bool:
    """Whether a rule that keeps texts out of the cache matches one that users said before.

    With the answer it would be stored as well.
    """
    if policy.mode is not Mode.OFF or not traits.said:
        return False
    return any(rule.matched_before(traits) for rule in policy.match)
