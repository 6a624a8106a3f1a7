"""Whether a text says "not", and which side of an opposite it takes."""

from __future__ import annotations

_NEGATIVE = frozenset(
    "not no never none nor neither nobody nothing without cannot unable except dont cant wont"
    " doesnt isnt didnt shouldnt couldnt wasnt arent havent hasnt nicht nie niemals ohne pas"
    " jamais sans nunca sin não sem non mai senza niet geen не нет без никогда".split()
)
_GERMAN_NO = "kein"

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


def negations_of(tokens: tuple[str, ...]) -> int:
    """Return how often a text says "not" in one of its forms."""
    return sum(
        token in _NEGATIVE or token.startswith(_GERMAN_NO) or token[-3:] in ("n't", "n’t")
        for token in tokens
    )


_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis", "mis", "de")


def prefix_flipped(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether a word of one text alone stands in the other with a prefix that denies it.

    `ours`, `theirs`: stems that only one text has.
    """
    return any(prefix + word in theirs for word in ours if len(word) > 2 for prefix in _PREFIXES)


def polarity_of(words: frozenset[str]) -> frozenset[tuple[int, int]]:
    """Return (pair, side) of every opposite that the words take sides in, unless they take both."""
    sides: set[tuple[int, int]] = set()
    for word in words:
        sides.update(_WHOLE_WORDS.get(word, ()))
        for end in range(_SHORT + 1, min(len(word), _LONGEST_STEM) + 1):
            sides.update(_STEMS.get(word[:end], ()))
    return frozenset((pair, sign) for pair, sign in sides if (pair, -sign) not in sides)


def opposed(ours: frozenset[tuple[int, int]], theirs: frozenset[tuple[int, int]]) -> bool:
    """Whether two texts take different sides of an opposite."""
    return any((pair, -side) in theirs for pair, side in ours)
