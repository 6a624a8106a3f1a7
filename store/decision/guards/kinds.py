"""Words of one kind, of which another one makes another question: Python and Rust, red and blue.

Names that people type in lower case, so that capitals do not give them away.
"""

from __future__ import annotations

from store.decision.guards.words import stem

# A country and its people or language are one word here: "population of france", "french people".
_KINDS = {
    "program": "python java javascript/js typescript/ts rust golang ruby perl php kotlin scala"
    " haskell erlang elixir clojure fortran cobol csharp cplusplus matlab bash powershell sql",
    "format": "json xml yaml csv html css markdown latex pdf docx xlsx png jpeg/jpg gif"
    " svg mp3 mp4",
    "system": "windows linux macos android ios ubuntu debian fedora",
    "product": "mysql postgresql/postgres mongodb redis sqlite oracle django flask react angular"
    " vue kubernetes docker aws azure gcp excel outlook gmail instagram twitter facebook tiktok"
    " youtube netflix spotify whatsapp telegram iphone",
    "place": "england/english scotland/scottish ireland/irish france/french germany/german"
    " austria/austrian italy/italian spain/spanish portugal/portuguese netherlands/dutch"
    " belgium/belgian switzerland/swiss sweden/swedish norway/norwegian denmark/danish"
    " finland/finnish iceland/icelandic poland/polish czechia/czech hungary/hungarian"
    " romania/romanian bulgaria/bulgarian greece/greek turkey/turkish russia/russian"
    " ukraine/ukrainian china/chinese japan/japanese korea/korean india/indian pakistan/pakistani"
    " vietnam/vietnamese thailand/thai indonesia/indonesian malaysia/malaysian"
    " australia/australian canada/canadian mexico/mexican brazil/brazilian argentina/argentinian"
    " chile/chilean peru/peruvian colombia/colombian egypt/egyptian morocco/moroccan"
    " nigeria/nigerian kenya/kenyan ethiopia/ethiopian israel/israeli iran/iranian iraq/iraqi"
    " hindi arabic hebrew latin africa/african asia/asian europe/european america/american",
    "city": "london paris berlin rome milan madrid barcelona lisbon vienna munich hamburg amsterdam"
    " brussels zurich geneva stockholm oslo copenhagen helsinki dublin warsaw prague budapest"
    " athens istanbul moscow kyiv tokyo osaka kyoto beijing shanghai seoul delhi mumbai bangkok"
    " singapore jakarta sydney melbourne toronto vancouver montreal chicago boston seattle miami"
    " houston dallas denver cairo nairobi lagos",
    "colour": "red blue green yellow orange purple black white grey/gray pink brown",
    "planet": "mercury venus mars jupiter saturn uranus neptune pluto",
    "span": "second minute hour/hourly day/daily week/weekly month/monthly year/yearly/annual"
    "/annually decade century",
    "length": "meter/metre kilometer/kilometre/km centimeter/centimetre/cm millimeter/millimetre/mm"
    " inch/inches foot/feet yard mile",
    "mass": "gram kilogram/kilo/kg ounce pound",
    "degree": "celsius fahrenheit kelvin",
    "money": "dollar/usd euro/eur yen rupee franc pound/gbp",
    "currency": "bitcoin ethereum dogecoin",
    "relative": "uncle aunt nephew niece cousin grandfather grandmother",
    "pet": "dog/puppy cat/kitten horse rabbit hamster parrot",
    "meal": "breakfast lunch dinner",
    "sport": "football soccer baseball basketball hockey tennis golf cricket rugby volleyball",
    "part": "noun verb adjective adverb",
    "step": "undergraduate graduate doctoral",
}  # fmt: skip
_OF: dict[str, tuple[str, str]] = {
    stem(spelling): (kind, spellings.split("/")[0])
    for kind, members in _KINDS.items()
    for spellings in members.split()
    for spelling in spellings.split("/")
}
_WORDS = _OF.keys()


def kinds_of(stems: frozenset[str]) -> frozenset[tuple[str, str]]:
    """Return (kind, member) for the words that belong to one."""
    return frozenset(_OF[word] for word in stems & _WORDS)


def exclusive(ours: frozenset[tuple[str, str]], theirs: frozenset[tuple[str, str]]) -> bool:
    """Whether each text names a member of one kind that the other does not."""
    if ours == theirs:
        return False
    return not {kind for kind, _ in ours - theirs}.isdisjoint(kind for kind, _ in theirs - ours)
