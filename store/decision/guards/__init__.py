"""Exact checks that veto a replay whatever the cosine says.

An encoder barely moves when a number, a name or a "not" changes (arithmetic twins sit at 0.92),
so these are compared as text. A guard can only forbid a hit, never cause one; it forbids what is
(nearly) certainly another question, and the rest are signals to the calibrated score.
"""

from store.decision.guards.marks import Marks, marks_of
from store.decision.guards.signals import SIGNAL_NAMES, signals
from store.decision.guards.verdict import veto, vetoes

__all__ = ["SIGNAL_NAMES", "Marks", "marks_of", "signals", "veto", "vetoes"]
