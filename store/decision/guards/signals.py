"""What the guards see of two texts, as numbers for the calibrated score.

A guard forbids only what is nearly certainly another question. What is merely suspicious (a name
that one side leaves out, words in another order, a question word dropped) is told here.
"""

from __future__ import annotations

from store.decision.guards.asked import conflicting
from store.decision.guards.language import letters_differ
from store.decision.guards.order import swapped, turned_round
from store.decision.guards.polarity import opposed
from store.decision.guards.verdict import Pair, names_missing, numbers_left, pair_of
from store.decision.guards.words import framed

_MOST = 8.0  # counts end here

SIGNAL_NAMES = (
    "overlap",  # share of the longer text's words of content that both have
    "numbers_equal",  # every number has a counterpart of the same size
    "numbers_in_order",  # the numbers are the same in the same order
    "numbers_shared",  # count of numbers with a counterpart
    "numbers_left_query",  # count of numbers that only the query has
    "numbers_left_stored",
    "names_shared",  # count of capitalised words that both have
    "names_left_query",  # count of capitalised words that the other text does not have at all
    "names_left_stored",
    "calendar_shared",  # count of days, months and such that both name
    "calendar_left",  # count of those that one names
    "asked_equal",  # both ask for the same kind of answer
    "asked_conflict",  # they ask for different kinds
    "asked_one_sided",  # only one of them says what kind it asks for
    "order_turned",  # nearly the same words in another order
    "order_swapped",  # two words hold each other's places
    "substituted",  # count of words that stand between the same two neighbours in place of another
    "polarity_opposed",  # they take different sides of an opposite
    "negation_differs",  # only one says "not"
    "negation_count",  # how many times more one says "not"
    "quotes_left",  # count of quotations that the other text does not have
    "code_left",  # count of identifiers that the other text does not have
    "language_equal",  # not known to be in different languages
    "letters_differ",  # an accent, or a word that the encoder cannot read
)


def signals(query: str, stored: str) -> tuple[float, ...]:
    """Return one number for each of SIGNAL_NAMES: 0 or 1, a share, or a count up to 8."""
    pair = pair_of(query, stored)
    a, b = pair.a, pair.b
    counts = (
        *_numbers(pair),
        *_names(pair),
        len(a.calendar & b.calendar),
        len(a.calendar ^ b.calendar),
        a.asked == b.asked,
        conflicting(a.asked, b.asked, close=True),
        bool(a.asked) != bool(b.asked),
        turned_round(a.words, b.words),
        swapped(a.words, b.words),
        len(framed(a.words, b.words)),
        bool(opposed(a.polarity, b.polarity)),
        (a.negations > 0) != (b.negations > 0),
        abs(a.negations - b.negations),
        sum(quote not in b.text for quote in a.quotes)
        + sum(quote not in a.text for quote in b.quotes),
        sum(name not in b.text for name in a.identifiers)
        + sum(name not in a.text for name in b.identifiers),
        not (a.language and b.language) or a.language == b.language,
        letters_differ(a.letters, b.letters, a.tokens, b.tokens),
    )
    return (pair.overlap, *(min(float(count), _MOST) for count in counts))


def _numbers(pair: Pair) -> tuple[float, ...]:
    a, b = pair.a.quantities, pair.b.quantities
    left = numbers_left(pair)
    equal = not (left.ours or left.theirs)
    in_order = equal and [q.value for q in a] == [q.value for q in b]
    return equal, in_order, len(a) - len(left.ours), len(left.ours), len(left.theirs)


def _names(pair: Pair) -> tuple[float, ...]:
    ours, theirs = names_missing(pair)
    return len(pair.a.names.firm & pair.b.names.firm), len(ours), len(theirs)
