"""The decision point of one category: how wrong an answer may look and still be served.

A point p serves hits whose risk, P(wrong) as the calibrated score tells it, is at most p. It moves
over a small fixed grid, to which the point that the calibration ships for the budget is added:

- Until audits say more, the shipped point decides, and the state is `unproven`.
- Refuted is a point whose error rate was above the budget in some window of the epoch. The largest
  smaller point takes over at once that is not refuted, nor well on the way to it; if there is none,
  nothing is served by meaning. A refuted point comes back only when the point below it has been
  proven, twice as often each time.
- Closed is a category without a point: none is left, or the calibration ships 0. It opens at the
  tightest point that is proven by what would have been served.
- Proven is a point whose error rate was within the budget in an epoch as a whole. Only then the
  next looser point is tried, one step of the grid at a time, as unproven as any.
- Either ends the epoch: evidence begins anew, so that the old does not speak for the new.

**Guarantee.** Let A be the mean, over the audited hits of a stretch of time, of the probability
that the hit was wrong given everything before it, each weighted by 1 / (its probability of being
audited): what the mean over all hits of that stretch is estimated by. With probability 95 % in a
category's whole life, for a given point: it is never refuted while A is within the budget in every
window, and never called proven while A is above the budget in that epoch. This holds at all times
together, for any drift, and across all restarts: bounds.py has the bounds, evidence.py how the 5 %
are spent. It is a statement about one point, not all at once, and rests on this: whether an audit
comes to a verdict does not depend on what it would be; the judge's false-alarm rate on hits is the
one measured on controls; and it lets at most MISSES of the wrong ones pass. Before a point is
refuted, its error may be above the budget: how long a jump can stay unseen is in docs/LOG.md.

Feedback never enters an estimate. A complaint halves the point, MOST_STRAIN times at the most,
and audits that find hits right take that back. Meanwhile evidence counts only for the points up to
the one in force, because the hits above it are not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from store.decision.bounds import Tally
from store.decision.budget_values import BudgetStanding, Sample
from store.decision.evidence import WINDOW, ErrorRate, Evidence, false_alarms

GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0)
CLOSED = -1  # the place of the point when none is left
MOST_STRAIN = 4.0  # halvings of the point by complaints
RIGHTS_A_COMPLAINT = 20  # audits found right that take one halving back
SERVED_A_COMPLAINT = 500  # the same by hits without another complaint, where nothing is audited
WITHHELD_A_COMPLAINT = 5000  # the same by what complaints kept from being one: nobody saw those
LONGEST_EPOCH = 10_000  # audits without a conclusion
# Sampling of hits: the rate from so many audits after the last refutation or loosening on. It stays
# until a good point can be proven: verdicts that weigh more than the first blunt the upper bound.
SAMPLING = ((6000, 0.02), (3000, 0.05), (1500, 0.1), (0, 0.2))
START = SAMPLING[-1][1]
CONTROL_SAMPLING = 0.05  # of exact hits, while there are fewer controls than audits
CONTROLS_AHEAD = 20


@dataclass(slots=True)
class CategoryBudget:
    """The state of one category. Not bound to a clock, a store or a proxy."""

    budget: float | None  # share of wrong hits allowed; None: measured only, the point stays
    shipped: float  # the calibration's point for it
    points: tuple[float, ...] = ()
    place: int = 0  # of the point in force, before complaints
    strain: float = 0.0  # halvings by complaints
    calm: int = 0  # audits since the last refutation or loosening
    audits: int = 0
    wrong: int = 0
    controls: Tally = field(default_factory=Tally)  # all of this judge
    evidence: Evidence = field(default_factory=lambda: Evidence.begin(1, 1, 0))
    barred: dict[int, int] = field(default_factory=dict)  # place to proofs that it still takes
    refusals: dict[int, int] = field(default_factory=dict)  # place to how often it was refuted
    concluded: tuple[float, bool, ErrorRate] | None = None  # point, proven or refuted, its rate
    _suspicious: bool | None = None  # here and below: until something comes in
    _standing: BudgetStanding | None = None

    @classmethod
    def fresh(cls, budget: float | None, shipped: float) -> Self:
        """Return a category about which nothing is known; shipped closed where `shipped` is 0."""
        points = tuple(sorted({*GRID, shipped} - {0.0}))
        place = points.index(shipped) if shipped > 0.0 else CLOSED
        return cls(budget, shipped, points, place, evidence=Evidence.begin(1, 1, len(points)))

    @property
    def base(self) -> float:
        """The point without complaints; 0.0 when none is left."""
        return self.points[self.place] if self.place >= 0 else 0.0

    @property
    def point(self) -> float:
        """The point in force: a hit needs a risk of at most this; 0.0 closes the category."""
        return float(self.base * 0.5**self.strain)

    @property
    def state(self) -> str:
        """`refuted` when no point is left, `proven` when this one last was, else `unproven`."""
        if self.place == CLOSED:
            return "refuted" if self.barred else "unproven"  # shipped closed: nothing was tried
        proven = self.concluded is not None and self.concluded[:2] == (self.base, True)
        return "proven" if proven else "unproven"

    @property
    def sampling(self) -> float:
        """The probability with which the next hit is to be audited."""
        if self.budget is not None and self.place >= 0:
            if self._suspicious is None:  # until the next verdict
                acting = self._acting(self.point)
                self._suspicious = acting >= 0 and self.evidence.suspicious(
                    acting, self.budget, self.controls
                )
            if self._suspicious:
                return START
        return next(rate for audits, rate in SAMPLING if self.calm >= audits)

    @property
    def control_sampling(self) -> float:
        """The probability with which the next exact hit is to be a control."""
        behind = self.controls.count < self.audits + CONTROLS_AHEAD
        return CONTROL_SAMPLING if behind else 0.0

    @property
    def wants_control(self) -> bool:
        """Whether exact hits bring too few controls to make anything of the audits."""
        return self.controls.count < self.audits / 2

    def sample(self) -> Sample:
        """Return how the next hit is to be sampled."""
        return Sample(self.sampling, self.point, self.evidence.number)

    def audited(self, sample: Sample, risk: float, wrong: bool) -> None:
        """Take a verdict on a hit of this risk."""
        self._standing = None
        self.audits += 1
        self.wrong += wrong
        if not wrong:
            self._relieve(RIGHTS_A_COMPLAINT)
        if sample.epoch == self.evidence.number:  # else its time has been judged already
            self.calm += 1
            self._weigh(sample.probability, risk, wrong, self._acting(sample.point))

    def missed(self, sample: Sample, risk: float, wrong: bool) -> None:
        """Take a verdict on what nothing but the score kept from being served.

        That is how a category can come back that is closed, or serves nothing at the point to which
        it fell: at the tightest point that is proven. Which one that can be the score decides:
        nothing may ever be served at the tightest of all. And it takes complaints back as a hit
        does, for they may have left no hits to be audited.
        """
        if not wrong and self.is_withheld(risk):
            self._relieve(RIGHTS_A_COMPLAINT)
        if not self._is_idle or sample.epoch != self.evidence.number:
            return
        self._standing = None
        places = self._see(sample.probability, risk, wrong, len(self.points) - 1)
        if self.budget is None:
            return
        if not wrong:
            for place in places:
                if self.evidence.proven(place, self.budget):
                    return self._prove(place, max(place, self.place))
        if self._is_hopeless() or self.evidence.audits >= LONGEST_EPOCH:
            self._begin()  # what comes may be better than what was

    @property
    def _is_idle(self) -> bool:
        """Whether hits say nothing: there is no point, or after a fall none was audited at it.

        Complaints come first: while they tighten, it is not the point that leaves no hits.
        """
        if self.place == CLOSED:
            return True
        if self.strain or not self.barred:
            return False
        return self.evidence.windows[0].rows[self.place].count == 0

    def _is_hopeless(self) -> bool:
        """Whether even the least risky that was seen so far goes wrong too often; seldom asked."""
        if self.budget is None or self.evidence.audits % WINDOW:
            return False
        rows = self.evidence.windows[0].rows
        seen = next((place for place, row in enumerate(rows) if row.count), None)
        return seen is not None and self.evidence.refuted(seen, self.budget, self.controls)

    def controlled(self, wrong: bool) -> None:
        """Take a verdict on an answer that was right: `wrong` is a false alarm of the judge."""
        self._standing = self._suspicious = None
        self.controls.add(wrong)
        self.evidence.controls.add(wrong)

    def complained(self) -> None:
        """Tighten at once."""
        self._standing = self._suspicious = None
        self.strain = min(MOST_STRAIN, self.strain + 1.0)

    def served(self) -> None:
        """Where nothing is audited: a hit that nobody has complained about yet."""
        self._relieve(SERVED_A_COMPLAINT)

    def withheld(self, risk: float) -> None:
        """Where nothing is audited: something of this risk that was not served."""
        if self.is_withheld(risk):
            self._relieve(WITHHELD_A_COMPLAINT)

    def is_withheld(self, risk: float) -> bool:
        """Whether complaints alone keep such a risk from being served."""
        return self.budget is not None and self.point < risk <= self.base

    def learns_from_miss(self, risk: float) -> bool:
        """Whether a verdict on what was not served for this risk moves anything."""
        return self._is_idle or self.is_withheld(risk)

    def _relieve(self, steps: int) -> None:
        """Take one of so many steps back that undo a complaint."""
        if self.strain:
            self._standing = self._suspicious = None
            self.strain = max(0.0, round(self.strain - 1 / steps, 9))  # so many steps are a whole

    def forget_judge(self) -> None:
        """Another judge: neither its verdicts nor its false alarms speak for this one's."""
        self.controls = Tally()
        self.concluded = None
        self._begin()

    def standing(self) -> BudgetStanding:
        """Return where the category stands: milliseconds to find out, until the next verdict."""
        if self._standing is None:
            self._standing = self._find_standing()
        return self._standing

    def _find_standing(self) -> BudgetStanding:
        error = self.evidence.rate(max(self._acting(self.point), 0), self.controls)
        if self.concluded is not None:
            point, _, before = self.concluded
            sharper = before.upper - before.lower < error.upper - error.lower
            if self.place == CLOSED or (point == self.base and sharper):
                error = before
        return BudgetStanding(
            state=self.state,
            point=self.point,
            tightened=float(0.5**self.strain),
            refuted=tuple(self.points[place] for place in sorted(self.barred)),
            audits=self.audits,
            wrong=self.wrong,
            error=error,
            controls=self.controls.count,
            false_alarms=false_alarms(self.controls),
            sampling=self.sampling,
        )

    def _acting(self, point: float) -> int:
        """Return the place of the largest point all of whose hits were seen at this one; or -1."""
        place = self.place
        while place >= 0 and self.points[place] > point:
            place -= 1
        return place

    def _see(self, probability: float, risk: float, wrong: bool, last: int) -> range:
        """Add a verdict to the evidence; return the places, up to `last`, that it speaks for."""
        first = next((n for n, point in enumerate(self.points) if risk <= point), last + 1)
        places = range(first, last + 1)
        self.evidence.add(places, probability, wrong)
        self._suspicious = None
        return places

    def _weigh(self, probability: float, risk: float, wrong: bool, last: int) -> None:
        self._see(probability, risk, wrong, last)
        if self.budget is not None and last >= 0:
            if wrong and self.evidence.refuted(last, self.budget, self.controls):
                return self._refute(last)
            whole = last == self.place  # complaints kept nothing from being seen
            if not wrong and whole and self.evidence.proven(last, self.budget):
                return self._prove(last, last + 1)
        if self.evidence.audits >= LONGEST_EPOCH:
            self._begin()

    def _refute(self, place: int) -> None:
        self._conclude(place, proven=False)
        self.refusals[place] = self.refusals.get(place, 0) + 1
        self.barred[place] = 2 ** min(self.refusals[place] - 1, 20)
        assert self.budget is not None
        self.place = place - 1
        while self.place >= 0 and (
            self.place in self.barred
            or self.evidence.suspicious(self.place, self.budget, self.controls)
        ):
            self.place -= 1
        self.calm = 0
        self._begin()

    def _prove(self, place: int, opens: int) -> None:
        self._conclude(place, proven=True)
        if opens < len(self.points):
            left = self.barred.get(opens, 0) - 1
            if left > 0:
                self.barred[opens] = left
            else:
                self.barred.pop(opens, None)
                self.place = opens
                self.calm = 0
        self._begin()

    def _conclude(self, place: int, *, proven: bool) -> None:
        rate = self.evidence.rate(place, self.controls)
        self.concluded = (self.points[place], proven, rate)

    def _begin(self) -> None:
        before = self.evidence
        self._standing = self._suspicious = None
        self.evidence = Evidence.begin(before.number + 1, before.newest + 1, len(self.points))

    def as_data(self) -> dict[str, Any]:
        """Return what `from_data` reads, as JSON holds it."""
        concluded = self.concluded and [*self.concluded[:2], *self.concluded[2]]
        return {
            "budget": self.budget,
            "shipped": self.shipped,
            "place": self.place,
            "strain": self.strain,
            "calm": self.calm,
            "audits": self.audits,
            "wrong": self.wrong,
            "controls": self.controls.as_data(),
            "evidence": self.evidence.as_data(),
            "barred": list(self.barred.items()),
            "refusals": list(self.refusals.items()),
            "concluded": concluded,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """Return a category as it was; raise KeyError, TypeError or ValueError if none wrote it."""
        self = cls.fresh(data["budget"], data["shipped"])
        self.place = data["place"]
        if not CLOSED <= self.place < len(self.points):
            raise ValueError("not the place of a point")
        self.strain, self.calm = data["strain"], data["calm"]
        self.audits, self.wrong = data["audits"], data["wrong"]
        self.controls = Tally.from_data(data["controls"])
        self.evidence = Evidence.from_data(data["evidence"], len(self.points))
        self.barred, self.refusals = dict(data["barred"]), dict(data["refusals"])
        if data["concluded"] is not None:
            point, proven, *rate = data["concluded"]
            self.concluded = (point, proven, ErrorRate(*rate))
        return self
