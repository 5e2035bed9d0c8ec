"""Numbers with units, in one unit a dimension: values of properties, and amounts that a question names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from assistant.text.language import fold, word_file


class _Currency(NamedTuple):
    code: str
    sign: str
    """Shown before an amount; empty where the code is shown after it."""
    names: tuple[str, ...]


def _currency(line: str) -> _Currency:
    head, _, names = line.partition(": ")
    code, _, sign = head.partition(" ")
    return _Currency(code, sign, tuple(names.split(", ")))


_CURRENCIES = {one.code: one for one in map(_currency, word_file("en_currencies"))}
CURRENCY_NAMES = frozenset(name for one in _CURRENCIES.values() for name in one.names)
"""Signs, codes and words of money, folded, most of them in the singular."""
_UNITS: Mapping[str, Mapping[str, float]] = {
    "mass": {
        "mg": 1e-3,
        "g": 1.0,
        "gram": 1.0,
        "kg": 1e3,
        "kilo": 1e3,
        "kilogram": 1e3,
        "lb": 453.592,
        "lbs": 453.592,
        "pound": 453.592,
        "oz": 28.3495,
        "ounce": 28.3495,
    },
    "length": {
        "mm": 1.0,
        "millimeter": 1.0,
        "millimetre": 1.0,
        "cm": 10.0,
        "centimeter": 10.0,
        "centimetre": 10.0,
        "m": 1e3,
        "meter": 1e3,
        "metre": 1e3,
        "inch": 25.4,
        "inches": 25.4,
        "ft": 304.8,
        "foot": 304.8,
        "feet": 304.8,
    },
    "volume": {
        "ml": 1.0,
        "cl": 10.0,
        "l": 1e3,
        "liter": 1e3,
        "litre": 1e3,
        "gallon": 3785.41,
        "quart": 946.353,
        "pint": 473.176,
    },
    "area": {
        "m²": 1.0,
        "m2": 1.0,
        "sqm": 1.0,
        "sq m": 1.0,
        "square meter": 1.0,
        "square metre": 1.0,
        "sq ft": 0.092903,
        "square feet": 0.092903,
        "square foot": 0.092903,
    },
    "time": {
        "s": 1.0,
        "sec": 1.0,
        "second": 1.0,
        "min": 60.0,
        "minute": 60.0,
        "h": 3600.0,
        "hr": 3600.0,
        "hour": 3600.0,
        "day": 86_400.0,
        "week": 604_800.0,
        "month": 2_629_800.0,
        "year": 31_557_600.0,
    },
    "power": {"w": 1.0, "watt": 1.0, "kw": 1e3, "kilowatt": 1e3},
    "noise": {"db": 1.0, "decibel": 1.0},
    "force": {"n": 1.0, "newton": 1.0},
    "air": {"m³/h": 1.0, "m3/h": 1.0},
    "pressure": {"mmhg": 1.0},
    "temperature": {
        "°c": 1.0,
        "c": 1.0,
        "°": 1.0,
        "degree": 1.0,
        "degree c": 1.0,
        "degree celsius": 1.0,
        "celsius": 1.0,
        "°f": 5 / 9,
        "f": 5 / 9,
        "degree f": 5 / 9,
        "degree fahrenheit": 5 / 9,
        "fahrenheit": 5 / 9,
    },
    "money": dict.fromkeys(CURRENCY_NAMES, 1.0),
    "stars": {"star": 1.0},
}
DIMENSIONS: Mapping[str, tuple[str, float]] = {
    unit: (dimension, factor) for dimension, units in _UNITS.items() for unit, factor in units.items()
}
"""Unit = its dimension, and how much of the dimension's first unit it is."""
_FAHRENHEIT_ZERO = 32.0
_MAY_BE_NEGATIVE = frozenset({"temperature", "noise"})
"""Of the named dimensions. Before an amount of another one, "-" is a dash."""
NAMED_DIMENSIONS = frozenset(_UNITS)
_TO_TWELVE = "one two three four five six seven eight nine ten eleven twelve"
NUMBER_WORDS = {word: float(number) for number, word in enumerate(_TO_TWELVE.split(), start=1)}
_NUMBER = r"\d(?:[\d,]{0,11}\d)?(?:\.\d{1,4})?"
_DECIMAL_COMMA = re.compile(r"\d{1,12},\d{1,2}")
_DASH = "[-\N{EN DASH}]"
_SIGN = "[-\N{MINUS SIGN}\N{EN DASH}]"
_SIGNED = rf"(?:{_SIGN}|\+)?{_NUMBER}"
_VALUE = re.compile(
    rf"[±~]?\s?({_SIGNED})(?:\s?(?:{_DASH}|to\b)\s?({_SIGNED}))?(?:\s?([^\s\d,;][^\d(;]{{0,24}}))?"
)
_DEGREES = r"(?:° ?|degrees? )(?:celsius|fahrenheit|c|f)\b|°"
_LONGEST_SIGN = 3
"""Characters of a name of money that may stand before the amount: "€", "us$", "chf"."""


def _any_of(names: Iterable[str], *, after: str = "") -> str:
    return "|".join(re.escape(name) + after for name in sorted(names, key=lambda name: (-len(name), name)))


_SIGNS = _any_of(name for name in CURRENCY_NAMES if len(name) <= _LONGEST_SIGN)
_PAID = "|".join(
    (
        _any_of((name for name in CURRENCY_NAMES if " " in name), after="s?"),
        _any_of(name for name in CURRENCY_NAMES if not name.replace(" ", "").isalpha()),
    )
)
_UNIT = rf"sq(?:uare)? ?(?:m|ft|feet|foot|met(?:er|re)s?)|m[³3]/h|m²|m2|{_DEGREES}|{_PAID}|[a-z]{{1,12}}"
_MINUS = rf"{_SIGN}(?=\d)|(?:minus|negative)\s"
_AMOUNT = re.compile(
    rf"(?P<minus>(?<![^\s(])(?:{_MINUS}))?"
    rf"(?:(?<![^\W_])(?P<sign>{_SIGNS})\.?\s?)?(?P<value>\b(?:{_NUMBER}|(?:{'|'.join(NUMBER_WORDS)})\b))\s?(?:,?-(?!\s?\d)\s?)?"
    rf"(?:(?:and|or|to|{_DASH})\s?(?P<to_minus>{_MINUS})?\+?(?:(?:{_SIGNS})\s?)?(?P<to>{_NUMBER}|(?:{'|'.join(NUMBER_WORDS)})\b)\s?-?)?"
    rf"(?P<unit>{_UNIT})?(?![\w²³/])"
)
_NO_UNIT = frozenset(
    "or and for with in to the of at if that which but one is as so by on from a an it her his "  # noqa: SIM905
    "under below less fewer more over above up about around not no please".split()
)


class Span(NamedTuple):
    """A value, or both ends of a range, in the first unit of its dimension."""

    low: float
    high: float
    dimension: str
    """A counted thing ("modes") is a dimension of its own; empty without a unit."""


class Amount(NamedTuple):
    """An amount in a question."""

    value: float
    """As it is written; ``factor`` of the dimension's first unit each."""
    to: float | None
    """The other end of a range."""
    unit: str
    """Empty without one."""
    dimension: str
    factor: float
    start: int
    end: int
    """[start, end) in the folded question."""
    number_end: int
    """Where its number ends: its unit, or another word, may follow."""
    is_word: bool
    """Whether the number is written as a word: "two"."""

    def in_first_unit(self, value: float) -> float:
        """Return a number of the amount's unit in the first unit of its dimension."""
        return _in_first_unit(value, self.unit, self.factor)

    @property
    def least(self) -> float:
        """The amount, or the lower end of its range, in the first unit of its dimension."""
        ends = (self.value, self.value if self.to is None else self.to)
        return self.in_first_unit(min(ends))

    @property
    def most(self) -> float:
        """The same of the upper end."""
        ends = (self.value, self.value if self.to is None else self.to)
        return self.in_first_unit(max(ends))

    @property
    def shown(self) -> str:
        return shown_amount(self.value, self.unit)


def span_of(text: str) -> Span | None:
    """Return the value of a property: "4.5 L", "17 to 22 cm", "±2 mmHg", "2"; None for other text."""
    found = _VALUE.fullmatch(text.casefold().strip())
    if found is None:
        return None
    unit = (found[3] or "").strip()
    dimension, factor = dimension_of(unit)
    low = _in_first_unit(_float(found[1]), unit, factor)
    return Span(low, _in_first_unit(_float(found[2]), unit, factor) if found[2] else low, dimension)


def unit_of(text: str) -> tuple[str, float] | None:
    """Return the dimension and the factor of a value's unit; None for other text."""
    found = _VALUE.fullmatch(text.casefold().strip())
    return dimension_of((found[3] or "").strip()) if found is not None else None


def dimension_of(unit: str) -> tuple[str, float]:
    """Return the dimension of a unit and its factor; of an unknown unit its own singular, and 1."""
    unit = unit.replace("° ", "°").replace("degrees ", "degree ")
    for form in (unit, unit.removesuffix("s"), unit.removesuffix(".")):
        if form in DIMENSIONS:
            return DIMENSIONS[form]
    return unit.removesuffix("s"), 1.0


def amounts(question: str) -> Iterator[Amount]:
    """Yield the numbers of a question with their units."""
    for found in _AMOUNT.finditer(fold(question)):
        raw, unit = found["value"], found["sign"] or found["unit"] or ""
        unit = "" if unit in _NO_UNIT else unit
        number_end = max(found.end("value"), found.end("to"))
        has_unit_after = unit and not found["sign"]
        if found["minus"] and not unit:
            unit = "°c"  # "for -10"
        dimension, factor = dimension_of(unit) if unit else ("", 1.0)
        is_signed = dimension in _MAY_BE_NEGATIVE or dimension not in NAMED_DIMENSIONS
        value = _number(raw)
        to = _number(found["to"]) if found["to"] else None
        yield Amount(
            value=-value if found["minus"] and is_signed else value,
            to=-to if to and found["to_minus"] and is_signed else to,
            unit=unit,
            dimension=dimension,
            factor=factor,
            start=found.start(),
            end=found.end() if has_unit_after else number_end,
            number_end=number_end,
            is_word=raw in NUMBER_WORDS,
        )


def shown_amount(value: float, unit: str) -> str:
    """Return an amount as a reader writes it: "$80", "8 kg", "-5 °C"."""
    if dimension_of(unit)[0] == "money":
        currency = _CURRENCIES[currencies_of(unit)[0]]
        number = f"{value:.2f}".removesuffix(".00")
        return f"{currency.sign}{number}" if currency.sign else f"{number} {currency.code}"
    return f"{value:g} {unit.upper() if unit.startswith('°') else unit}".strip()


def currencies_of(name: str) -> tuple[str, ...]:
    """Return the ISO codes of the currencies that a folded name may mean: three of "$", none of "kg"."""
    forms = {name, name.removesuffix("s")}
    return tuple(one.code for one in _CURRENCIES.values() if forms & set(one.names))


def _in_first_unit(value: float, unit: str, factor: float) -> float:
    is_fahrenheit = dimension_of(unit) == ("temperature", 5 / 9)
    return (value - _FAHRENHEIT_ZERO if is_fahrenheit else value) * factor


def _number(said: str) -> float:
    return NUMBER_WORDS[said] if said in NUMBER_WORDS else _float(said)


def _float(number: str) -> float:
    """Return a number with its sign, or with a dash as its sign."""
    bare = number.lstrip("+-\N{MINUS SIGN}\N{EN DASH}")
    is_decimal = _DECIMAL_COMMA.fullmatch(bare) is not None
    value = float(bare.replace(",", "." if is_decimal else ""))
    return -value if number != bare and number[0] != "+" else value
