"""Whether a text asks for something beside what is known already: "what else", "another one".

To the encoder "What other awards did she win?" is "What awards did she win?", 0.9 and more; whoever
asks it has that answer already and wants none of it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# "The other way round" and "one another" ask for nothing new, and "more" may compare.
_ASKED = re.compile(
    r"""\b(?:
    (?:what|which|who|whom|where|when|why|how|(?:any|some)(?:thing|one|body|where)?|there|are|were
      |have|had|has|his|her|its|their|your|my|the|two|three|few|many)
      \s+(?:else|others?(?!\s+(?:hand|way|side|day|than\b))|more(?!\s+than))
    |(?<!one\ )another|one\ more|again
    |(?:(?:give|show|tell|get|find|list|name)\s+(?:me\s+|us\s+)?)?more
      (?=\s+(?:example|idea|reason|detail|information|option|one)s?\b)
    |noch\s+ein\w*|weitere\w*|andere[nrsm]?|sonst\s+noch|nochmal\w*
    |d'autres|une?\s+autre|quel(?:le)?s?\s+autres?|otr[oa]s?|altr[oaie]
    )\b""",
    re.VERBOSE,
)
# One of these is in all of that; most texts have none, and to look for them takes a tenth.
_HINTS = "other more else again noch weitere andere autre otr altr".split()
_LIKEWISE = frozenset(
    "other others different additional additionally further extra alternative alternatives"
    " alternatively besides apart beyond new next more also too still remaining rest".split()
)


class Further(NamedTuple):
    """What a text says of there being more than it names."""

    asked: bool  # for something else than what is known
    likely: bool  # that, or something that may mean it


def further_of(folded: str, words: frozenset[str]) -> Further:
    """Read a text in lower case; `words` are its words."""
    hinted = any(hint in folded for hint in _HINTS)
    asked = hinted and _ASKED.search(folded) is not None
    return Further(asked, asked or not _LIKEWISE.isdisjoint(words))


def only_one_further(a: Further, b: Further) -> bool:
    """Whether one of two texts asks for something else and the other surely does not."""
    return (a.asked and not b.likely) or (b.asked and not a.likely)
