"""What was measured is kept, and measured again only under other arguments."""

from __future__ import annotations

from pathlib import Path

from bench.nearhits.record import Record, Result
from bench.report import Machine

MACHINE = Machine("chip", 2, 4.0, "os", "3.11", {}, "abc", "2026-01-01 00:00 UTC")


class Measurement:
    """Counts how often it is made."""

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self) -> Result:
        self.made += 1
        return {"value": self.made, "pair": (1, 2)}


async def test_a_section_is_measured_once(tmp_path: Path) -> None:
    measurement = Measurement()
    first = await Record(tmp_path / "r.json", MACHINE).measured("a", {"seed": 1}, measurement)
    again = await Record(tmp_path / "r.json", MACHINE).measured("a", {"seed": 1}, measurement)
    assert first == again == {"value": 1, "pair": [1, 2]}
    assert measurement.made == 1


async def test_other_arguments_are_measured_anew_and_the_other_sections_stay(
    tmp_path: Path,
) -> None:
    measurement = Measurement()
    record = Record(tmp_path / "r.json", MACHINE)
    await record.measured("a", {"seed": 1}, measurement)
    await record.measured("b", {"seed": 1}, measurement)
    assert (await record.measured("a", {"seed": 2}, measurement))["value"] == 3
    assert (await record.measured("b", {"seed": 1}, measurement))["value"] == 2


async def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    measurement = Measurement()
    await Record(tmp_path / "r.json", MACHINE).measured("a", {}, measurement)
    assert measurement.made == 1
