"""What leaves a text before it is shown beside another user's question, and what stays."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from icl.scrub import placeholders, scrub
from icl.suspicion import suspicious

FOUND = [
    ("write to jane.doe+x@mail.example.co.uk today", "write to <EMAIL> today"),
    ("jane (at) example [dot] com", "<EMAIL>"),
    ("müller@bücher.de", "<EMAIL>"),
    ("call +49 170 1234567 now", "call <PHONE> now"),
    ("+1 (415) 555-2671", "<PHONE>"),
    ("0044 20 7946 0958", "<PHONE>"),
    ("(415) 555-2671 or 415-555-2672", "<PHONE> or <PHONE>"),
    ("415.555.2671", "<PHONE>"),
    ("(123) 456-7891", "<PHONE>"),
    ("020 7946 0958", "<PHONE>"),
    ("07911 123456", "<PHONE>"),
    ("my mobile is 98765 43210", "my mobile is <PHONE>"),
    ("Phone: 5552671", "Phone: <PHONE>"),
    ("card 4111 1111 1111 1111, exp 12/27", "card <CARD>, exp 12/27"),
    ("4111111111111111", "<CARD>"),
    ("4111.1111.1111.1111", "<CARD>"),
    ("4111\u00a01111\u00a01111\u00a01111", "<CARD>"),
    ("\uff14111\u20111111\u20111111\u20111111", "<CARD>"),
    ("\u0664\u0661\u0661\u0661 1111 1111 1111", "<CARD>"),
    ("+49\u202f170\u202f1234567", "<PHONE>"),
    ("415\u2011555\u20112671", "<PHONE>"),
    ("Telefon: 030\u00a07946\u00a00958", "Telefon: <PHONE>"),
    ("ssn 123\u201345\u20136789", "ssn <SSN>"),
    ("de89370400440532013000", "<IBAN>"),
    ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "<IBAN>"),
    ("ada\uff20example.org", "<EMAIL>"),
    ("ada@exam\u200bple.org", "<EMAIL>"),
    ("?to=ada%40example.org", "?to=<EMAIL>"),
    ("Passwort: geheim123", "Passwort: <SECRET>"),
    ("mot de passe : s3same", "mot de passe : <SECRET>"),
    ("3782-822463-10005", "<CARD>"),
    ("to DE89 3704 0044 0532 0130 00 please", "to <IBAN> please"),
    ("GB82WEST12345698765432", "<IBAN>"),
    ("NL91 ABNA 0417 1643 00 ASAP", "<IBAN> ASAP"),
    ("SSN 123-45-6789", "SSN <SSN>"),
    ("my social security number is 123 45 6789", "my social security number is <SSN>"),
    ("from 203.0.113.7 and 192.168.1.17", "from <IP> and <IP>"),
    ("2001:db8:85a3::8a2e:370:7334 fe80::1", "<IP> <IP>"),
    ("00:1B:44:11:3A:B7 or 00-1b-44-11-3a-b7", "<MAC> or <MAC>"),
    ("https://jane:hunter2@db.example.com/x", "https://<SECRET>@db.example.com/x"),
    ("postgres://u:p@host/db", "postgres://<SECRET>@host/db"),
    ("https://x.example/a?id=3&token=abcdef&n=1", "https://x.example/a?id=3&token=<SECRET>&n=1"),
    ("sk-abcdefghijklmnopqrstuvwx", "<SECRET>"),
    ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "<SECRET>"),
    ("AKIAIOSFODNN7EXAMPLE", "<SECRET>"),
    ("Authorization: Bearer abc123def456ghi789", "Authorization: Bearer <SECRET>"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "<SECRET>"),
    ("5f4dcc3b5aa765d61d8327deb882cf99", "<SECRET>"),
    ("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83v7w==", "<SECRET>"),
    ("my password is hunter2!", "my password is <SECRET>"),
    ("API_KEY=abc123def", "API_KEY=<SECRET>"),
    ('"client_secret": "a1b2c3d4"', '"client_secret": "<SECRET>"'),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----", "<SECRET>"),
    ("Hello, my name is Jane Doe and I need help", "Hello, my name is <NAME> and I need help"),
    ("my name is jane", "my name is <NAME>"),
    ("I am Zoë O'Neill from Cork", "I am <NAME> from Cork"),
    ("I'm Ravi. Can you help?", "I'm <NAME>. Can you help?"),
    ("This is Jane Doe", "This is <NAME>"),
    ("Ask Dr. Strangelove or Mrs Smith-Jones", "Ask Dr. <NAME> or Mrs <NAME>"),
    ("Ich heiße Jürgen Müller", "Ich heiße <NAME>"),
    ("See you.\n\nBest regards,\nJane Doe\nCEO", "See you.\n\nBest regards,\n<NAME>\nCEO"),
    ("Dear Jane,\nthanks", "Dear <NAME>,\nthanks"),
    ("Patient name: John Smith", "Patient name: <NAME>"),
    ("I was born on 3 May 1984 in Bonn", "I was born on <BIRTH_DATE> in Bonn"),
    ("DOB: 1984-05-03", "DOB: <BIRTH_DATE>"),
    ("date of birth is May 3rd, 1984", "date of birth is <BIRTH_DATE>"),
    ("at 221B Baker Street, London", "at <ADDRESS>, London"),
    ("12 N. Main St Apt 4, Springfield, IL 62704", "<ADDRESS>"),
    ("Musterstraße 12a, 10115 Berlin", "<ADDRESS>"),
    ("12 rue de la Paix", "<ADDRESS>"),
    ("P.O. Box 1234", "<ADDRESS>"),
    ("I live at 12 Any Place Whatever. Thanks", "I live at <ADDRESS>. Thanks"),
    ("passport number X1234567", "passport number <ID>"),
    ("my account number is 12345678", "my account number is <ID>"),
]  # fmt: skip

STAYS = [
    'What is the past tense of the verb "go"?',
    "What is the intent of this message? Book a table for 4 at 7:30 pm on 2024-05-03",
    "How many people lived in Paris in 1984?",
    "In 1987 Wall Street crashed; why?",
    "Compute 4111111111111112 + 12345678901234567890",
    "Pi is 3.14159265358979323846264338327950288",
    "Convert 10,000,000 to binary: 100110001001011010000000",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "10\u202f000\u00a0km, pages 3\u20139, x\u00b2 \u2212 1, \u0661\u0662 and \uff21\uff01",
    "What does 127.0.0.1 mean? And 0.0.0.0 or 255.255.255.0?",
    "Version 1.2.3 of v10.20.30.40",
    "At 12:30:45 the meeting of 01/02/2024 began, 100-200 people came",
    "def login(token: str, password=None) -> bool: return check(password)",
    "token = get_token()\npassword = input('Password: ')",
    "std::vector<int> x; a::b::c(); use std::io;",
    "@dataclass class A: x: int = 0x1f  # user@host",
    "git clone git@github.com:owner/project.git",
    "for i in range(100): print(i, sep=', ')",
    "github.com/Owner/Some-Repository/blob/main/src/components/Button.tsx",
    "ThisIsAVeryLongCamelCaseIdentifierInSomeJavaCode2",
    "550e8400-e29b-41d4-a716-446655440000",
    "I am German and I am a CTO. I'm Not sure.",
    "I am looking for a book. I'm So tired.",
    "This is Python. This is Paris in spring.",
    "My name is not important; what is a name?",
    "When was Einstein born? He was born in 1879.",
    "Dear Sir or Madam, dear all",
    "body { font-family: Arial, sans-serif; }",
    "The street was full of 3 way stops",
    "SELECT * FROM users WHERE id = 12345678",
    "What is the ISBN 978-3-16-148410-0?",
    "In 2020-2021 it cost $1,234.56, 007 was 20% off",
    "The bearer of bad news; basic understanding; bearer authentication",
    "Explain the account of Tacitus, and policy 4.",
    "日本の首都は東京です。",
    "",
]


@pytest.mark.parametrize(("text", "scrubbed"), FOUND)
def test_personal_data_is_replaced(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@pytest.mark.parametrize("text", STAYS)
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert scrub(text) == text


@given(st.lists(st.sampled_from([t for t, _ in FOUND] + STAYS) | st.text(max_size=20), max_size=4))
@settings(max_examples=200)
@example(["DOB: 1984-05-03", "4111111111111111"])
def test_scrubbing_twice_changes_nothing_more(pieces: list[str]) -> None:
    for glue in (" ", "\n", ""):
        once = scrub(glue.join(pieces))
        assert scrub(once) == once


@pytest.mark.parametrize(("text", "scrubbed"), FOUND)
def test_every_placeholder_is_told_from_other_tags(text: str, scrubbed: str) -> None:
    assert placeholders(scrubbed) == set(re.findall(r"<[A-Z_]+>", scrubbed))
    assert not placeholders(text + " <b>, <T>, <EMAILS> and <email>")


@pytest.mark.parametrize(("_", "scrubbed"), FOUND)
def test_a_placeholder_is_no_reason_to_refuse_an_example(_: str, scrubbed: str) -> None:
    for placeholder in re.findall(r"<[A-Z_]+>", scrubbed):
        assert suspicious(placeholder) is None


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1 ", "a.", "a@", "Aa ", "0a", ":", "1.", "my name is ", "eyJ", "A1b/", "://a:", "-",
     "12 Main ", "GB82 WEST ", "token=", "\n", "born on ", "Best regards,\n", "phone ", "a-b ",
     "passport ", "(555) ", "<EMAIL>"],
)  # fmt: skip
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    text = (piece * 10_000)[:10_000]
    began = time.thread_time()
    scrub(text)
    assert time.thread_time() - began < 1.0
