"""Who does what to whom: words that trade their places."""

from __future__ import annotations

from typing import NamedTuple

from store.decision.guards.words import EMPTY, Words, moved, overlap, stem

_NEARLY = 0.75  # of the words that carry something
_JOINING = frozenset("and or vs versus und oder et ou y e o".split())
# Between two words that may as well trade their places.
_EVEN = _JOINING.union(map(stem, "versus plus times x".split()))
_ALIKE = frozenset(map(stem, "compared equal equals same similar different near married".split()))
_BESIDE = _ALIKE | {"to", "with", "from", "as", "by", "is", "are"}
# Verbs and nouns whose two sides are one: "mix A with B", "the distance from A to B".
_MUTUAL = frozenset(
    map(
        stem,
        "compare compared comparing comparison mix mixing combine combining distance far differ"
        " difference different similar similarity equal marry married meet".split(),
    )
)
_BETWEEN = frozenset("to with from and by than".split())
_LONGEST = 24  # words that trade places, with what stands between them


def turned_round(a: Words, b: Words) -> bool:
    """Whether two texts say nearly the same words in another order; no proof of another question.

    "Regular season start" and "start of the regular season" are the same; the calibrated score
    weighs this.
    """
    shared = a.content & b.content
    if len(shared) < 2 or overlap(a, b) < _NEARLY:
        return False
    return [s for s in a.stems if s in shared] != [s for s in b.stems if s in shared]


def _traded(a: Words, b: Words) -> list[tuple[str, str]]:
    if not turned_round(a, b):
        return []
    both = a.content & b.content
    others = {(x, y) for x, y in moved(a, b) if x in both and y in both}
    return [(x, y) for x, y in others if (y, x) in others]


def swapped(a: Words, b: Words) -> bool:
    """Whether two words hold each other's places: "does A beat B" and "does B beat A".

    "A and B" is "B and A".
    """
    found = _mirrored(a.core, b.core) if a.bag == b.bag else None
    if found is not None:
        return found or _is_a(a, b)
    if _is_a(a, b):
        return True
    if ("me" in a.tokens) != ("me" in b.tokens):  # "can I sue them", "can they sue me"
        ours, theirs = _told(a), _told(b)
        if sorted(ours) == sorted(theirs) and _mirrored(ours, theirs):
            return True
    traded = _traded(a, b)
    return bool(traded) and not (_joined(a) & _joined(b)).issuperset(map(frozenset, traded))


def numbers_swapped(a: Words, b: Words) -> bool:
    """Whether two numbers hold each other's places: "5 from 2" and "2 from 5"."""
    if a.bag == b.bag and _mirrored(a.core, b.core) is False:
        return False
    return any(x.isdigit() and y.isdigit() for x, y in _traded(a, b))


def _joined(words: Words) -> set[frozenset[str]]:
    stems = [s for s in words.stems if s not in ("the", "a", "an")]
    return {
        frozenset((first, last))
        for first, middle, last in zip(stems, stems[1:], stems[2:], strict=False)
        if middle in _JOINING
    }


def _told(words: Words) -> tuple[str, ...]:
    return tuple("i" if word == "me" else word for word in words.stems)


def _mirrored(a: tuple[str, ...], b: tuple[str, ...]) -> bool | None:
    """Whether one text says `X M Y` where the other says `Y M X` and M tells the two apart.

    None if they do not have this form at all. Both are the same words in some order.
    """
    if a == b:
        return None
    first, end = 0, len(a)
    while a[first] == b[first]:
        first += 1
    while a[end - 1] == b[end - 1]:
        end -= 1
    ours, theirs = a[first:end], b[first:end]
    size = len(ours)
    if size > _LONGEST:
        return None
    mutual = not _MUTUAL.isdisjoint(a)
    found = None
    for left in range(1, size - 1):
        for right in range(1, size - left):
            middle = ours[left : size - right]
            if theirs == ours[size - right :] + middle + ours[:left]:
                if not _either_way(ours[:left], middle, ours[size - right :], mutual):
                    return True
                found = False
    return found


def _either_way(
    first: tuple[str, ...], middle: tuple[str, ...], last: tuple[str, ...], mutual: bool
) -> bool:
    said = set(middle)
    if said <= _EVEN or said <= {"multipli", "by"} or middle[-1] in _JOINING:
        return True  # the last of a list is joined to the others
    if mutual and said <= _BETWEEN:
        return True
    if not said.isdisjoint(_ALIKE) and said <= _BESIDE:
        return True
    numbers = all(word.isdigit() for word in (*first, *last))
    return numbers and (said == {"by"} or all(word.isdigit() for word in middle))


def _is_a(a: Words, b: Words) -> bool:
    """Whether the texts ask "is X a Y" and "is Y an X", or "are Xs Ys"."""
    ours, theirs = a.core, b.core
    if len(ours) < 2 or ours == theirs:
        return False
    if ours[-2:] != theirs[:-3:-1] or ours[:-2] != theirs[:-2]:
        return False
    return all(
        words.tokens[0] in ("is", "are", "was", "were")
        and len(words.tokens) > 2
        and (words.tokens[-2] in ("a", "an") or words.tokens[-1] != words.stems[-1])
        for words in (a, b)
    )


# Verbs by their forms that the stem does not bring together.
_BASE = {
    form: rows.split()[0]
    for rows in (
        "write wrote written", "beat beaten", "eat ate eaten", "give gave given", "take took taken",
        "bite bit bitten", "teach taught", "fight fought", "lead led", "leave left", "send sent",
        "buy bought", "sell sold", "sue sued", "shoot shot", "choose chose chosen", "find found",
        "see saw seen", "tell told", "know knew known", "make made", "build built", "hit hit",
        "catch caught", "bring brought", "drive drove driven", "steal stole stolen",
        "overthrow overthrew overthrown", "forgive forgave forgiven", "hear heard", "win won",
        "sing sang sung", "draw drew drawn", "lose lost", "pay paid", "lend lent", "hold held",
        "keep kept", "feed fed", "meet met", "wake woke", "forget forgot", "defend defended",
    )
    for form in rows.split()
}  # fmt: skip
_BASE = {stem(form): base for form, base in _BASE.items()}
_ASKED = frozenset("who whom which what".split())
_DOING = frozenset("did do does".split())
_BEING = frozenset("is are was were been being".split())
_LEFT_OUT = _DOING | _BEING | {"a", "an", "the", "by"}
_ANSWERED_ALIKE = frozenset(
    map(stem, "marry married date dated meet mean cost fight divorce happen play wed".split())
)
_SHORT = 16  # words; a longer text asks more than who did what
_NEAR = 5  # words before which who, which or what is asked


class Role(NamedTuple):
    """Which side of an act a question asks for."""

    doer: bool  # "who killed Brutus"; else "who did Brutus kill", "who was killed by Brutus"
    form: str  # "did" and "by" where it says so
    said: tuple[str, ...]  # all else that it says
    bag: tuple[str, ...]  # the same, in order of the alphabet


def role_of(words: Words) -> Role | None:
    """Return which side of what is done a text asks for, if it asks for one."""
    tokens = words.tokens
    if len(tokens) > _SHORT:
        return None
    at = next((i for i, token in enumerate(tokens[:_NEAR]) if token in _ASKED), None)
    if at is None or not EMPTY.issuperset(tokens[:at]):
        return None
    rest = tokens[at + 1 :]
    if not rest:
        return None
    doer, form = True, ""
    if not _DOING.isdisjoint(rest[:4]):
        doer, form = False, "did"
    elif not _BEING.isdisjoint(rest[:4]):
        if "by" not in rest:
            return None
        doer, form = rest[-1] == "by", "by"  # "who was Brutus killed by"
    said = tuple(
        _BASE.get(s, s)
        for token, s in zip(rest, words.stems[at + 1 :], strict=True)
        if token not in _LEFT_OUT
    )
    if len(said) < 2 or not _ANSWERED_ALIKE.isdisjoint(said):
        return None
    return Role(doer, form, said, tuple(sorted(said)))


def roles_reversed(a: Role | None, b: Role | None) -> bool:
    """Whether two texts ask for the two sides of one act."""
    if a is None or b is None or a.doer == b.doer or a.bag != b.bag:
        return False
    # "What sports did Ann play" without its "did" is still that.
    return a.said != b.said or "by" in (a.form, b.form)
