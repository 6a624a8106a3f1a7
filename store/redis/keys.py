"""Every key that Nearhit has in Redis.

What is in braces decides a key's slot on a cluster: the keys of one entry share one, and so do the
journal and the records. No script needs keys of two slots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from store.entry import EntryId

PREFIX = "nearhit"
ALLOWED = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The names under one prefix; deployments with different prefixes share nothing."""

    prefix: str = PREFIX

    def __post_init__(self) -> None:
        """Raise ValueError for a prefix that cannot be one."""
        if not ALLOWED.fullmatch(self.prefix):
            raise ValueError(
                f"prefix {self.prefix!r}: allowed are 1 to 64 letters, digits and . _ : -"
            )

    def entry(self, id: EntryId) -> str:
        """Return the hash of an entry."""
        return f"{{{self.prefix}:{id}}}:entry"

    @property
    def journal(self) -> str:
        """The stream of changes."""
        return self.common("journal")

    @property
    def entries(self) -> str:
        """The sorted set of all entries' ids by the number of their put."""
        return self.common("entries")

    @property
    def puts(self) -> str:
        """The number of the last put."""
        return self.common("puts")

    @property
    def schema(self) -> str:
        """The version of all this."""
        return self.common("schema")

    @property
    def epoch(self) -> str:
        """The journal's name; another one once it has lost records."""
        return self.common("epoch")

    @property
    def replicas(self) -> str:
        """The hash of where each replica is in the journal, and when it was there."""
        return self.common("replicas")

    @property
    def staleness(self) -> str:
        """The hash of for how many ms each replica may serve without hearing from the others."""
        return self.common("staleness")

    @property
    def snapshots(self) -> str:
        """The hash of where each replica's last snapshot is in the journal."""
        return self.common("snapshots")

    @property
    def joining(self) -> str:
        """The set of the replicas that a new epoch waits for."""
        return self.common("joining")

    @property
    def joining_until(self) -> str:
        """When that wait ends."""
        return self.common("joining_until")

    @property
    def asked(self) -> str:
        """The stream of what replicas ask each other."""
        return self.common("asked")

    def answers(self, question: str) -> str:
        """Return the list of what the others say to a question."""
        return self.common(f"answers:{question}")

    def answer(self, answer_id: str) -> str:
        """Return the sorted set of the entries whose body has this id."""
        return self.common(f"answer:{answer_id}")

    def budgets(self, replica: str) -> str:
        """Return the hash of a replica's error budgets by category."""
        return self.common(f"budgets:{replica}")

    @property
    def states(self) -> str:
        """The hash of what was learnt, by name: one for all replicas."""
        return self.common("states")

    def usage(self, span: str, start: datetime) -> str:
        """Return the hash of what requests of one span used, which begins then."""
        return self.common(f"usage:{span}:{int(start.timestamp())}")

    def common(self, name: str) -> str:
        """Return a key in the slot of the journal."""
        return f"{{{self.prefix}}}:{name}"
