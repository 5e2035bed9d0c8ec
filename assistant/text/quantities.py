"""Numbers, doses and codes of a text in one form, so that an answer's can be looked up in a passage.

``1,000`` is 1000, ``10mg`` is 10 mg, ``two`` is 2, ``75 percent`` is 75 %, ``5-10 mg`` is 5 mg and 10 mg.
Units are not converted: 0.5 g is not 500 mg.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from assistant.text.language import fold

_UNIT_NAMES = {
    "mg": "mg milligram milligrams",
    "mcg": "mcg ug \u00b5g \u03bcg microgram micrograms",
    "g": "g gram grams",
    "kg": "kg kilo kilos kilogram kilograms",
    "ml": "ml milliliter milliliters millilitre millilitres cc",
    "l": "l liter liters litre litres",
    "dl": "dl deciliter deciliters",
    "mg/dl": "mg/dl",
    "mg/kg": "mg/kg",
    "mmol": "mmol",
    "mmhg": "mmhg",
    "iu": "iu",
    "unit": "unit units",
    "%": "% percent per\u00a0cent",
    "tablet": "tablet tablets tab tabs pill pills",
    "capsule": "capsule capsules cap caps",
    "drop": "drop drops",
    "puff": "puff puffs",
    "dose": "dose doses",
    "ounce": "oz ounce ounces",
    "pound": "lb lbs pound pounds",
    "cm": "cm centimeter centimeters",
    "mm": "mm millimeter millimeters",
    "inch": "inch inches",
    "second": "sec second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "wk wks week weeks",
    "month": "mo month months",
    "year": "yr yrs year years",
    "time": "time times",
    "degree": "degree degrees \u00b0 \u00b0f \u00b0c",
    "am": "am a.m a.m.",
    "pm": "pm p.m p.m.",
}
_UNITS = {
    name.replace("\u00a0", " "): unit for unit, names in _UNIT_NAMES.items() for name in names.split(" ")
}
_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_TO_NINETEEN.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
_NUMBER_WORDS = "|".join(sorted(_WORDS, key=len, reverse=True))
_LITERAL = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_VALUE = rf"(?:{_LITERAL}|\b(?:{_NUMBER_WORDS})(?:[- ](?:{'|'.join(_TO_NINETEEN.split()[1:10])}))?\b)"
_UNIT = "|".join(sorted((re.escape(name) for name in _UNITS), key=len, reverse=True))
_QUALIFIER = "(?:business|calendar|working|full|whole|consecutive|more|other)"
_QUANTITY = re.compile(
    rf"(?<![\w.])(?P<value>{_VALUE})(?P<ordinal>st|nd|rd|th)?"
    rf"(?:(?=\s?(?:-|\u2013|to|or|and)\s?{_VALUE}\s?-?(?P<later_unit>{_UNIT})(?!\w))|\s?-?(?:{_QUALIFIER}\s)?(?P<unit>{_UNIT})(?!\w))?"
)
_TOKEN = re.compile(r"(?<!\w)[^\W_]+(?:-[^\W_]+)*(?!\w)")
_LETTER = re.compile(r"[^\W\d_]")
_COUNTED = re.compile(r"\d+-[^\W\d_]+")
"""An adjective of a number ("2-digit"), which its number stands for."""
_DIGIT = re.compile(r"\d")
_NO_ZERO = re.compile(r"\.(?<![\w.]\.)(?=\d)")
"""It begins with what is rare: a search for a literal is ten times faster than one for a place."""
_ITEM_NUMBER = re.compile(r"\A[\s*_#>-]*(?:step\s+)?\d{1,3}[.):](?=\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantities:
    """What a text says in figures."""

    values: frozenset[str]
    """Every number, its unit left aside."""
    measures: frozenset[tuple[str, str]]
    """(value, unit) of every number that has a unit."""
    bare: frozenset[str]
    """Every number that stands without a unit somewhere."""
    codes: frozenset[str]
    """Tokens of letters and digits: "a1c", "pr-2"."""

    def __or__(self, other: Quantities) -> Quantities:
        return Quantities(
            values=self.values | other.values,
            measures=self.measures | other.measures,
            bare=self.bare | other.bare,
            codes=self.codes | other.codes,
        )


NO_FIGURES = Quantities(values=frozenset(), measures=frozenset(), bare=frozenset(), codes=frozenset())


def quantities(text: str) -> Quantities:
    """Return the numbers and codes of a text, the number of a list item left out."""
    folded = _NO_ZERO.sub("0.", _ITEM_NUMBER.sub("", fold(text)))
    measures: set[tuple[str, str]] = set()
    bare: set[str] = set()
    for found in _QUANTITY.finditer(folded):
        value = _value(found["value"])
        unit = found["unit"] or found["later_unit"]
        if unit:
            measures.add((value, _UNITS[unit]))
        else:
            bare.add(value)
    return Quantities(
        values=frozenset({value for value, _ in measures} | bare),
        measures=frozenset(measures),
        bare=frozenset(bare),
        codes=frozenset(
            code for piece in _with_digits(folded) for code in _codes(piece) if not _is_number(code)
        ),
    )


def unsupported_figures(claimed: Quantities, held: Quantities) -> bool:
    """Say whether a text claims a number, dose or code that the other text does not hold.

    A number with a unit is held by the same number with that unit, or without any: tables put units
    in their headings. "one" alone is a pronoun as often as a number and is not claimed.
    """
    if not claimed.codes <= held.codes:
        return True
    if any(value not in held.values for value in claimed.bare - {"1"}):
        return True
    return any(measure not in held.measures and measure[0] not in held.bare for measure in claimed.measures)


def _with_digits(text: str) -> Iterator[str]:
    """Yield every run of letters, digits, low lines and hyphens that holds a digit: there are few of them."""
    end = 0
    for digit in _DIGIT.finditer(text):
        if digit.start() < end:
            continue
        start, end = digit.span()
        while start and _is_of_word(text[start - 1]):
            start -= 1
        while end < len(text) and _is_of_word(text[end]):
            end += 1
        yield text[start:end]


def _codes(piece: str) -> Iterator[str]:
    """Yield the tokens of such a run with a digit and a letter in them or, over low lines, after them."""
    last_digit = max((found.start() for found in _DIGIT.finditer(piece)), default=-1)
    last_letter = max((found.start() for found in _LETTER.finditer(piece)), default=-1)
    for token in _TOKEN.finditer(piece):
        if token.start() > min(last_digit, last_letter):
            return
        yield token[0]


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character in "_-"


def _is_number(code: str) -> bool:
    return bool(_QUANTITY.fullmatch(code) or _COUNTED.fullmatch(code))


def _value(literal: str) -> str:
    if literal[0].isdigit():
        number = literal.replace(",", "")
        whole, _, fraction = number.partition(".")
        fraction = fraction.rstrip("0")
        whole = whole.lstrip("0") or "0"
        return f"{whole}.{fraction}" if fraction else whole
    return str(sum(_WORDS[word] for word in re.split(r"[- ]", literal)))
