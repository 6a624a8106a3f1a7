"""Tables of what numbers are called and what they are numbers of."""

from __future__ import annotations

from decimal import Decimal

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_FOREIGN = (  # from two on: "one" is an article nearly everywhere
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "deux trois quatre cinq six sept huit neuf dix onze douze",
    "dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "due tre quattro cinque sei sette otto nove dieci undici dodici",
    "dois três quatro cinco seis sete oito nove dez onze doze",
    "два три четыре пять шесть семь восемь девять десять",
)
_NOT_IN_ENGLISH = {"due", "once", "sei", "elf"}  # they mean something else there

CARDINALS = {
    word: value for row in _FOREIGN for value, word in enumerate(row.split(), 2)
    if word not in _NOT_IN_ENGLISH
} | {word: value for value, word in enumerate(_ONES)} | {
    word: value * 10 for value, word in enumerate(_TENS, 2)
}  # fmt: skip
SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12, "dozens": 12, "tausend": 1000, "hundert": 100, "mille": 1000, "mil": 1000,
    "millionen": 10**6, "millones": 10**6, "millions": 10**6, "k": 1000, "bn": 10**9,
}  # fmt: skip
SUFFIXES = {"k": 1000, "bn": 10**9, "mio": 10**6, "mn": 10**6, "b": 10**9, "tn": 10**12}
MULTIPLES = {
    "once": 1, "twice": 2, "double": 2, "doubled": 2, "doubles": 2, "pair": 2, "thrice": 3,
    "triple": 3, "tripled": 3, "triples": 3, "quadruple": 4, "quadrupled": 4,
}  # fmt: skip
ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
        " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
        " twentieth".split(),
        1,
    )
}
FRACTIONS = {
    f"{word}{end}": value for word, value in ORDINALS.items() if value > 2 for end in ("", "s")
} | {"half": 2, "halves": 2, "quarter": 4, "quarters": 4}


class Unit(tuple[str, Decimal]):
    """(what is measured, how much of it one unit is)."""


_TABLE = {
    "length": "1:m meter metre meters metres; 1000:km kilometer kilometre kilometers kilometres kms"
    "; 0.01:cm centimeter centimetre centimeters centimetres"
    "; 0.001:mm millimeter millimetre millimeters millimetres; 0.0254:inch inches"
    "; 0.3048:ft foot feet; 0.9144:yd yard yards; 1609.344:mi mile miles",
    "mass": "1:g gram grams gramme grammes; 1000:kg kilo kilos kilogram kilograms kilogramm"
    "; 0.001:mg milligram milligrams; 1000000:t ton tons tonne tonnes"
    "; 28.349523125:oz ounce ounces; 453.59237:lb lbs",
    "time": "1:s sec secs seconds; 0.001:ms millisecond milliseconds; 60:min mins minute minutes"
    "; 3600:h hr hrs hour hours; 86400:day days; 604800:week weeks",
    "months": "1:month months; 12:year years yr yrs",
    "volume": "1:l liter litre liters litres; 0.001:ml milliliter millilitre milliliters"
    " millilitres; 0.01:cl; 3.785411784:gallon gallons gal; 0.946352946:quart quarts"
    "; 0.473176473:pint pints; 0.2365882365:cup cups",
    "data": "1:kb kilobyte kilobytes; 1000:mb megabyte megabytes; 1000000:gb gigabyte gigabytes"
    "; 1000000000:tb terabyte terabytes",
    "celsius": "1:celsius centigrade °c", "fahrenheit": "1:fahrenheit °f",
    "percent": "1:percent % percentage prozent procent",
    "usd": "1:$ dollar dollars usd bucks; 0.01:cent cents",
    "eur": "1:€ euro euros eur", "gbp": "1:£ gbp quid; 0.01:pence", "yen": "1:¥ yen jpy yuan",
    "speed": "1:kph kmh; 1.609344:mph",
}  # fmt: skip
UNITS = {
    name: Unit((what, Decimal(size)))
    for what, rows in _TABLE.items()
    for size, names in (row.strip().split(":") for row in rows.split(";"))
    for name in names.split()
}
