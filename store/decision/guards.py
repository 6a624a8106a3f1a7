"""Exact checks that veto a replay whatever the cosine says.

An encoder barely moves when a number, a name or a "not" changes (arithmetic twins sit at 0.92),
so these are compared as text. A guard can only forbid a hit, never cause one: a missed veto is a
wrong answer, a needless one is a miss, so every rule here leans to the veto.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

_NUMBER = re.compile(r"(?:(?<![\w)])[-+])?[$€£¥]?[^\W\d_]*\d+(?:[.,:/]\d+)*[^\W\d_]*%?")
_NUMBER_WORDS = {
    word: str(value)
    for value, words in enumerate(
        (
            "zero", "", "two second twice", "three third", "four fourth", "five fifth",
            "six sixth", "seven seventh", "eight eighth", "nine ninth", "ten tenth",
            "eleven eleventh", "twelve twelfth",
        )
    )
    for word in words.split()
} | {"hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000",
     "first": "1", "once": "1", "dozen": "12", "half": "0.5"}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_APOSTROPHE = re.compile("’")
_PLAIN_WORD = re.compile(r"\w+")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|neither|nobody|nothing|without|cannot|unable|except"
    r"|nicht|nie|niemals|kein\w*|ohne|pas|jamais|sans|nunca|sin|não|sem|non|mai|senza|не|нет|без)\b"
    r"|n['’]t\b|\bdont\b|\bcant\b|\bwont\b|\bdoesnt\b|\bisnt\b",
    re.IGNORECASE,
)
# What kind of answer is wanted. "What" and "how" are left out: they rephrase each other.
_ASKED = re.compile(
    r"\b(?:who|whom|whose|when|where|why|how (?:many|much|long|often|far|old|tall|big|late))\b",
    re.IGNORECASE,
)
_CALENDAR = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april june"
    " july august september october november december today tomorrow yesterday weekday weekend"
    " spring summer autumn winter morning noon afternoon evening midnight".split()
)
# Words that carry no role: their place in a sentence changes with every rephrasing.
_EMPTY = frozenset(
    "a an the of to in on at by for from with as is are was were be been am do does did can could"
    " will would shall should may might must have has had i you he she it we they me him her us"
    " them my your his its our their this that these those what which who whom whose when where"
    " why how please tell explain describe show give say there here so just also and or but if"
    " then than about into any some one way s t m re ll ve d".split()
)
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
# What starts a sentence is capitalised for that reason alone.
_NAME = re.compile(r"(?<![.!?:\n\"“])(?<=[\s(/-])[^\W\d_a-z]\w*(?:['’.-]\w+)*")
_NOT_NAMES = {"I", "I'm", "I’m", "I've", "I’ve", "I'd", "I’d", "I'll", "I’ll", "A"}

# Stems on either side contradict each other; both sides of one text say nothing.
_OPPOSITES = (
    ("enabl|activat|on", "disabl|deactivat|off"),
    ("more|increas|rais|grow|greater|higher|highest|most|max|largest|biggest|larger|bigger|longest",
     "less|fewer|decreas|reduc|lower|lowest|shrink|least|min|smallest|smaller|shortest"),
    ("before|earlier|earliest|until|prior|oldest", "after|later|latest|since|newest|youngest"),
    ("ascending|asc", "descending|desc"),
    ("add|includ|insert|attach|append", "remov|exclud|delet|detach|subtract|drop"),
    ("allow|permit|accept|approv|grant", "den|forbid|reject|block|prohibit|revok|refus"),
    ("start|begin|open|resum|continu", "stop|end|clos|cancel|paus|finish|quit"),
    ("buy|purchas", "sell|sold"), ("import", "export"), ("encrypt|encod", "decrypt|decod"),
    ("login|logon|signin", "logout|logoff|signout"), ("upload|send|push", "download|receiv|pull"),
    ("install|mount", "uninstall|unmount"), ("lock", "unlock"), ("mute", "unmute"),
    ("subscrib", "unsubscrib"), ("connect", "disconnect"), ("follow", "unfollow"),
    ("in", "out"), ("up", "down"), ("left", "right"), ("first", "last"), ("top", "bottom"),
    ("best|good|better|pros|advantag|benefit", "worst|bad|worse|cons|disadvantag|drawback"),
    ("cheap", "expensiv"), ("above|over", "below|under"), ("inside|internal", "outside|external"),
    ("north", "south"), ("east", "west"), ("true", "false"), ("win|won", "los|lost"),
    ("male|men|man|boy|husband|father|brother|son",
     "female|women|woman|girl|wife|mother|sister|daughter"),
    ("alway", "never|seldom|rarely"), ("input|read", "output|writ"), ("public", "private"),
    ("legal|lawful", "illegal|unlawful"), ("safe|secur", "unsafe|insecur|dangerous"),
    ("hot|warm|heat", "cold|cool"), ("fast|quick", "slow"), ("old", "new"), ("early", "late"),
    ("create|mak", "destroy"), ("import|incom", "outgo"), ("lend", "borrow"), ("arriv", "depart"),
    ("encourag", "discourag"), ("possible", "impossible"), ("possess|with", "without"),
    ("dark", "light"), ("day", "night"), ("client", "server"), ("parent", "child"),
    ("sync|synchronous", "async|asynchronous"), ("horizontal", "vertical"), ("push", "pop"),
    ("public", "privat"), ("gain", "loss|lose"), ("front", "back"), ("even", "odd"),
)  # fmt: skip
_SHORT = 4  # a stem this short is a whole word: "on" is not the start of "one"


def _by_stem(exact: bool) -> dict[str, list[tuple[int, int]]]:
    table: dict[str, list[tuple[int, int]]] = {}
    for pair, sides in enumerate(_OPPOSITES):
        for sign, stems in zip((1, -1), sides, strict=True):
            for stem in stems.split("|"):
                if (len(stem) <= _SHORT) is exact:
                    table.setdefault(stem, []).append((pair, sign))
    return table


_WHOLE_WORDS = _by_stem(exact=True)
_STEMS = _by_stem(exact=False)
_LONGEST_STEM = max(map(len, _STEMS))


def _polarity(words: frozenset[str]) -> frozenset[tuple[int, int]]:
    """Return (pair, side) of every opposite that the words take sides in, unless they take both."""
    sides: set[tuple[int, int]] = set()
    for word in words:
        sides.update(_WHOLE_WORDS.get(word, ()))
        for end in range(_SHORT + 1, min(len(word), _LONGEST_STEM) + 1):
            sides.update(_STEMS.get(word[:end], ()))
    return frozenset((pair, sign) for pair, sign in sides if (pair, -sign) not in sides)


class Marks(NamedTuple):
    """What of one text must not differ from another's."""

    numbers: tuple[str, ...]  # in order: "5 from 2" is not "2 from 5"
    negated: bool
    polarity: frozenset[tuple[int, int]]  # (pair of opposites, side taken: 1 or -1)
    asked: frozenset[str]
    calendar: frozenset[str]
    names: frozenset[str]  # plain
    quoted: frozenset[str]
    foreign: frozenset[str]  # words with a letter beyond ASCII
    indents: tuple[str, ...]  # of each line that has something on it; () for a single line
    plain: str  # the whole text in lower case, its words between single spaces
    text: str


def _plain(text: str) -> str:
    return f" {' '.join(_PLAIN_WORD.findall(text.casefold()))} "


def _indents(text: str) -> tuple[str, ...]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return ()
    return tuple(line[: len(line) - len(line.lstrip())] for line in lines)


@lru_cache(maxsize=4096)
def marks_of(text: str) -> Marks:
    """Read a text's marks. Remembered for the most recent texts: stored queries come up again."""
    words = frozenset(word.casefold() for word in _WORD.findall(text))
    return Marks(
        numbers=_numbers(text),
        negated=_NEGATION.search(text) is not None,
        polarity=_polarity(words),
        asked=frozenset(word.casefold() for word in _ASKED.findall(text)),
        calendar=words & _CALENDAR,
        names=frozenset(map(_plain, set(_NAME.findall(text)) - _NOT_NAMES)),
        quoted=frozenset(next(filter(None, m.groups())) for m in _QUOTED.finditer(text)),
        foreign=frozenset(word for word in words if not _APOSTROPHE.sub("", word).isascii()),
        indents=_indents(text),
        plain=_plain(text),
        text=text,
    )


_NUMERAL = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+")


def _numbers(text: str) -> tuple[str, ...]:
    found = []
    for match in _NUMERAL.finditer(text):
        token = match.group().casefold()
        if any(c.isdigit() for c in token):
            found.append(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", token).lstrip("+"))
        elif token in _NUMBER_WORDS:
            found.append(_NUMBER_WORDS[token])
    return tuple(found)


def _turned_round(a: Marks, b: Marks) -> bool:
    """Whether two texts say nearly the same words in another order: who does what to whom."""
    ours = [word for word in a.plain.split() if word not in _EMPTY]
    theirs = [word for word in b.plain.split() if word not in _EMPTY]
    shared = set(ours) & set(theirs)
    if len(shared) < 2 or len(shared) < _NEARLY * max(len(set(ours)), len(set(theirs))):
        return False
    return [w for w in ours if w in shared] != [w for w in theirs if w in shared]


_NEARLY = 0.75  # of the words that carry something


_GUARDS: tuple[tuple[str, Callable[[Marks, Marks], bool]], ...] = (
    ("numbers", lambda a, b: a.numbers != b.numbers),
    ("negation", lambda a, b: a.negated != b.negated),
    ("polarity", lambda a, b: any((p, -side) in b.polarity for p, side in a.polarity)),
    ("question", lambda a, b: a.asked != b.asked),
    ("calendar", lambda a, b: a.calendar != b.calendar),
    ("order", _turned_round),
    # To the encoder white space is nothing; to code it is meaning.
    ("layout", lambda a, b: a.indents != b.indents),
    # The encoder drops accents, and reads scripts beyond Latin letter by letter if at all.
    ("letters", lambda a, b: a.foreign != b.foreign),
    # A name may be typed in lower case on the other side, but it has to be there.
    ("names", lambda a, b: any(n not in b.plain for n in a.names)),
    ("quotes", lambda a, b: any(q not in b.text for q in a.quoted)),
)


def veto(query: str, stored: str) -> str | None:
    """Return the name of the first guard that forbids replaying `stored`'s answer to `query`."""
    a, b = marks_of(query), marks_of(stored)
    for name, differs in _GUARDS:
        if differs(a, b) or differs(b, a):
            return name
    return None
