"""A verdict that the requested model is not asked for: a stored question, put to the small model.

What a request's nearest example asks has an answer already, the requested model's own. The small
model is asked that question, with the other neighbours as examples and in the same chat, and what
it says is compared with the stored answer. So the verdict comes as fast as the small model is, in
an overload too, where an audit waits behind all clients. Nobody but the judge sees what it said,
and it is shown nothing that it would not be shown for the request itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from icl.example import Example
from icl.prompt import with_examples
from icl.selection import Limits, select
from icl.utility import UtilityModel
from store.entry import EntryId


def nearest(
    examples: Sequence[Example], may_ask_again: Callable[[EntryId], bool]
) -> Example | None:
    """Return the example that is rehearsed: the nearest that may be asked anew.

    None where there is none, or no other would be left to be shown.
    """
    if len(examples) < 2:
        return None
    able = [each for each in examples if may_ask_again(each.id)]
    return max(able, key=lambda each: each.similarity, default=None)


def rehearsal(
    body: Mapping[str, Any],
    asked: Example,
    candidates: Sequence[Example],
    utility: UtilityModel,
    limits: Limits,
    small: str,
) -> dict[str, Any] | None:
    """Return the chat that asks the small model an example's question in the request's place.

    `body` is the request's, as JSON, for which `icl.prompt.refusal` found nothing. None where none
    of the other candidates may be shown for it: that would be no trial of what examples do.
    """
    others = [each for each in candidates if each.id != asked.id]
    shown = select(asked.question, others, utility, limits).examples
    if not shown:
        return None
    question = {"role": "user", "content": asked.question}
    return with_examples({**body, "messages": [*body["messages"][:-1], question]}, shown, small)
