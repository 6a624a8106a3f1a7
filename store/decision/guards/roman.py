"""Roman numerals behind a name, as digits: "World War II" is "World War 2", "Henry VIII" "Henry 8".

Beside a name only, and however it is written: "I" is mostly a word, "vi" an editor, "iv" a drip.
"""

from __future__ import annotations

import re

_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50}
_NUMERAL = re.compile(r"(?:l|xl)?(?:x{0,3})(?:ix|iv|v?i{0,3})")
_WORD = re.compile(r"\b[ivxlIVXL]+\b(?!['’](?!s\b))")
_HINT = re.compile(r"\b(?:[ivxlIVXL]+\b|[wW]{2}[iI12])")
_WARS = re.compile(r"\bww(ii|i|[12])\b", re.IGNORECASE)
# These are nothing else behind a word.
_SURE = frozenset("ii iii vii viii xii xiii xiv xvi xvii xviii xxi xxii xxiii xxiv".split())
# What is counted in them.
_COUNTED = frozenset(
    "war part volume vol chapter book stage type phase episode act scene class level grade title"
    " article section amendment schedule table appendix bowl olympiad factor nerve vatican tier"
    " category division group generation mark number no"
    # Kings, queens, popes and pharaohs.
    " henry louis george edward richard charles james william elizabeth paul pius benedict leo"
    " gregory clement innocent urban boniface julius adrian alexander napoleon ramses rameses"
    " ptolemy philip ferdinand francis frederick wilhelm friedrich nicholas ivan catherine mary"
    " peter otto leopold albert umberto emmanuel carl karl gustav gustaf adolf christian haakon"
    " olav harald erik darius xerxes cyrus artaxerxes amenhotep thutmose seti mehmed murad selim"
    " suleiman ahmed osman john joseph franz franco alfonso juan carlos pedro felipe filip sancho"
    " henri margrethe margaret mary anne victoria constantine justinian theodosius leo basil"
    " sigismund casimir stephen bela robert rudolf maximilian"
    # What has sequels.
    " rocky rambo godfather fantasy wars trek jaws creed scream fighter kombat quest evil civ"
    " civilization witcher warcraft starcraft diablo doom quake halo thief auto gta apollo gemini"
    " saturn trident elements effect souls".split()
)
# Behind another word an "I" goes on with somebody: "the chapter I should read".
_BEHIND_ONE = frozenset(
    "and or of in on to vs versus is was did does were start started begin began end ended happen"
    " happened cause caused rule ruled reign reigned die died born crowned king queen cancer"
    " diabetes scene wife husband son daughter marry".split()
)
# Behind "world war", where it is a number, unless it goes on so.
_GOES_ON = frozenset("am have had want need think know read saw should can could".split())
_NEXT = re.compile(r"\s+([^\W\d_]+)")
_SPAN = 24  # letters in which the word before stands


def in_digits(text: str) -> str:
    """Return a text with its Roman numerals in digits, where they certainly are some."""
    if _HINT.search(text) is None:
        return text
    text = _WARS.sub(lambda match: f"world war {_arabic(match[1].casefold())}", text)
    return _WORD.sub(lambda match: _read(match, text), text)


def _arabic(numeral: str) -> str:
    if numeral.isdigit():
        return numeral
    values = [_VALUES[letter] for letter in numeral]
    return str(
        sum(
            -value if value < following else value
            for value, following in zip(values, [*values[1:], 0], strict=True)
        )
    )


def _read(match: re.Match[str], text: str) -> str:
    written, start = match[0], match.start()
    numeral = written.casefold()
    before = text[max(0, start - _SPAN) : start].split()
    if not before or not text[start - 1].isspace() or not before[-1].isalpha():
        return written
    name = before[-1].casefold()
    if (numeral not in _SURE and name not in _COUNTED) or not _NUMERAL.fullmatch(numeral):
        return written
    if numeral == "i":
        behind = _NEXT.match(text, match.end())
        following = "of" if behind is None else behind[1].casefold()
        world_war = " ".join(before[-2:]).casefold() == "world war"
        if following not in _BEHIND_ONE and (not world_war or following in _GOES_ON):
            return written
    if "l" in numeral and name != "bowl":
        return written
    return _arabic(numeral)
