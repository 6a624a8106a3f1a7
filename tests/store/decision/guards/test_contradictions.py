"""Short questions that say nearly the same and ask for the opposite, or for another of its kind."""

from __future__ import annotations

import pytest

from store.decision.guards import vetoes

ORDER = """
how to convert celsius to fahrenheit | how to convert fahrenheit to celsius
what is the best way to convert json to csv | how do i convert csv to json
how do i convert from json to csv | how to convert csv to json
how to sort a to z | how to sort z to a
How do I convert a list to a string? | How do I convert a string to a list?
are all dogs mammals | are all mammals dogs
is a square a rectangle | is a rectangle a square
how to replace butter with oil | how to replace oil with butter
can a cat catch a cold from a human | can a human catch a cold from a cat
x is twice y what is y | y is twice x what is y
can i sue my landlord | can my landlord sue me
who killed brutus | who did brutus kill
who killed caesar | who was killed by caesar
who did brutus kill | who was brutus killed by
what eats a lion | what does a lion eat
who taught plato | who did plato teach
which countries conquered rome | which countries did rome conquer
who did germany declare war on | who declared war on germany
tell me who beat federer | who did federer beat
"""
NUMBERS = """
what is 5 minus 3 | what is 3 minus 5
who was henry viii | who was henry vii
who was King George V | who was King George VI
when did world war i start | when did world war ii start
when did WWI end? | when did WWII end?
who directed rocky ii | who directed rocky iii
what is stage i cancer | what is stage iv cancer
who was pope john paul i | who was pope john paul ii
who won super bowl xx | who won super bowl xxi
"""
POLARITY = """
arguments for nuclear power | arguments against nuclear power
did the senate vote for the bill | did the senate vote against the bill
an essay supporting the minimum wage | an essay opposing the minimum wage
a speech in favour of uniforms | a speech against uniforms
argumente für kernkraft | argumente gegen kernkraft
arguments pour le nucléaire | arguments contre le nucléaire
how do i keep my changes | how do i discard my changes
how do i reply to all in gmail | how do i reply to one person in gmail
do all employees get paid leave | do only full time employees get paid leave
install a package for one user | install a package for all users
convert a string to lowercase | convert a string to uppercase
run it in the foreground | run it in the background
what is the closest planet | what is the furthest planet
turn it clockwise | turn it counterclockwise
how do i hide a column | how do i show a column
what is a shallow copy | what is a deep copy
how do i upgrade my plan | how do i downgrade my plan
what is hypothermia | what is hyperthermia
what is macroeconomics | what is microeconomics
what is inflation | what is deflation
show me the cheapest | show me the most expensive
what is the numerator | what is the denominator
when was mozart born | when did mozart die
what must the landlord pay | what must the tenant pay
tom has 12 apples and buys 4 | tom has 12 apples and eats 4
how old is he | how old is she
tom gave 4 to ann how many does he have | tom gave 4 to ann how many does she have
foods to eat with gout | foods to avoid with gout
is the tumor benign | is the tumor malignant
wie kaufe ich aktien | wie verkaufe ich aktien
comment acheter un vélo | comment vendre un vélo
cómo encender el móvil | cómo apagar el móvil
"""
KINDS = """
i am vegetarian what can i eat | i am vegan what can i eat
what is 12 plus 4 | what is 12 times 4
what is ten times two | what is ten divided by two
what is the sum of 4 and 6 | what is the product of 4 and 6
what is 15 percent off 80 | what is 15 percent of 80
what is the square of 16 | what is the square root of 16
what is the cube root of 8 | what is the square root of 8
area of a circle with radius 5 | circumference of a circle with radius 5
the mean of 1 2 3 | the median of 1 2 3
sine of 30 degrees | cosine of 30 degrees
sine of 30 degrees | sine of 30 radians
how many permutations are there | how many combinations are there
capital of niger | capital of nigeria
capital of guinea | capital of equatorial guinea
population of mexico | population of mexico city
population of new york city | population of new york state
flag of virginia | flag of west virginia
who directed the godfather | who produced the godfather
who starred in titanic | who directed titanic
what year did he write the book | what book did he write
what country is she from | what city is she from
default port of http | default port of https
inner join in sql | outer join in sql
what causes gout | what cures gout
what does git pull do | what does git push do
worst case of quicksort | average case of quicksort
is vitamin c healthy | is vitamin k healthy
"""
TAILS = """
how do i share my screen | how do i stop sharing my screen
the log of 100 | the natural log of 100
how long is a marathon | how long is a half marathon
gdp of norway | gdp per capita of norway
who is the president of ghana | who is the vice president of ghana
"""


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(a, b) for a, _, b in (line.partition(" | ") for line in text.strip().splitlines())]


@pytest.mark.parametrize(
    ("guard", "query", "stored"),
    [
        (guard, query, stored)
        for guard, text in (
            ("order", ORDER),
            ("numbers", NUMBERS),
            ("polarity", POLARITY),
            ("names", KINDS),
            ("tail", TAILS),
        )
        for query, stored in _pairs(text)
    ],
)
def test_a_contradiction_is_vetoed(guard: str, query: str, stored: str) -> None:
    assert guard in vetoes(query, stored)
    assert guard in vetoes(stored, query)


SAME_QUESTIONS = """
how to convert json to csv | what is the best way to convert json to csv
how do i convert from json to csv | how can i convert json to csv
how to convert json to csv in python | in python how do i convert json to csv
how to mix bleach with water | how to mix water with bleach
compare python with java | compare java with python
how far is it from rome to milan | how far is it from milan to rome
the distance between rome and milan | the distance between milan and rome
is 1 km equal to 1000 m | is 1000 m equal to 1 km
apples, oranges and pears | pears, oranges and apples
the mean of 1 2 3 | the mean of 3 2 1
what is 3 plus 5 | what is 5 plus 3
what is 3 times 5 | what is 5 times 3
what is 3 multiplied by 5 | what is 5 multiplied by 3
area of a 4 by 7 rectangle | area of a 7 by 4 rectangle
is the shop open today | is today the shop open
a meeting on monday with bob | a meeting with bob on monday
who did prince harry marry | who married prince harry
who killed caesar | who was caesar killed by
who did brutus kill | who was killed by brutus
what happened in 1989 | what did happen in 1989
What kind of sports did Ann play? | What kind of sports Ann play?
Tell me about France | What do you know about France
who wrote hamlet | who is the author of hamlet
who directed titanic | who was the director of titanic
who sang hello | who is the singer of hello
what is the sum of 4 and 6 | what is 4 plus 6
what is 12 minus 4 | subtract 4 from 12
multiply 12 by 4 | what is 12 times 4
what is 16 squared | what is the square of 16
what is the cube of 8 | what is 8 cubed
what is the mean of 1 2 3 | what is the average of 1, 2 and 3
what is the gcd of 12 and 18 | what is the greatest common divisor of 12 and 18
sine of 30 degrees | what is the sine of 30 degrees
what is sin x | what is the sine of x
sine of 30 degrees | sin 30 degrees
differentiate x squared | what is the derivative of x squared
what is the log of 100 | what is the logarithm of 100
how many sides does a hexagon have | what is the number of sides of a hexagon
tom has 9 apples and eats 4 how many are left | if tom eats 4 of his 9 apples, how many are left
arguments for nuclear power | arguments in favor of nuclear power
an essay opposing the war | an essay against the war
is there a vaccine against malaria | is there a vaccine for malaria
did the senate vote for the bill | did the senate vote in favor of the bill
when did world war ii end | when did world war 2 end
when did WWII end? | when did the second world war end
who was henry viii | Who was Henry the Eighth?
Who was the wife of Henry VIII? | who was henry viii's wife
who was pope john paul ii | Who was Pope John Paul II?
what is type ii diabetes | what is type 2 diabetes
which chapter i should read | which chapter should I read
how do i quit vi | how do i exit vi
how do i turn off notifications | how do i disable notifications
how do i add up a column in excel | how do i sum a column in excel
how can i make text bold in css | css bold text
how do i delete a remote branch in git | how can i remove a remote git branch
how do i select all rows | how do i select every row
what is the worst case complexity of quicksort | the complexity of quicksort in the worst case
pre order traversal of a tree | preorder traversal of a tree
implement breadth first search | implement bfs
which port does https use by default | what is the default port of https
how do i defrost bread | how to thaw bread
what are the symptoms of a stroke | what are signs of a stroke
what causes gout | what are the causes of gout
treatment of type 1 diabetes | how is type 1 diabetes treated
is it ok to give a child aspirin | is it ok to give kids aspirin
which planet is closest to the sun | what planet is nearest to the sun
what team does messi play for | which club does messi play for
what is the capital of niger | name the capital of niger
how many people live in mexico city | what is the population of mexico city
the advantages of remote work | the benefits of remote work
what year did he write the book | when did he write the book
where was mozart born | in which city was mozart born
what about germany | how about germany
wie kaufe ich aktien | wie kann ich aktien kaufen
comment acheter un vélo | comment puis-je acheter un vélo
cómo apagar el móvil | cómo se apaga el móvil
"""


@pytest.mark.parametrize(("query", "stored"), _pairs(SAME_QUESTIONS))
def test_a_rephrasing_of_the_same_kind_passes(query: str, stored: str) -> None:
    assert vetoes(query, stored) == vetoes(stored, query) == ()
