"""The table of the first section."""

from __future__ import annotations

from bench.nearhits.examples_help import ALL, GROUPS, REPLAY, facts, table, values
from bench.nearhits.models import SMALL_MODELS, Reply
from bench.nearhits.record import Result
from bench.nearhits.tasks import Item

PAST = Item("present-past", "Past of paint?", "painted")
INTENT = Item("snips7", "Intent of a waltz?", "play music")


def reply(text: str, status: str = "") -> Reply:
    return Reply(text=text, cache_status=status, model="m", seconds=0.5, prompt_tokens=20)


def answers(past: str, intent: str, status: str = "") -> Result:
    return {"answers": facts([PAST, INTENT], [reply(past, status), reply(intent, status)])}


def test_no_text_of_the_data_is_kept() -> None:
    assert facts([PAST], [reply("It is painted", "nearhit; fwd=miss; detail=near-hit")]) == [
        {
            "task": "present-past",
            "exact": False,
            "lenient": True,
            "near_hit": True,
            "seconds": 0.5,
            "prompt_tokens": 20,
        }
    ]


def test_values_are_of_a_group_of_tasks() -> None:
    result = answers("painted", "weather")
    assert values(result, ALL) == [1.0, 0.0]
    assert values(result, "intents") == [0.0]
    assert values(result, "trap") == []


def test_the_table_has_a_row_a_model_and_group_and_the_paired_gains() -> None:
    results = {REPLAY: answers("lifted", "play music")}
    for small in SMALL_MODELS:
        results[f"{small}/zero"] = answers("It is painted", "what")
        results[f"{small}/random"] = answers("paints", "what")
        results[f"{small}/selected"] = answers("painted", "play music", "x; detail=near-hit")
    rows = table(results, 0).splitlines()[2:]
    assert len(rows) == len(SMALL_MODELS) * len(GROUPS)
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[:3] == ["smollm2-135m", ALL, "2"]
    assert cells[3].startswith("50 ")  # replay
    assert cells[4].startswith("0 ")  # zero
    assert cells[5].startswith("50 ")  # zero, lenient
    assert cells[7] == "-"  # an arm that was not run
    assert cells[8:10] == ["100 [100, 100]", "100 [100, 100]"]
    assert cells[11] == "2"


def test_what_the_large_model_answered_does_not_count_for_the_small_one() -> None:
    results = {REPLAY: answers("lifted", "play music")}
    for small in SMALL_MODELS:
        results[f"{small}/random"] = answers("painted", "what")
        results[f"{small}/selected"] = answers("painted", "play music")
        results[f"{small}/selected"]["answers"][0]["near_hit"] = True
    cells = [cell.strip() for cell in table(results, 0).splitlines()[2].strip("|").split("|")]
    assert cells[8:10] == ["100 [100, 100]", "0 [0, 0]"]
    assert cells[11] == "1"
    nothing = {**results, **{f"{s}/selected": answers("painted", "a") for s in SMALL_MODELS}}
    assert "| - | - |" in table(nothing, 0).splitlines()[2]
