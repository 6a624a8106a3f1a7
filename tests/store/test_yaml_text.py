"""YAML is read, or refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.yaml_text import read_yaml


def test_a_document_is_read() -> None:
    assert read_yaml("{a: [1, b], c: on}") == {"a": [1, "b"], "c": True}
    assert read_yaml("") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a: [", "is not YAML: while parsing", id="cut off"),
        pytest.param("a: 2026-13-45", "is not YAML: month must be", id="a month on no calendar"),
        pytest.param("a: 2026-02-30", "is not YAML: day", id="a day on no calendar"),
        pytest.param("a: " + "9" * 5000, "is not YAML: Exceeds the limit", id="a very long number"),
        pytest.param("a: " + "[" * 5000, "nested too deeply", id="open lists"),
        pytest.param("a: !!int ''", "is not YAML: ", id="an empty number"),
        pytest.param("a: !!timestamp noon", "is not YAML: ", id="no time"),
        pytest.param("a: !!python/object:os.system {}", "is not YAML: ", id="code"),
        pytest.param("a: 1\nb: 2\na: 3", "'a' is said in line 1 and again in line 3", id="twice"),
        pytest.param("x:\n- {off: 1, 'a': 2, a: 3}", "'a' is said in line 2", id="twice, deep"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        read_yaml(text)
    assert "\n" not in str(refused.value)


def test_what_is_merged_may_be_said_again() -> None:
    text = "base: &base {ttl: 1h, mode: exact}\nmore: &more {<<: *base, ttl: 2h}\nlast: {<<: *more}"
    assert read_yaml(text) == {
        "base": {"ttl": "1h", "mode": "exact"},
        "more": {"ttl": "2h", "mode": "exact"},
        "last": {"ttl": "2h", "mode": "exact"},
    }


@given(st.text("ab12-:.,[]{}!?&*|> \n\"'", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_yaml(text)
    except ValueError as refused:
        assert str(refused).startswith("is not YAML")
