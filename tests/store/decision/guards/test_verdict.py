"""Guards veto what is nearly certainly another question, and let a rephrasing pass."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.decision.guards import marks_of, signals, veto, vetoes

OTHER_QUESTIONS = [
    ("How long may I return order 5123?", "How long may I return order 5124?", "numbers"),
    ("Convert 12 from base 5 to base 7", "Convert 12 from base 7 to base 5", "numbers"),
    ("Tom buys 3 pens and 4 books", "Tom buys 3 pens and 4.5 books", "numbers"),
    ("If Ann has 3 and Bob has 5, who wins?", "If Ann has 5 and Bob has 3, who wins?", "numbers"),
    ("Is -5 colder than the sea?", "Is 5 colder than the sea?", "numbers"),
    ("What changed in v2.1?", "What changed in v2.10?", "numbers"),
    ("What changed in Python 3.1?", "What changed in Python 3.10?", "numbers"),
    ("How do I upgrade from 13.04 to 13.10?", "How do I upgrade from 13.10 to 13.04?", "numbers"),
    ("Explain the second law of motion", "Explain the third law of motion", "numbers"),
    ("Who was the club's first president?", "Who was the club's second president?", "numbers"),
    ("Take two pills a day", "Take three pills a day", "numbers"),
    ("A fee of 5% applies", "A fee of $5 applies", "numbers"),
    ("A fee of 5% applies", "A fee of 5 applies", "numbers"),
    ("Who won the race?", "Who won the race in 1996?", "numbers"),
    ("Kann ich zwei Tabletten nehmen?", "Kann ich drei Tabletten nehmen?", "numbers"),
    ("convert 2 km to m", "convert 2000 m to km", "numbers"),
    ("how many feet is 2 km", "how many metres is 2 km", "numbers"),
    ("Is this mushroom safe to eat?", "Is this mushroom not safe to eat?", "negation"),
    ("Why does my pipe leak?", "Why doesn't my pipe leak?", "negation"),
    ("Can you eat with it?", "Can you eat without it?", "negation"),
    ("Ist das erlaubt?", "Ist das nicht erlaubt?", "negation"),
    ("Ist Parken erlaubt?", "Ist kein Parken erlaubt?", "negation"),
    ("¿Puedo comer esto?", "¿No puedo comer esto?", "negation"),
    ("¿Puedo cocinar arroz sin sal?", "¿Puedo cocinar arroz con sal?", "negation"),
    ("Est-ce que je peux manger ça ?", "Est-ce que je ne peux pas manger ça ?", "negation"),
    ("How do I enable two-factor login?", "How do I disable two-factor login?", "polarity"),
    ("How do I turn on the alarm?", "How do I turn off the alarm?", "polarity"),
    ("Sort the list ascending", "Sort the list descending", "polarity"),
    ("May I eat before the blood test?", "May I eat after the blood test?", "polarity"),
    ("Which city has more rain?", "Which city has less rain?", "polarity"),
    ("Show me the cheapest phone", "Show me the most expensive phone", "polarity"),
    ("open the window", "close the window", "polarity"),
    ("How do I write to a socket?", "How do I read from a socket?", "polarity"),
    ("The number above 5", "The number below 5", "polarity"),
    ("Is it safe?", "Is it unsafe?", "polarity"),
    ("Do you ship bicycles to Canada?", "Do you ship bicycles from Canada?", "polarity"),
    ("How do I replace the front wheel?", "How do I replace the rear wheel?", "polarity"),
    ("Is the process reversible?", "Is the process irreversible?", "polarity"),
    ("Trinke ich das vor dem Essen?", "Trinke ich das nach dem Essen?", "polarity"),
    ("Wie schalte ich das Radio ein?", "Wie schalte ich das Radio aus?", "polarity"),
    ("Comment activer le son ?", "Comment désactiver le son ?", "polarity"),
    ("Find a flight to Rome in spring", "Find a flight to Milan in spring", "names"),
    ("Find a flight to Rome in spring", "find a flight to milan in spring", "names"),
    ("Find Cheap Flights To Rome", "Find Cheap Flights To Bari", "names"),
    ("Zork freezes on boot", "Blorp freezes on boot", "names"),
    ("tell me about Ann", "tell me about the annual report", "names"),
    ("write hello world in python", "write hello world in rust", "names"),
    ("Was ist in Wien zu sehen und wo?", "Was ist in Graz zu sehen und wo?", "names"),
    ("translate it to french", "translate it to german", "names"),
    ("how do i learn c++", "how do i learn c", "names"),
    ("how many days until christmas?", "how many weeks until christmas?", "names"),
    ("When was the contract signed?", "Where was the contract signed?", "question"),
    ("How many people live there?", "How long do people live there?", "question"),
    ("What did he write?", "When did he write?", "question"),
    ("How did he die?", "When did he die?", "question"),
    ("Is the museum open?", "When is the museum open?", "question"),
    ("Wann fährt der Zug?", "Wo fährt der Zug?", "question"),
    ("What other awards did she win?", "What awards did she win?", "further"),
    ("What else did he do there?", "What did he do there?", "further"),
    ("Were there any other tours?", "Were there tours?", "further"),
    ("Tell me another joke", "Tell me a joke", "further"),
    ("Give me more examples", "Give me examples", "further"),
    ("Erzähl mir noch einen Witz", "Erzähl mir einen Witz", "further"),
    ("What are the Monday opening hours?", "What are the Sunday opening hours?", "calendar"),
    ("Is it open on Sunday?", "Is it open?", "calendar"),
    ("events on 2 Jan 2024", "events on 2 Feb 2024", "calendar"),
    ("What happens in May 2024?", "What happens in June 2024?", "calendar"),
    ("Sales for last year", "Sales for this year", "calendar"),
    ("Le train part lundi", "Le train part mardi", "calendar"),
    ("Convert miles to kilometers", "Convert kilometers to miles", "order"),
    ("Does the dog chase the cat?", "Does the cat chase the dog?", "order"),
    ("Does the old dog chase the cat?", "Does the cat chase the old dog?", "order"),
    ("does A beat B", "does B beat A", "order"),
    ("Is Rome bigger than Milan?", "Is Milan bigger than Rome?", "order"),
    ("Tom gave Ann a book", "Ann gave Tom a book", "order"),
    ("A flight from Rome to Milan", "A flight from Milan to Rome", "order"),
    (
        "May a manager approve a clerk's request?",
        "May a clerk approve a manager's request?",
        "order",
    ),
    ("Translate pago into English", "Translate pagó into English", "letters"),
    ("Где мой дом?", "Где мои дом?", "letters"),
    ("怎样关闭闹钟", "怎样打开闹钟", "letters"),
    ("Explain:\nif a:\n    b()\nc()", "Explain:\nif a:\n    b()\n    c()", "layout"),
    ("What does `foo` do?", "What does `Foo` do?", "quotes"),
    ('Translate "well done" for me', 'Translate "fine job" for me', "quotes"),
    ("What does foo_bar do?", "What does foo_baz do?", "code"),
    ("What does useState do?", "What does useEffect do?", "code"),
    ("What does list.sort() return?", "What does list.copy() return?", "code"),
    ("What does git reset --hard do?", "What does git reset --mixed do?", "code"),
    ("What does ls -a do?", "What does ls -A do?", "code"),
    ("Is a > b?", "Is a < b?", "code"),
    ("What is 2 + 3?", "What is 2 - 3?", "code"),
    ("How do I open it in the dark?", "Wie öffne ich das, wenn es dunkel ist?", "language"),
]  # fmt: skip
SAME_QUESTIONS = [
    ("How do I get a refund from the shop?", "How can I get the shop to refund me?"),
    ("How do I sell a piano in Rome?", "What is the way to sell a piano in Rome?"),
    ("Tell me about the history of tea", "Please describe the history of tea for me"),
    ("What is the capital of France?", "What's the capital city of France?"),
    ("What is the capital of France?", "what is the capital of france"),
    ("How do I turn on dark mode?", "How can I switch on dark mode?"),
    ("Send it to 2,000 people", "Send this to 2000 people"),
    ("Explain how tides work.", "Can you explain how the tides work?"),
    ("Which café in Rome is open?", "What café in Rome is open?"),
    ("Why can't I log in?", "Why can’t I log in?"),
    ("Tell me about Curie", "Tell me about Marie Curie"),
    ("What year was it built?", "When was it built?"),
    ("In which city was he born?", "Where was he born?"),
    ("What is the number of users?", "How many users are there?"),
    ("What is the reason for the delay?", "Why is there a delay?"),
    ("What is the height of the tower?", "How tall is the tower?"),
    ("What is the population of Norway?", "How many people live in Norway?"),
    ("What is the best way to cook rice?", "How do I cook rice?"),
    ("Why is my dog barking?", "What makes my dog bark?"),
    ("difference between cats and dogs", "difference between dogs and cats"),
    ("When does the regular season start?", "When is the start of the regular season?"),
    ("Who won the World Cup in 2018?", "Who was the winner of the 2018 World Cup?"),
    ("My phone is wet. What should I do?", "What should I do if my phone is wet?"),
    ("Show me another way to do this", "Show me a different way to do this"),
    ("How do I add two lists to one another?", "How do I add two lists together?"),
    ("Explain the map function", "Explain the `map` function"),
    ("How do I set JAVA_HOME?", "How can I set JAVA_HOME on my machine?"),
    ("Is it possible to park here?", "Can I park here?"),
    ("Wie spät ist es in Wien?", "Wieviel Uhr ist es in Wien?"),
    ("Wie lange muss der Reis im Topf sein?", "Wie lange kocht man den Reis in der Küche?"),
    ("¿Cómo cocino arroz?", "¿Cómo se cocina el arroz?"),
    (
        "Ann has 12 pens. She gives half of them to Bob. How many pens does she have left?",
        "Of her 12 pens, Ann hands 1/2 over to Bob. What number of pens remains with her?",
    ),
]


@pytest.mark.parametrize(("query", "stored", "guard"), OTHER_QUESTIONS)
def test_another_question_is_vetoed_by_the_guard_that_sees_it(
    query: str, stored: str, guard: str
) -> None:
    assert veto(query, stored) == guard
    assert guard in vetoes(stored, query)


@pytest.mark.parametrize(("query", "stored"), SAME_QUESTIONS)
def test_a_rephrasing_passes(query: str, stored: str) -> None:
    assert vetoes(query, stored) == vetoes(stored, query) == ()


LONG = (
    "A bakery sells loaves of bread to the cafés of a small town every morning of the week, and"
    " the owner writes down what each of them has bought and what it still has to pay at the end"
)


def test_one_edit_of_a_long_text_is_seen() -> None:
    for edited in (
        LONG.replace("every", "not every"),
        LONG.replace("the end", "the beginning"),
        LONG.replace("each", "each of the two"),
        LONG + " of 3 months",
    ):
        assert veto(LONG, edited) is not None, edited


def test_a_long_text_may_deny_something_that_its_rephrasing_says_otherwise() -> None:
    told = (
        "A library lends 40 books. 12 of them are not brought back in time, and the visitors are"
        " asked to pay 2 coins for each late one. What does the library earn?"
    )
    retold = (
        "Visitors borrow 40 volumes from a library. For every volume returned late a fine of 2"
        " coins is due, which applies to 12 of those. How much money is collected by it?"
    )
    assert veto(told, retold) is None


# Any text


@given(st.text(max_size=200))
@example("<A_")
@example("İstanbul'da ﬁne")
def test_a_text_never_vetoes_itself(text: str) -> None:
    assert veto(text, text) is None
    assert all(not forbids for forbids in vetoes(text + " ", text) if text.isascii())


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_veto_does_not_depend_on_which_text_was_stored(a: str, b: str) -> None:
    assert vetoes(a, b) == vetoes(b, a)


WORDS = st.sampled_from(
    "the a my is not more less before Ann Rome python dogs cats chase 3 2.5 km two half monday"
    " when where how what why many `x` foo_bar a.b() + 2024-01-02 und nicht wie où café".split()
)
SENTENCES = st.lists(WORDS, max_size=14).map(" ".join)


@given(SENTENCES, SENTENCES)
@example("is more more", "")
@example("defrost defrost vs vs", "vs defrost vs defrost defrost defrost")
def test_a_veto_of_sentences_does_not_depend_on_which_was_stored(a: str, b: str) -> None:
    assert vetoes(a, b) == vetoes(b, a)
    assert vetoes(a, a + " ") == ()


PROSE = st.lists(
    st.sampled_from(
        "where when dogs cats sleep chase the old house near river before winter, not always my"
        " friend asked people who live there how long it takes to walk home".split()
    ),
    min_size=1,
    max_size=20,
).map(" ".join)


@given(PROSE, st.data())
def test_white_space_and_case_of_plain_prose_do_not_matter(prose: str, data: st.DataObject) -> None:
    gaps = st.sampled_from([" ", "  ", "\n", "\t", " \n  "])
    noisy = "".join(data.draw(gaps) if c == " " else c for c in prose)
    assert vetoes(prose, noisy) == ()
    assert vetoes(prose, prose.upper()) == ()
    assert vetoes(prose, prose.capitalize()) == ()


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_changed_numbers_never_pass(a: int, b: int) -> None:
    same = veto(f"Is {a} prime?", f"Is {b} prime?") is None
    assert same == (a == b)


TEMPLATES = st.sampled_from(
    [
        "Tom walks {} km on each of 5 days. How far is that?",
        "Which bus leaves before {}?",
        "Pay ${} to Ann, and tell me what is left of 90 euros",
        "Room {} is where the {} guests are",
        "Wie viel sind {} Prozent von 70?",
        "{}",
    ]
)
NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.decimals(0, 10**6, places=2).map(str),
    st.tuples(st.integers(0, 999), st.integers(1, 99)).map("{0[0]}/{0[1]}".format),
    st.from_regex(r"\A[1-9][0-9]{0,2}(,[0-9]{3}){0,2}\Z"),
    st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){1,3}\Z"),
)


def _valued(number: str) -> float | str:
    """Return a number's value, or itself where it may be read in two ways."""
    plain = number.replace(",", "") if "," in number else number
    if "/" in plain:
        above, below = plain.split("/")
        return int(above) / int(below)
    try:
        return float(plain)
    except ValueError:
        return number


@given(TEMPLATES, NUMBERS, NUMBERS)
def test_any_changed_number_is_vetoed(template: str, a: str, b: str) -> None:
    if _valued(a) != _valued(b):
        assert veto(template.replace("{}", a), template.replace("{}", b)) is not None


# Time

HOSTILE = (
    "a A 1 1, 1. 1/ - $ \" “ « ` ' \n a. a_ a.b ( A% é я 1: K1 xxx .!? --a -> :: \"a “a 'a"
).split(" ") + ["A ", "one ", "million ", "two hundred and ", "2 km ", "2024-01-02 ", "1 1/2 ",
                "of may ", "next week ", "how many ", "what ", "don't ", "a\n  ", " ", "a b ",
                "x1 and y1 "]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_grows_only_with_the_length_of_a_hostile_text(piece: str) -> None:
    text = (piece * 50_000)[:50_000]
    started = time.thread_time()
    marks_of(text)
    veto(text, text[1:])
    signals(text, text[1:])
    assert time.thread_time() - started < 5  # a second at most; squared, it would be minutes
    marks_of.cache_clear()
