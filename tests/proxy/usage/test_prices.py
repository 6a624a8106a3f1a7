from __future__ import annotations

import pytest

from bench.prices import price_list
from proxy.answer_text import Tokens, tokens_used
from proxy.spending import Price
from proxy.usage.prices import FILE, bundled, cost_of, prices_for

MINI = Price("gpt-4o-mini", 1.0, 2.0)


def test_an_own_price_wins_and_the_first_that_matches_counts() -> None:
    prices = prices_for("USD", [MINI, Price("gpt-*", 9.0, 9.0), Price("gpt-4o-mini", 5.0, 5.0)])
    assert prices.of("gpt-4o-mini") == MINI
    assert prices.of("gpt-99") == Price("gpt-*", 9.0, 9.0)
    assert prices.of("nobody's") is None
    assert prices.of("nobody's") is None  # remembered


def test_the_bundled_list_is_small_dated_and_knows_common_models() -> None:
    told = bundled()
    assert FILE.stat().st_size < 60 * 1024
    assert told.source.startswith("litellm ") and told.made.startswith("20")
    assert len(told.prices) > 100
    for price in told.prices.values():
        assert price.input >= 0 and price.output >= 0 and price.input + price.output > 0
    assert prices_for("usd", []).of("gpt-4o-mini") == told.prices["gpt-4o-mini"]


def test_in_another_currency_only_own_prices_count() -> None:
    assert prices_for("EUR", []).of("gpt-4o-mini") is None
    assert prices_for("EUR", [MINI]).of("gpt-4o-mini") == MINI


def test_only_names_that_are_told_word_for_word_are_labels() -> None:
    prices = prices_for("EUR", [MINI, Price("local-*", 0, 0)])
    assert prices.names("gpt-4o-mini")
    assert not prices.names("local-7") and not prices.names("local-*")


def test_prices_are_of_a_million_tokens() -> None:
    assert cost_of(MINI, Tokens(500_000, 250_000)) == 1.0


def test_more_models_than_are_remembered_have_a_price_all_the_same() -> None:
    prices = prices_for("USD", [Price("m*", 1.0, 1.0)])
    assert all(prices.of(f"m{number}") for number in range(3000))


def test_the_list_takes_chat_models_with_both_prices_under_the_names_clients_send() -> None:
    chat = {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    models = {
        "a": chat,
        "gemini/b": chat,
        "gemini/a": chat | {"input_cost_per_token": 9e-6},
        "far/away/c": chat,
        "d": chat | {"mode": "embedding"},
        "e": chat | {"output_cost_per_token": None},
        "f": chat | {"input_cost_per_token": 0, "output_cost_per_token": 0},
        "g": chat | {"litellm_provider": "bedrock"},
    }
    assert price_list(models) == {"a": [1.0, 2.0], "b": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Tokens(8, 0)),  # embeddings
        ({"prompt_tokens": 8, "total_tokens": 9}, None),
        ({"prompt_tokens": 8}, None),
    ],
)
def test_of_embeddings_nothing_comes_out(usage: dict[str, int], used: Tokens | None) -> None:
    assert tokens_used({"usage": usage}) == used
