"""Whether a text says "not", and which side of an opposite it takes."""

from __future__ import annotations

import re
from typing import NamedTuple

from store.decision.guards.words import stem

_NEGATIVE = frozenset(
    "not no never none nor neither nobody nothing without cannot unable except dont cant wont"
    " doesnt isnt didnt shouldnt couldnt wasnt arent havent hasnt nicht nie niemals ohne pas"
    " jamais sans nunca sin não sem non mai senza niet geen не нет без никогда".split()
)
_GERMAN_NO = "kein"

# Either side contradicts the other; a text that takes both sides takes none.
_OPPOSITES = (
    ("enable activate on", "disable deactivate off"),
    ("more increase raise grow greater greatest higher highest most max maximum maximal maximize"
     " maximise largest biggest larger bigger longest longer tallest taller oldest",
     "less fewer least decrease reduce lower lowest shrink min minimum minimal minimize minimise"
     " smallest smaller shortest shorter youngest"),
    ("before earlier earliest until prior", "after later latest since"),
    ("newest newer", "oldest older"), ("ascending asc", "descending desc"),
    ("add include insert attach append", "remove exclude delete detach subtract drop"),
    ("allow permit accept approve approval grant", "deny denied denies forbid forbidden reject"
     " rejection block prohibit revoke refuse refusal"),
    ("start begin beginning open opening resume continue", "stop end close closing cancel pause"
     " finish quit"),
    ("buy bought purchase", "sell sold"), ("import incoming", "export outgoing"),
    ("encrypt encode", "decrypt decode"), ("login logon signin", "logout logoff signout"),
    ("upload send push", "download receive pull"), ("install mount", "uninstall unmount"),
    ("lock", "unlock"), ("mute", "unmute"), ("subscribe", "unsubscribe"),
    ("connect", "disconnect"), ("follow", "unfollow"), ("in", "out"), ("up", "down"),
    ("left", "right"), ("first", "last"), ("top", "bottom"),
    ("best good better pros advantage benefit", "worst bad worse cons disadvantage drawback"),
    ("cheap cheaper cheapest", "expensive"), ("above over", "below under"),
    ("inside internal", "outside external"), ("north northern", "south southern"),
    ("east eastern", "west western"), ("true", "false"), ("win won", "lose lost losing"),
    ("male men man boy husband father brother son", "female women woman girl wife mother sister"
     " daughter"),
    ("always", "never seldom rarely"), ("input read", "output write wrote written"),
    ("public", "private"), ("legal lawful", "illegal unlawful"),
    ("safe secure", "unsafe insecure dangerous"), ("hot warm heat hotter hottest", "cold cool"
     " colder coldest"), ("fast quick faster fastest", "slow slower slowest"), ("old", "new"),
    ("early", "late"), ("create creation", "destroy destruction"), ("lend", "borrow"),
    ("arrive arrival", "depart departure"), ("encourage", "discourage"),
    ("possible", "impossible"), ("with", "without"), ("dark", "light"), ("day", "night"),
    ("client", "server"), ("parent", "child"), ("sync synchronous", "async asynchronous"),
    ("horizontal horizontally", "vertical vertically"), ("push", "pop"), ("gain", "lose loss"),
    ("front", "back rear"), ("even", "odd"), ("rise rising", "fall falling"),
    ("mehr", "weniger"), ("vor", "nach"), ("öffnen öffne öffnet", "schließen schließe schließt"),
    ("einschalten an ein", "ausschalten aus"), ("größte größer", "kleinste kleiner"),
    ("plus", "moins"), ("avant", "après"), ("ouvrir", "fermer"), ("activer", "désactiver"),
    ("más", "menos"), ("antes", "después"), ("abrir", "cerrar"), ("activar", "desactivar"),
    ("più", "meno"), ("prima", "dopo"), ("aprire", "chiudere"),
)  # fmt: skip


def _by_stem() -> dict[str, tuple[tuple[int, int], ...]]:
    table: dict[str, tuple[tuple[int, int], ...]] = {}
    for pair, sides in enumerate(_OPPOSITES):
        for sign, words in zip((1, -1), sides, strict=True):
            for word in map(stem, words.split()):
                table[word] = (*table.get(word, ()), (pair, sign))
    return table


_SIDES = _by_stem()


class Polarity(NamedTuple):
    """Which sides a text takes."""

    sides: frozenset[tuple[int, int]]  # (pair of opposites, side taken: 1 or -1)
    said: frozenset[str]  # the stems that take them


def polarity_of(stems: frozenset[str]) -> Polarity:
    """Return every opposite that the words take sides in, unless they take both."""
    said = stems & _SIDES.keys()
    if not said:
        return _NONE
    sides = {side for word in said for side in _SIDES[word]}
    return Polarity(frozenset((p, sign) for p, sign in sides if (p, -sign) not in sides), said)


_NONE = Polarity(frozenset(), frozenset())


def opposed(a: Polarity, b: Polarity) -> bool:
    """Whether two texts take different sides of an opposite."""
    return any((pair, -side) in b.sides for pair, side in a.sides)


_DIRECTIONS = frozenset({("to", "from"), ("from", "to"), ("into", "from"), ("from", "into")})


def turned_round(framed: frozenset[tuple[str, str]]) -> bool:
    """Whether a text says `to` between the same two words between which the other says `from`.

    Anywhere else the two are no opposites: "to" belongs to most verbs.
    """
    return not _DIRECTIONS.isdisjoint(framed)


_PREFIX = re.compile(r"(?:un|in|im|il|ir|non|dis|mis|de|dés|des)(?=[^\W\d_]{3})")


def denials(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    """Return stems that one text has and the other with a prefix that denies them; both forms."""
    found: set[str] = set()
    for ours, theirs in ((a - b, b - a), (b - a, a - b)):
        for word in ours:
            prefix = _PREFIX.match(word)
            if prefix and word[prefix.end() :] in theirs:
                found.update((word, word[prefix.end() :]))
    return frozenset(found)


def negations_of(tokens: tuple[str, ...], words: frozenset[str], folded: str) -> int:
    """Return how often a text says "not" in one of its forms.

    `words` are the tokens without repetition, `folded` is the text in lower case.
    """
    count = 0
    if not words.isdisjoint(_NEGATIVE):
        count += sum(token in _NEGATIVE for token in tokens)
    if "n't" in folded or "n’t" in folded:
        count += sum(token[-3:] in ("n't", "n’t") for token in tokens)
    if _GERMAN_NO in folded:
        count += sum(token.startswith(_GERMAN_NO) for token in tokens)
    return count
