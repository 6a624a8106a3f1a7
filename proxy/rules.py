"""What is in force: policies, prototypes, the encoder, how far load has bent it, swapped as one.

A request takes `rules` once and keeps to it, so nothing ever sees half of two configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from proxy.encoding import Encoding
from proxy.prototypes import Prototypes
from store.policy import Policy, PolicyBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One consistent state of everything that decides how a request is treated."""

    book: PolicyBook
    # Of the checkpoint in force: what is encoded, searched, scored and stored is of this one.
    encoding: Encoding
    # Vectors of the examples; None while the encoder could not make them: then no category can
    # be told from a text. A book without examples needs none.
    prototypes: Prototypes | None = None
    # Policies as load bends them, by (category, upstream group); whoever is not here is at base.
    bent: Mapping[tuple[str, str], Policy] = field(default_factory=dict)

    @property
    def classifier(self) -> str:
        """The digest of what tells categories from texts; "" when nothing does."""
        return "" if self.prototypes is None else self.prototypes.digest

    def policy(self, category: str, group: str) -> Policy:
        """Return a category's policy as it is now for calls of this upstream group."""
        return self.bent.get((category, group)) or self.book[category]


class InForce:
    """Holds the rules of this moment. Readers take `rules`; writers replace it whole."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def bend(self, bent: Mapping[tuple[str, str], Policy]) -> None:
        """Put other load-adapted policies in force."""
        self.rules = replace(self.rules, bent=bent)
