"""Which language a text is in, by its script and its commonest words; and its letters."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_COMMON = {
    "en": "the of and to in is are was were do does did what which who how why when where that with"
    " for from this it you can could i my a an on be has have not",
    "de": "der die das und ist sind war ein eine einen einem nicht mit für von auf wie was wer wo"
    " wann warum ich mein meine kann können zu den dem des im am es sich bei nach",
    "fr": "le la les des du et est sont un une je mon ma mes dans pour avec sur pas que qui quoi"
    " comment pourquoi quand où quel quelle au aux ce cette en il elle vous nous puis",
    "es": "el la los las del y es son un una en por para con que qué quién cómo cuándo dónde cuál"
    " mi mis no se su al lo como está puedo hay",
    "it": "il lo la gli le di del della e è sono un una in per con che chi come quando dove quale"
    " perché mio mia non si al nel posso ho",
    "pt": "o os as do da dos das e é são um uma em no na por para com que quem como quando onde"
    " qual meu minha não se ao posso eu",
    "nl": "de het een en van is zijn niet met voor op wat wie hoe waarom wanneer waar ik mijn kan"
    " dat die te bij naar",
}  # fmt: skip
_BY_WORD: dict[str, tuple[str, ...]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _BY_WORD[_word] = (*_BY_WORD.get(_word, ()), _language)
_SURE = 2  # words more than the next likely language


def language_of(folded: str, words: frozenset[str], ascii_only: bool) -> str:
    """Return "de", or a script beyond Latin such as "CYRILLIC"; "" if that is not certain."""
    if not ascii_only:
        script = _script(folded)
        if script != "LATIN":
            return script
    counts: dict[str, int] = {}
    for word in words & _BY_WORD.keys():
        for language in _BY_WORD[word]:
            counts[language] = counts.get(language, 0) + 1
    if not counts:
        return ""
    most = max(counts, key=lambda name: (counts[name], name))
    others = max((n for name, n in counts.items() if name != most), default=0)
    return most if counts[most] >= _SURE + others else ""


_ASCII_LETTERS = re.compile(r"[a-z]")
_OTHER_LETTERS = re.compile(r"[^\W\d_\x00-\x7f]")


def _script(folded: str) -> str:
    others = _OTHER_LETTERS.findall(folded)
    if len(others) <= len(folded) // 4 and len(others) <= len(_ASCII_LETTERS.findall(folded)):
        return "LATIN"
    counts: dict[str, int] = {}
    for letter in others:
        script = _script_of(letter)
        counts[script] = counts.get(script, 0) + 1
    return max(counts, key=lambda name: (counts[name], name)) if counts else "LATIN"


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "LATIN").split()[0]


class Letters(NamedTuple):
    """The words of a text with a letter beyond ASCII."""

    unread: frozenset[str]  # in a script that the encoder reads letter by letter if at all
    accented: frozenset[str]
    bare: frozenset[str]  # all words of the text, without accents; empty if none has any


NO_LETTERS = Letters(frozenset(), frozenset(), frozenset())


def letters_of(tokens: tuple[str, ...]) -> Letters:
    """Return what the encoder would not see of a text's words."""
    foreign = {token for token in tokens if not token.replace("’", "").isascii()}
    if not foreign:
        return NO_LETTERS
    unread = frozenset(word for word in foreign if not _bare(word).isascii())
    return Letters(unread, frozenset(foreign - unread), frozenset(map(_bare, tokens)))


def _bare(word: str) -> str:
    if word.isascii():
        return word
    parts = unicodedata.normalize("NFKD", word.replace("’", "'"))
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def letters_differ(
    a: Letters, b: Letters, words_a: frozenset[str], words_b: frozenset[str]
) -> bool:
    """Whether two texts differ in what the encoder drops.

    Words of scripts that it cannot read have to be the same; of accented words only those count
    that the other text has with other accents, or that stand against accented words of the other.
    """
    if a is b or a == b:
        return False
    if a.unread != b.unread:
        return True
    ours, theirs = a.accented - words_b, b.accented - words_a
    if ours and theirs:
        return True
    bare_a, bare_b = a.bare or words_a, b.bare or words_b
    return any(_bare(word) in bare_b for word in ours) or any(
        _bare(word) in bare_a for word in theirs
    )
