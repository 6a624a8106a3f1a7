"""Texts that must not be shown to a model as an example, because they would steer it.

An example is somebody's text, and a small model obeys what it reads. What is looked for are the
known forms: another model's turn markers, a made-up turn, hidden characters, and orders about the
conversation itself in several wordings and languages. That is a filter and no proof: examples of
the same user, and of no other tenant, are what keeps a stranger's order away; see `icl/scrub.py`
for what is taken out of texts that do cross users. It errs towards refusing: one example less costs
little. Every expression takes time in proportion to the text.
"""

from __future__ import annotations

import re
import string
import unicodedata
from itertools import pairwise, product

SUSPICIONS = frozenset({"template token", "role marker", "made-up turn", "hidden text", "override"})

_TEMPLATE = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\|(?:im_|start|end|eot|system|user|assistant)|\[/?INST\]|<</?SYS>>"
    r"|</?s>|<(?:start|end)_of_turn>|<[｜|][^<>]{1,40}[｜|]>|</?(?:bos|eos|pad|unk)>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<\|?(?:/?think|tool_call)>"
    r"|#{2,4} ?(?:instruction|response|input|system|assistant|user|human)s?\b[ :]*$",
    re.IGNORECASE | re.MULTILINE,
)
_ROLE = re.compile(
    r"^[\s>*#_\"'\[(<-]{0,8}(?:system|assistant|user|human|ai|bot|developer|model|gpt|chatgpt)"
    r"(?: (?:message|prompt|note|override))?[\s*_\])>]{0,4}[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER = re.compile(r"^[\s>*#_-]{0,8}(?:answer|a|response|output)[ *_]{0,3}[:：]", re.I | re.M)
_QUESTION = re.compile(r"^[\s>*#_-]{0,8}(?:question|q|input)[ *_]{0,3}[:：]", re.I | re.M)
# Unicode tags, bidirectional overrides and isolates: shown to no reader, read by a model.
_HIDDEN = re.compile("[\U000e0001-\U000e007f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u2060-\u2064\ufeff]")
_NO_WORD = re.compile(r"[\W_]+")
_LOOKALIKES = str.maketrans("аеіорсухѕԁԛԝΑΒΕΗΙΚΜΝΟΡΤΧοаο", "aeiopcyxsdqwabehikmnoptxoao")

_GAP = r"(?: \w{1,20}){0,6}?"
_STOP = (
    r"(?:ignor\w{0,3}|disregard\w{0,3}|forget|overrid\w{1,3}|bypass\w{0,3}|discard|neglect"
    r"|pay no attention to|(?:do not|don t|dont|stop|never) (?:follow|obey)\w{0,3})"
)
_EARLIER = r"(?:previous|prior|above|earlier|preceding|foregoing|former|past|original|initial)"
_SHOW = (
    r"(?:repeat|print|output|reveal|show|display|return|recite|echo|list|tell|give|leak|expose"
    r"|dump|write|copy|quote|summari[sz]e|translate|spell|say|what (?:is|are|was|were))"
)
_ORDERS = re.compile(
    r"\b(?:"
    rf"{_STOP}{_GAP} (?:all|any|the|your|my|these|those|every|other|system|{_EARLIER}){_GAP}"
    r" (?:instructions?|prompts?|rules|guidelines|directives?|directions|commands|programming)"
    rf"|{_STOP}{_GAP} {_EARLIER}{_GAP} (?:text|context|messages?|conversation|questions?|answers?)"
    rf"|{_STOP} (?:everything|anything|all|whatever|what){_GAP}"
    r" (?:above|before|previously|said|told|earlier|prior)"
    rf"|{_SHOW}{_GAP} (?:system|hidden|secret|initial|original|developer|your)"
    r" (?:prompts?|instructions?|messages?|guidelines|rules)"
    rf"|{_SHOW}{_GAP} (?:the|this|our|your|entire|whole|full|previous|earlier)"
    r" (?:conversation|chat history|chat|context window)"
    rf"|{_SHOW}{_GAP} everything{_GAP} (?:above|before|prior|so far|told|received|given)"
    rf"|{_SHOW}{_GAP} (?:text|words|messages?|questions?|answers?|examples?|instructions?|prompts?)"
    r" (?:above|before this|so far|you were given|you (?:have )?(?:received|got|seen))"
    rf"|{_SHOW}{_GAP} {_EARLIER}"
    r" (?:messages?|questions?|answers?|examples?|turns?|instructions?|prompts?|users?|requests?)"
    r")\b"
)
_FOREIGN_ORDERS = re.compile(
    r"\b(?:ignorier\w{0,3}|vergiss|missachte\w{0,2}|oublie[sz]?|ignore[sz]?|olvida\w{0,2}"
    r"|ignora\w{0,2}|esque[cç]a\w{0,2}|dimentica\w{0,2})"
    r"(?: \w{1,20}){0,5}? (?:anweisungen|instructions|consignes|instrucciones|instruções"
    r"|istruzioni|regeln|vorgaben)\b"
)
_PERSONA = re.compile(
    r"\byou are (?:now(?! (?:ready|able|connected|logged|signed|set|all|done|using|running|good"
    r"|finished|required|eligible|viewing|looking|subscribed|in|at|on)\b)|no longer)"
    r"|\bpretend (?:that )?you\b|\bfrom now on(?: \w{1,20}){0,3}? (?:you|answer|respond"
    r"|reply|say|always|only|act)\b|\bdo anything now\b|\bjailbr(?:eak|oken)\b"
    r"|\b(?:whenever|every time|if) (?:any(?:one|body)|some(?:one|body)|the user|a user|users?"
    r"|they|you are|you re|i) asks?(?:ed)?\b(?: \w{1,20}){0,12}? (?:say|answer|respond|reply|tell"
    r"|output|print)\b"
    r"|\b(?:all|every|any) (?:future|following|subsequent|further|next|other)"
    r" (?:answers?|responses?|repl(?:y|ies)|messages?|questions?|requests?|conversations?)\b"
    r"|\bnew (?:system )?(?:instructions?|prompt|directives?) (?:are|is|follow|for you|your)\b"
)
# Which words, and which two in a row, a text needs before it can match: a set takes a hundredth of
# the time that the expressions take.
_STOPPING = (
    "ignore ignores ignored ignoring disregard disregards disregarding forget override overriding"
    " bypass bypassing discard neglect attention follow obey"
)
_ABROAD = (
    "ignoriere ignoriert ignorieren vergiss missachte missachten oublie oubliez oublies ignorez"
    " olvida olvidar olvidad ignora ignorar ignorad esqueça esqueca dimentica dimenticare"
)
_SIGNS = frozenset(
    f"{_STOPPING} {_ABROAD} everything pretend jailbreak jailbroken whenever asks asked ask".split()
)
_OWN = "system hidden secret initial original developer your"
_OWNED = "prompt prompts instruction instructions message messages guidelines rules"
_TALK = "the this our your entire whole full previous earlier"
_BEFORE = "previous prior above earlier preceding foregoing former past initial original"
_SAID = (
    "message messages question questions answer answers example examples turn turns instruction"
    " instructions prompt prompts user users request requests"
)
_AFTER = "answer answers response responses reply replies message messages question questions"


def _pairs(first: str, second: str) -> set[tuple[str, str]]:
    return set(product(first.split(), second.split()))


_PAIRS = frozenset(
    _pairs(_OWN, _OWNED)
    | _pairs(_TALK, "conversation chat context")
    | _pairs(_BEFORE, _SAID)
    | _pairs(f"{_SAID} text words", "above before so you")
    | _pairs("are", "now no")
    | _pairs("from", "now")
    | _pairs("do", "anything")
    | _pairs("future following subsequent further next other", f"{_AFTER} request requests")
    | _pairs("future following subsequent further next other", "conversation conversations")
    | _pairs("new", "system instruction instructions prompt directive directives")
)
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))


def suspicious(text: str) -> str | None:
    """Say why a text may not be shown as an example, one of SUSPICIONS; None if it may."""
    if not text.isascii():
        if _HIDDEN.search(text):
            return "hidden text"
        text = _INVISIBLE.sub("", text)
        text = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)
    if ("<" in text or "[" in text or "#" in text) and _TEMPLATE.search(text):
        return "template token"
    if ":" in text:
        if _ROLE.search(text):
            return "role marker"
        answered = _ANSWER.search(text)
        if answered is not None and _QUESTION.search(text, answered.end()):
            return "made-up turn"
    return "override" if _overrides(text.casefold()) else None


def suspicious_turns(question: str, answer: str) -> str | None:
    """Say why an example may not be shown, read as the model will: one text below the other.

    A turn may be forged across the two. Without a colon there is none, and a quarter of the time
    is saved.
    """
    signed = ":" in question or ":" in answer or not (question.isascii() and answer.isascii())
    return suspicious(f"{question}\nAnswer:\n{answer}" if signed else f"{question}\n{answer}")


def _overrides(folded: str) -> bool:
    if folded.isascii():
        words = folded.translate(_PUNCTUATION).split()
    else:
        words = _NO_WORD.sub(" ", folded).split()
    if _SIGNS.isdisjoint(words) and _PAIRS.isdisjoint(pairwise(words)):
        return False
    said = " ".join(words)
    return any(form.search(said) for form in (_ORDERS, _FOREIGN_ORDERS, _PERSONA))
