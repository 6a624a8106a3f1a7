"""An explanation as data, and in sentences that an operator can read. Pure."""

from __future__ import annotations

from typing import Any

from icl.arms import Arm
from proxy.category import Told
from proxy.explain import Explained
from proxy.nearhits.plan import Expected
from proxy.outcome import Barrier, Judgement, Outcome, exact_outcome
from store.decision.guards import vetoes
from store.entry import Candidate, Held
from store.policy import DEFAULT_CATEGORY, Mode, Policy
from store.units import duration_text

NEAR_HIT = "near-hit"

BYPASSES = {
    "policy": "its category is not cached, or keeps answers by user and the request names none",
    "content": "what it holds (images, tool results, functions) never matches by meaning",
    "temperature": "its temperature is above what the category stores",
    "turns": "it has more user turns than the category looks up by meaning",
    "size": "its question is longer than the encoder can take whole",
    "overload": "the encoder has too much to do",
    "fault": "a part of the cache does not work: /ready and the log say which",
}
BARRIERS = {
    Barrier.CATEGORY: "its category is gone, or shares its answers otherwise than the request's",
    Barrier.MODE: "its category, or the request's, is not looked up by meaning",
    Barrier.QUARANTINE: "it is quarantined",
    Barrier.TENANT: "it is another tenant's and not approved for others",
    Barrier.ASKED: "it is farther than the request's own X-Nearhit-Threshold allows",
    Barrier.THRESHOLD: "its cosine is below the threshold",
    Barrier.GUARD: "a guard forbids it",
    Barrier.EXPIRED: "it has expired",
    Barrier.AGE: "it is older than the request's max-age",
    Barrier.CROWDED: "several others that nothing forbids are nearer",
    Barrier.SCORE: "it is too likely to be wrong",
    Barrier.CONTEXT: "what the users said earlier does not mean the same",
    Barrier.FARTHER: "a nearer one has settled it, so it was not looked into",
    Barrier.OUTDONE: "nothing forbids it, but another one is the safer choice",
}
NO_NEAR_HIT = {
    "pairing": "no small model is configured for this model",
    "offload": "the route, the category or the request's own headers do not allow it",
    "unjudged": "nobody judges this category's answers",
    "resting": "the small model, or its upstream, has just failed and is left alone for a while",
    "busy": "the small model has all the calls that it bears",
    "asked_again": "a small model has just answered this, and asking again is a complaint",
    "request": "the request holds what a small model is not given (tools, images, several answers)",
    "examples": "no stored answer is near enough to show",
}


def explanation(found: Explained) -> dict[str, Any]:
    """Return all of it as plain values for JSON; `sentences` say it in words."""
    data = {
        "verdict": _verdict(found),
        "tier": _tier(found),
        "answered_by": _answered_by(found),
        "stored": found.lookup.storable and not found.call.directives.no_store
        if found.lookup.outcome is not Outcome.HIT
        else False,
        "bypass": found.lookup.reason,
        "category": _category(found),
        "policy": _policy(found),
        "exact": _exact(found),
        "candidates": _candidates(found),
        "near_hit": _near_hit(found.expected),
    }
    return {"sentences": _sentences(found, data), **data}


def _verdict(found: Explained) -> str:
    expected = found.expected
    if expected is not None and expected.favour is not None:
        if expected.favour.favourite is not Arm.REQUESTED:
            return NEAR_HIT
    return found.lookup.outcome.value


def _tier(found: Explained) -> str | None:
    hit = found.lookup.found
    if hit is None:
        return None
    call, held = found.call, hit.held
    twin = held.shared_key != "" and held.shared_key == call.shared_key
    return "exact" if held.id == call.id or twin else "semantic"


def _answered_by(found: Explained) -> dict[str, Any]:
    call, lookup = found.call, found.lookup
    if lookup.found is not None:
        held = lookup.found.held
        return {"kind": "entry", "entry": held.id, "model": held.model, "query": held.query}
    if call.directives.only_if_cached:
        return {"kind": "nobody", "status": 504}
    if not call.group:
        return {"kind": "nobody", "status": 404}
    upstream = {"kind": "upstream", "upstream": call.group, "model": call.model}
    if _verdict(found) == NEAR_HIT and found.expected is not None and found.expected.prospect:
        small = found.expected.prospect.pairing.small
        return {"kind": "small_model", "model": small, "otherwise": upstream}
    expired = lookup.expired
    if expired is not None:
        policy = call.policy_over(expired.held)
        if policy is not None and policy.helps_in_need(found.now - expired.held.created_at):
            return {**upstream, "stands_in": expired.held.id}
    return upstream


def _category(found: Explained) -> dict[str, Any]:
    call = found.call
    prototypes = call.rules.prototypes
    return {
        "name": call.category if call.placed or call.chosen else None,
        "told_by": found.told.value,
        "overruled": call.chosen if call.placed and call.chosen != call.category else "",
        "threshold": None if prototypes is None or not found.near else prototypes.threshold,
        "nearest": [near._asdict() for near in found.near[:3]],
    }


def _policy(found: Explained) -> dict[str, Any]:
    policy, base = found.call.policy, found.base
    return {
        "mode": policy.mode.value,
        "scope": policy.scope.value,
        "hit_threshold": policy.hit_threshold,
        "configured_threshold": base.hit_threshold,
        "asked_threshold": found.call.asked_threshold if found.call.asked_threshold >= 0 else None,
        "near_threshold": policy.near_threshold,
        "context_threshold": policy.context_threshold,
        "ttl_seconds": policy.ttl.total_seconds(),
        "configured_ttl_seconds": base.ttl.total_seconds(),
        "error_budget": policy.error_budget,
        "decision_point": found.point,
        "max_temperature": policy.max_temperature,
        "max_turns": policy.max_turns,
    }


def _exact(found: Explained) -> dict[str, Any] | None:
    held = found.exact
    if held is None:
        return None
    policy = found.call.policy_over(held)
    outcome = exact_outcome(found.call, held, policy, found.now)
    if found.quarantined:
        outcome = Outcome.MISS
    return {
        **_held(found, held),
        "outcome": outcome.value,
        "quarantined": found.quarantined,
    }


def _candidates(found: Explained) -> list[dict[str, Any]]:
    searched = found.lookup.searched
    if searched is None:
        return []
    return [
        _candidate(found, candidate, judgement)
        for candidate, judgement in zip(searched.candidates, searched.judgements, strict=True)
    ]


def _candidate(found: Explained, candidate: Candidate, judgement: Judgement) -> dict[str, Any]:
    call, held = found.call, candidate.held
    policy = call.policy_over(held)
    age = found.now - held.created_at
    return {
        **_held(found, held),
        "similarity": round(float(candidate.similarity), 6),
        "threshold": None if policy is None else policy.hit_threshold,
        "outcome": judgement.outcome.value,
        "barrier": None if judgement.barrier is None else judgement.barrier.value,
        "why": _why(judgement, candidate, policy),
        "guards": list(vetoes(call.question.text, held.query)),
        "risk": judgement.risk,
        "decision_point": found.point,
        "same_words_before": held.earlier == call.question.earlier,
        "expired": policy is not None and policy.expired(age),
        "approved": held.approved or held.tenant == call.caller.tenant,
    }


def _why(judgement: Judgement, candidate: Candidate, policy: Policy | None) -> str:
    barrier = judgement.barrier
    if barrier is None:
        return "it answers" if judgement.outcome is Outcome.HIT else ""
    said = BARRIERS[barrier]
    if barrier is Barrier.THRESHOLD and policy is not None:
        return f"{said}: {float(candidate.similarity):.3f} against {policy.hit_threshold:.3f}"
    if barrier is Barrier.GUARD:
        return f"the guard of {judgement.veto} forbids it: the two texts differ in that"
    if barrier is Barrier.SCORE and judgement.risk is not None:
        return f"{said}: P(wrong) is {judgement.risk:.3f}"
    if barrier is Barrier.SCORE:
        return "nobody can say how likely it is to be wrong: no score fits the encoder"
    return said


def _held(found: Explained, held: Held) -> dict[str, Any]:
    return {
        "id": held.id,
        "query": held.query,
        "category": held.category,
        "model": held.model,
        "tenant": held.tenant,
        "age_seconds": max(0.0, (found.now - held.created_at).total_seconds()),
    }


def _near_hit(expected: Expected | None) -> dict[str, Any] | None:
    if expected is None:
        return None
    favour, prospect = expected.favour, expected.prospect
    if favour is None or prospect is None:
        return {"possible": False, "reason": expected.reason, "why": NO_NEAR_HIT[expected.reason]}
    return {
        "possible": True,
        "small": prospect.pairing.small,
        "favourite": favour.favourite.value,
        "chances": {arm.value: round(chance, 4) for arm, chance in favour.chances.items()},
        "scores": {arm.value: round(score, 4) for arm, score in favour.scores.items()},
        "floor": prospect.situation.floor,
        "load": round(prospect.situation.load, 4),
        "cascade": prospect.pairing.cascade,
        "examples": [
            {"id": each.id, "question": each.question, "utility": round(utility, 4)}
            for each, utility in zip(
                prospect.selection.examples, prospect.selection.utilities, strict=True
            )
        ],
    }


def _sentences(found: Explained, data: dict[str, Any]) -> list[str]:
    said = [_said_of_category(found)]
    if found.call.placed:
        said.append(_said_of_policy(found))
    if data["bypass"] is not None:
        said.append(f"The cache is passed by: {BYPASSES[data['bypass']]}.")
    said += _said_of_exact(found)
    said += _said_of_search(found, data)
    if found.expected is not None:
        said.append(_said_of_near_hit(found.expected))
    return [*said, _said_of_answer(data["answered_by"], data["stored"])]


def _said_of_category(found: Explained) -> str:
    call = found.call
    if not call.placed and not call.chosen:
        return "The category cannot be told."
    name = call.category
    if call.placed and call.chosen and call.chosen != name:
        return (
            f"The category is {name}: {call.chosen} was asked for, but the question means what"
            f" {name} is for, whose mode is off, and nobody gets around that."
        )
    match found.told:
        case Told.FIRST_RULE:
            return f"The category is {name}: a rule of it matches that nobody gets around."
        case Told.HEADER:
            return f"The category is {name}: the header X-Nearhit-Category names it."
        case Told.RULE:
            return f"The category is {name}: the first rule that matches is one of its own."
        case Told.NOTHING:
            return f"The category is {name}: no rule matches, and nothing else tells."
    return f"The category is {name}: {_said_of_nearest(found, name)}."


def _said_of_nearest(found: Explained, name: str) -> str:
    prototypes = found.call.rules.prototypes
    if prototypes is None or not found.near:
        return "as it was when this very request was answered"
    best = found.near[0]
    nearest = f"nearest is “{best.example}” with a cosine of {best.similarity:.3f}"
    least = f"{best.score:.2f}, and {prototypes.threshold:.2f} is asked for"
    if name == DEFAULT_CATEGORY and best.category != name:
        return f"no category's examples are near enough; {best.category} comes to {least}"
    runner_up = ""
    if len(found.near) > 1:
        second = found.near[1]
        runner_up = f"; next is {second.category} with {second.score:.2f}"
    return f"its examples come to {least}; {nearest}{runner_up}"


def _said_of_policy(found: Explained) -> str:
    policy, base = found.call.policy, found.base
    if policy.mode is Mode.OFF:
        return "Its mode is off: nothing is looked up or stored."
    said = f"Answers live {duration_text(policy.ttl)}"
    if policy.mode is Mode.EXACT:
        return f"{said}, and only the very same request is answered from the cache (mode exact)."
    bent = ""
    if policy.hit_threshold != base.hit_threshold:
        bent = f" (load has bent it from {base.hit_threshold:.3f})"
    asked = found.call.asked_threshold
    own = f", {asked:.3f} as the request asks" if asked > policy.hit_threshold else ""
    said += f", and a hit by meaning takes a cosine of {policy.hit_threshold:.3f}{bent}{own}"
    if policy.error_budget is None:
        return f"{said}."
    if not found.point:
        return f"{said}; its error budget of {policy.error_budget:.1%} lets none pass now."
    return (
        f"{said} and, for an error budget of {policy.error_budget:.1%}, a P(wrong) of"
        f" {found.point:.3f} at the most."
    )


def _said_of_exact(found: Explained) -> list[str]:
    call, held = found.call, found.exact
    if not call.placed or call.policy.mode is Mode.OFF:
        return []
    if call.directives.no_cache:
        return ["The request asks for a fresh answer (no-cache), so what is stored is not served."]
    if held is None:
        return ["This very request has no stored answer."]
    if found.quarantined:
        return ["This very request has a stored answer, but it is quarantined."]
    match exact_outcome(call, held, call.policy_over(held), found.now):
        case Outcome.STALE:
            return ["This very request has a stored answer, but it has expired."]
        case Outcome.REQUEST:
            return ["This very request has a stored answer, older than its max-age allows."]
        case Outcome.HIT:
            return ["This very request has a stored answer."]
    return ["This very request has a stored answer of a category that may not serve it."]


def _said_of_search(found: Explained, data: dict[str, Any]) -> list[str]:
    lookup, rows = found.lookup, data["candidates"]
    if lookup.encode_later:
        return ["It is not looked up by meaning: that costs more here than it saves at present."]
    if lookup.searched is None:
        return []
    if not rows:
        return ["No stored question may be compared with it: same tenant, model and instructions."]
    served = next((row for row in rows if row["barrier"] is None), None)
    if served is not None and lookup.outcome is Outcome.HIT:
        risk = "" if served["risk"] is None else f" and P(wrong) is {served['risk']:.3f}"
        cosine = f"{served['similarity']:.3f}"
        return [f"By meaning “{served['query']}” is found: its cosine is {cosine}{risk}."]
    best = rows[0]
    return [
        f"The nearest of {len(rows)} stored questions is “{best['query']}”, with a cosine of"
        f" {best['similarity']:.3f}: {best['why']}."
    ]


def _said_of_near_hit(expected: Expected) -> str:
    favour, prospect = expected.favour, expected.prospect
    if favour is None or prospect is None:
        return f"No small model may answer: {NO_NEAR_HIT[expected.reason]}."
    small, count = prospect.pairing.small, len(prospect.selection.examples)
    if favour.favourite is Arm.REQUESTED:
        chance = 1.0 - favour.chances.get(Arm.REQUESTED, 1.0)
        return (
            f"{small} might answer with {count} examples, but is not trusted with it: it gets"
            f" {chance:.0%} of such requests."
        )
    chance = favour.chances.get(favour.favourite, 0.0)
    shown = f"shown {count} examples" if favour.favourite is Arm.EXAMPLES else "without examples"
    does = f"answers {chance:.0%} of such requests"
    if prospect.pairing.cascade:
        does = f"is asked in {chance:.0%} of such requests, and answers where it is sure"
    return f"{small}, {shown}, is the router's favourite: it {does}."


def _said_of_answer(answered_by: dict[str, Any], stored: bool) -> str:
    match answered_by["kind"]:
        case "entry":
            return f"The stored answer of {answered_by['model']} is served."
        case "small_model":
            return f"{answered_by['model']} answers; what it says is never stored."
        case "nobody" if answered_by["status"] == 504:
            return "Nobody is asked (only-if-cached): the request is refused with 504."
        case "nobody":
            return "No upstream serves this model: the request is refused with 404."
    said = f"{answered_by['model']} is asked, at the upstream {answered_by['upstream']}"
    if "stands_in" in answered_by:
        said += "; should it fail, the expired answer stands in"
    return f"{said}. Its answer is offered to the cache." if stored else f"{said}."
