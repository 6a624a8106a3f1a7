"""What clients know of a cache: which answers they have got, and which were taken back.

An answer counts as stored some time after its last byte, a purge or a quarantine once its 200 has
arrived. What was not acknowledged may or may not have happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

# Seconds from an answer's last byte until it counts as stored. The contract says 0.1, for a machine
# that has time; here clients, proxies and Redis keep two cores busy.
VISIBLE_AFTER = 0.4


@dataclass
class Known:
    """What is known of one question."""

    arrived: dict[str, float] = field(default_factory=dict)  # calls of the upstream, by last byte
    gone: set[str] = field(default_factory=set)  # must never be served again
    stopped: bool = False  # quarantined: nothing is served or stored any more
    doubtful: bool = False  # what became of it is not known for sure


class Model:
    """Holds what is served against what was acknowledged."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = defaultdict(Known)
        self.wrong: list[str] = []
        self._killed = 0.0  # when a proxy was killed last

    def answered(self, question: str, call: str, *, hit: bool, asked: float, at: float) -> None:
        """Note an answer: asked for and arrived at these times."""
        known = self.known[question]
        if hit and (call in known.gone or known.stopped):
            self.wrong.append(f"{question}: {call} was taken back, and served")
        if not hit:
            known.arrived[call] = at
            if asked <= self._killed <= at:  # by the one that was killed, perhaps
                known.doubtful = True

    def before(self, questions: Iterable[str], sent: float) -> dict[str, list[str]]:
        """Return what a purge that is sent now must take back, if it is acknowledged."""
        must: dict[str, list[str]] = {}
        for question in questions:
            known = self.known[question]
            known.doubtful = True
            must[question] = [
                call for call, at in known.arrived.items() if at + VISIBLE_AFTER <= sent
            ]
        return must

    def purged(self, must: dict[str, list[str]]) -> None:
        """Note that a purge was acknowledged."""
        for question, calls in must.items():
            self.known[question].gone.update(calls)

    def stopped(self, question: str) -> None:
        """Note that a quarantine was acknowledged."""
        self.known[question].stopped = True

    def killed(self, at: float) -> None:
        """Note that what was answered just before this may not have been stored."""
        self._killed = at
        for known in self.known.values():
            if any(at - VISIBLE_AFTER - 0.1 < arrived <= at for arrived in known.arrived.values()):
                known.doubtful = True

    def durable(self, now: float) -> list[str]:
        """Return the questions whose answer must be stored now."""
        return [
            question
            for question, known in self.known.items()
            if not known.doubtful
            and known.arrived
            and min(known.arrived.values()) + VISIBLE_AFTER <= now
        ]

    def check(self, found: dict[str, str], durable: Iterable[str] = ()) -> None:
        """Hold what is served in the end, "" for a miss, against what is known."""
        lost = [question for question in durable if not found[question]]
        assert not lost, f"{len(lost)} acknowledged entries are lost, {lost[:3]} among them"
        for question, call in found.items():
            known = self.known[question]
            if call and (call in known.gone or known.stopped):
                self.wrong.append(f"{question}: {call} was taken back, and is served in the end")
        assert not self.wrong, self.wrong[:3]
