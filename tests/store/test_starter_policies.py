"""The policies that rule where nobody wrote any: complete, careful, and what the docs say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from store.eviction import Quota
from store.match import Traits
from store.policy import Mode, Offload, Scope
from store.policy_file import STARTER_FILE, book_as_data, load_policies, parse_policies

BOOK = load_policies(None)
STRICT = ("legal", "medical", "personal")
BENDING = ("code", "howto", "factual", "conversation")


def rules_match(category: str, text: str) -> bool:
    traits = Traits(
        model="m", tenant="t", path="/v1/chat/completions", headers={}, text=text.encode()
    )
    return any(rule.matches(traits) for rule in BOOK[category].match)


def test_it_holds_the_categories_that_a_fleet_needs() -> None:
    assert BOOK.names == [
        "code", "howto", "factual", "math", "conversation", "live", "legal", "medical",
        "personal", "default",
    ]  # fmt: skip


def test_what_is_printed_from_it_reads_back_the_same() -> None:
    assert parse_policies(book_as_data(BOOK), "printed") == BOOK


@pytest.mark.parametrize("name", BOOK.names)
def test_every_category_has_a_description_and_enough_examples(name: str) -> None:
    assert BOOK[name].description
    assert 8 <= len(BOOK[name].examples) <= 20


def test_no_example_stands_twice() -> None:
    texts = [text.casefold() for name in BOOK.names for text in BOOK[name].examples]
    assert len(texts) == len(set(texts))


def test_examples_are_queries_of_an_ordinary_length() -> None:
    for name in BOOK.names:
        for text in BOOK[name].examples:
            assert 10 <= len(text) <= 90, text


def test_the_default_category_has_the_default_of_every_field_but_its_texts_and_budget() -> None:
    default = BOOK["default"]
    said = {"name": "default", "error_budget": default.error_budget}
    plain = parse_policies({"categories": [said]}, "policies.yaml")["default"]
    assert default == replace(plain, description=default.description, examples=default.examples)


def test_whoever_answers_by_meaning_has_an_error_budget() -> None:
    for name in BOOK.names:
        assert (BOOK[name].error_budget is not None) is (BOOK[name].mode is Mode.SEMANTIC)


@pytest.mark.parametrize("name", BOOK.names)
def test_thresholds_stand_in_order(name: str) -> None:
    policy = BOOK[name]
    assert 0.5 <= policy.near_threshold < policy.hit_threshold < 1
    assert policy.context_threshold >= 0.80
    if policy.load is not None:
        assert policy.near_threshold < policy.load.threshold_floor <= policy.hit_threshold
        assert policy.load.ttl_ceiling == 2 * policy.ttl


def test_personal_is_neither_looked_up_nor_stored_and_nobody_gets_around_it() -> None:
    personal = BOOK["personal"]
    assert personal.mode is Mode.OFF
    assert personal.quota == Quota(0, 0)
    assert BOOK.ruled_first == (personal,)


def test_sums_have_a_budget_of_their_own() -> None:
    math = BOOK["math"]
    assert math.error_budget is not None and math.error_budget <= 0.05
    assert math.hit_threshold > BOOK["default"].hit_threshold


def test_only_what_may_bend_bends_under_load() -> None:
    assert {name for name in BOOK.names if BOOK[name].load is not None} == set(BENDING)


def test_what_must_not_be_guessed_has_the_highest_thresholds_and_no_stand_ins() -> None:
    looser = [BOOK[n] for n in BOOK.names if n not in (*STRICT, "math")]
    for name in STRICT:
        policy = BOOK[name]
        assert policy.hit_threshold >= max(other.hit_threshold for other in looser) + 0.05
        assert policy.context_threshold >= policy.hit_threshold
        budgets = [other.error_budget for other in looser if other.error_budget is not None]
        assert policy.error_budget is None or policy.error_budget <= min(budgets) / 2
        assert policy.stale_if_error == timedelta()
        assert policy.offload is Offload.OFF


def test_live_answers_live_for_minutes_and_never_longer() -> None:
    live = BOOK["live"]
    assert live.ttl <= timedelta(minutes=5)
    assert (live.stale_if_error, live.load, live.offload) == (timedelta(), None, Offload.OFF)


def test_lifetimes_are_ordered_by_how_fast_answers_age() -> None:
    order = ["live", "conversation", "factual", "howto", "code"]
    ages = [BOOK[name].ttl for name in order]
    assert ages == sorted(ages)
    assert len(set(ages)) == len(ages)


def test_nothing_is_shared_between_tenants() -> None:
    for name in BOOK.names:
        assert BOOK[name].scope is Scope.TENANT


def test_the_room_is_shared_out_as_the_file_says() -> None:
    shares = {
        "code": 35, "howto": 25, "factual": 20, "conversation": 10, "legal": 5, "medical": 3,
        "live": 2,
    }  # fmt: skip
    total = sum(BOOK[name].quota.entries for name in shares)
    assert total == 30_000
    assert {name: 100 * BOOK[name].quota.entries // total for name in shares} == shares


@pytest.mark.parametrize(
    "text",
    [
        "Write to me at jane.doe+work@mail.example.co.uk, please",
        "is bob@example.com still valid?",
        "My mail is carol@example.org.",
        "Transfer it to DE89 3704 0044 0532 0130 00 today",
        "IBAN: GB29NWBK60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NO93 8601 1117 947",
        "charge 4111 1111 1111 1111 for the shoes",
        "card 5500-0055-5555-5559 was refused",
        "amex 378282246310005",
        "my SSN 078-05-1120 was leaked",
        "use sk-proj-a1B2c3D4e5F6g7H8i9J0k1L2 as the key",
        "why does sk-abcdef0123456789abcdef0123456789 not work",
        "export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
        "git remote set-url origin https://ghp_16C7e42F292c6912E7710c838347Ae178B4a@host/x",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow",
        "-----BEGIN PRIVATE KEY-----",
        "Hi, my password is hunter2, can you log in?",
        "my old wifi password: Tr0ub4dor&3",
        "My PIN is 4711.",
        "my patient number is A-20391",
        "my order number: 100-3342",
        "My date of birth is 3 May 1990",
        "My address is 12 Hill Road, where do I vote?",
        "my home phone number is +44 20 7946 0018",
    ],
)
def test_secrets_and_numbers_of_a_person_are_personal(text: str) -> None:
    assert rules_match("personal", text)


@pytest.mark.parametrize(
    "text",
    [
        "How do I reset my password?",
        "My password is not accepted, what now?",
        "Is my password safe if it is long?",
        "What is my pin for?",
        "git clone git@github.com:someone/project.git",
        "How do I install @types/node?",
        "What does the decorator @app.get do?",
        "What is 4111 times 1111?",
        "Factor 123456789012 into primes.",
        "Is 2024-01-02 a valid ISO date?",
        "Who published ISBN 978-3-16-148410-0?",
        "What is the UUID 123e4567-e89b-42d3-a456-426614174000 good for?",
        "Which commit is 3f786850e387550fdab836ed7e6dc881de23001b?",
        "pip install sk-learn-contrib-imbalanced-learning",
        "Call 555-123-4567 for help",
        "What is an address bus?",
        "When did the IBAN replace account numbers?",
        "How long is a card number?",
        "-----BEGIN CERTIFICATE-----",
        "How do I write a unit test for my order number parser?",
        "version 4.18.0.1234 of my driver",
    ],
)
def test_questions_about_such_things_are_not(text: str) -> None:
    assert not rules_match("personal", text)


@pytest.mark.parametrize(
    "text",
    [
        "What's the weather today?",
        "today's headlines please",
        "Who is the president right now",
        "latest exchange rates",
        "is the pharmacy open now",
        "How much are 50 dollars in euros?",
        "convert 20 GBP to USD",
        "What time is it in Lima?",
        "what is the time in New York?",
        "What's the date today?",
    ],
)
def test_words_that_ask_for_this_minute_are_live(text: str) -> None:
    assert rules_match("live", text)


@pytest.mark.parametrize(
    "text",
    [
        "What is the time complexity of quicksort?",
        "Who wrote Today and Tomorrow?",
        "How does a weather station work?",
        "What was the result of the battle?",
        "Convert 5 miles to kilometers.",
        "How many pounds are in a stone?",
        "How do I print the date in Python?",
        "Explain how share prices are made.",
    ],
)
def test_questions_that_keep_are_not_live(text: str) -> None:
    assert not rules_match("live", text)


@pytest.mark.parametrize("name", BOOK.names)
def test_no_example_is_caught_by_another_category_s_rules(name: str) -> None:
    for text in BOOK[name].examples:
        for other in BOOK.names:
            if other != name:
                assert not rules_match(other, text), (text, other)


def test_the_file_says_where_its_numbers_come_from() -> None:
    text = STARTER_FILE.read_text()
    assert "bench.train.score" in text
    assert "docs/LOG.md" in text
