"""What `bench.decisions` measured, as Markdown; and where it stands in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.counted import ALL_ROWS, UNREAD

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench.decisions -->", "<!-- end of bench.decisions -->"
TOLERATED = 0.01  # realised error

Row = dict[str, Any]


def best_tolerated(rows: Sequence[Row], error: float) -> Row | None:
    """Return the fixed cosine with the most hits among those whose realised error is no larger."""
    kept = [row for row in rows if row["way"].startswith("cosine")]
    kept = [row for row in kept if row["realised_error"] <= error and row["semantic_hits"]]
    return max(kept, key=lambda row: float(row["hit_rate"]), default=None)


def pairs_table(rows: Sequence[Row]) -> str:
    """Return the pairs' rows as Markdown, file by file."""
    lines = [
        "| file | way | n | hits (wrong) | precision | recall | F0.5 | false-hit rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["file"] for row in rows):
        for row in (row for row in rows if row["file"] == name):
            lines.append(
                f"| {name} | {row['way']} | {row['n']} | {row['hits']} ({row['wrong_hits']})"
                f" | {row['precision']:.3f} | {row['recall']:.3f} | {row['f05']:.3f}"
                f" | {row['false_hit_rate']:.3f} |"
            )
    return "\n".join(lines)


def stream_table(rows: Sequence[Row]) -> str:
    """Return streams' rows as Markdown."""
    lines = [
        "| seed | way | semantic hits (false) | realised error | hit rate"
        " | repeats served (wrongly) | cost saved |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['seed']} | {row['way']} | {row['semantic_hits']} ({row['false_hits']})"
            f" | {row['realised_error']:.4f} | {row['hit_rate']:.4f}"
            f" | {row['repeat_hits']} ({row['repeat_false_hits']})"
            f" | {row['cost_saved'] / row['cost']:.3f} |"
        )
    return "\n".join(lines)


def budget_table(rows: Sequence[Row]) -> str:
    """Return what the streams with an error budget came to, beside the best fixed cosine."""
    lines = [
        "| seed | semantic hits (false) | realised error | hit rate"
        " | best cosine with no larger an error (or 1 %): hit rate | audits (wrong) | controls"
        " | points at the end |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (row for row in rows if "states" in row):
        own = [other for other in rows if other["seed"] == row["seed"]]
        best = best_tolerated(own, max(TOLERATED, row["realised_error"]))
        rival = "none" if best is None else f"{best['way']}: {best['hit_rate']:.4f}"
        states = row["states"]
        wrong = sum(each["wrong"] for each in states.values())
        points = ", ".join(
            f"{name} {each['point']:.3g} {each['state']}" for name, each in states.items()
        )
        lines.append(
            f"| {row['seed']} | {row['semantic_hits']} ({row['false_hits']})"
            f" | {row['realised_error']:.4f} | {row['hit_rate']:.4f} | {rival}"
            f" | {row['audits']} ({wrong}) | {row['controls']} | {points} |"
        )
    return "\n".join(lines)


def section(record: Row) -> str:
    """Return what docs/benchmarks.md says of a run."""
    machine = record["machine"]
    parts = [
        f"{machine['date']}, {machine['cores']} cores of {machine['processor']},"
        f" Python {machine['python']}, commit {machine['commit']}.",
    ]
    for view in (ALL_ROWS, UNREAD):
        shown = [row for row in record["pairs"] if row["rows"] == view]
        if shown:
            parts += [f"Pairs, {view}:", pairs_table(shown)]
    if record["streams"]:
        parts += ["Streams, a budget of 1 % in every category:", budget_table(record["streams"])]
        first = record["streams"][0]["seed"]
        shown = [row for row in record["streams"] if row["seed"] == first]
        parts += ["The first of these streams, all ways:", stream_table(shown)]
    return "\n\n".join(parts)


def put(text: str, document: Path = DOCUMENT) -> None:
    """Write the text between the marks of a document; raise ValueError if it has none."""
    said = document.read_text(encoding="utf-8")
    before, begin, rest = said.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document.name}: the marks {BEGIN} and {END} are missing")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
