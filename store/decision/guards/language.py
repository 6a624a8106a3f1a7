"""Which language a text is in, by its script and its commonest words; and its letters."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

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


def language_of(tokens: tuple[str, ...], ascii_only: bool) -> str:
    """Return "de", or a script beyond Latin such as "CYRILLIC"; "" if that is not certain."""
    if not ascii_only:
        script = _script(tokens)
        if script != "LATIN":
            return script
    counts: dict[str, int] = {}
    for token in tokens:
        for language in _BY_WORD.get(token, ()):
            counts[language] = counts.get(language, 0) + 1
    if not counts:
        return ""
    (most, language), *others = sorted(((n, name) for name, n in counts.items()), reverse=True)
    return language if most >= _SURE + (others[0][0] if others else 0) else ""


def _script(tokens: tuple[str, ...]) -> str:
    counts: dict[str, int] = {}
    for token in tokens:
        for letter in token:
            script = "LATIN" if letter.isascii() else _script_of(letter)
            counts[script] = counts.get(script, 0) + 1
    return max(counts, key=lambda name: (counts[name], name)) if counts else "LATIN"


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "LATIN").split()[0]


def foreign_of(tokens: tuple[str, ...]) -> frozenset[str]:
    """Return the words with a letter beyond ASCII.

    The encoder drops accents, and reads scripts beyond Latin letter by letter if at all.
    """
    return frozenset(token for token in tokens if not token.replace("’", "").isascii())
