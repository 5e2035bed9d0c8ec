"""Values of a text in one form: numbers, doses, codes, dates, times of day, phone numbers, proper names; and
the check digits of numbers that people type."""

from __future__ import annotations

import re
from calendar import day_abbr, month_abbr, month_name
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

from assistant.text.language import UNIT_SIZES, WORD, Language, Quantities, fold, quantities

_MOST_VALUES = 20
_NAME = re.compile(
    r"(?:(?<=[^\W_] )|(?<=[,;)%] )|(?<=[^\W_][/\u2013]))[\"'\u201c(]?([A-Z][^\W\d_]+(?:[-'\u2019][^\W_]+)*)"
)
"""A word with a capital inside a sentence: not at its beginning, nor after a colon or a list number."""
_MONTHS = {fold(name): n for names in (month_name, month_abbr) for n, name in enumerate(names) if n}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_NAMED_DATES = (
    re.compile(rf"\b(?P<month>{_MONTH})\.? (?P<day>\d\d?)(?:st|nd|rd|th)?\b(?!:)"),
    re.compile(rf"\b(?P<day>\d\d?)(?:st|nd|rd|th)? (?:of )?(?P<month>{_MONTH})\b"),
)
_DATES = (
    *_NAMED_DATES,
    re.compile(r"\b(?:\d{4}-)(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(r"\b(?P<month>\d\d?)/(?P<day>\d\d?)(?=/\d{2,4}\b)"),
    re.compile(r"\b(?P<month>0\d|1[0-2])/(?P<day>\d\d)\b(?!/)"),
)
_DATED = (
    *(re.compile(rf"{each.pattern}(?:,? (?P<year>\d{{4}})\b)?") for each in _NAMED_DATES),
    re.compile(r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(r"(?<![\w/.-])(?P<month>\d\d?)/(?P<day>\d\d?)(?:/(?P<year>\d{4}|\d\d))?(?![\w/-]|\.\d)"),
)
MOST_DAYS = 400
"""Days to or from a date that are counted: not those from a birthday."""
MOST_AHEAD = 45
"""Days to a date without a year, as of a next fill or visit; a date farther ahead is read as a past one."""
_TIME = re.compile(r"\b(\d\d?)(?::(\d\d))?\s?(?:([ap])\.?m\b\.?|(?<=:\d\d)\b)|\b(noon|midnight)\b")
_PHONE = re.compile(r"(?<!\d)(?:\+?1[ .-])?\(?(\d{3})\)?[ .-](\d{3})[ .-](\d{4})(?!\d)")
_DAYS = frozenset(map(fold, (*day_abbr, *month_abbr)))
"""Short names of days and months: no document need have the short form."""
ONE = re.compile(r"\b(?:an?|per|each|every|single)\s(?=[a-z])")
_TIMES = re.compile(r"\b(?:once|(twice))\b")
SECONDS, DAY_S = "s", 86_400
"""The unit that amounts of time are converted to, and a day in it."""
_NEAR = 16
"""Characters of a number and the unit after it."""
Amount = tuple[str, float]
"""First unit of a dimension, and how many of it."""
_SPELLED = re.compile(r"\b[a-z]+\b")


@dataclass(frozen=True, slots=True)
class Values:
    """The values of texts that others must not exceed."""

    language: Language
    words: frozenset[str]
    stems: frozenset[str]
    moments: frozenset[str]
    """Dates, times of day and phone numbers."""
    quantities: Quantities
    amounts: frozenset[Amount]

    @classmethod
    def of(cls, text: str, language: Language) -> Self:
        """Return the values of one text."""
        folded = fold(text)
        words = frozenset(WORD.findall(folded))
        moments, rest = moments_of(folded, stored=True)
        numbers = quantities(rest)
        counted = _TIMES.sub(lambda match: "2 times" if match[1] else "1 time", ONE.sub("1 ", rest))
        amounts = frozenset(map(amount_of, numbers.measures | quantities(counted).measures))
        stems = frozenset(map(language.stem, words))
        return cls(language, words, stems, frozenset(moments), numbers, amounts)

    @classmethod
    def joined(cls, parts: Sequence[Values]) -> Values:
        """Return the values of several texts, at least one."""
        return Values(
            parts[0].language,
            frozenset[str]().union(*(part.words for part in parts)),
            frozenset[str]().union(*(part.stems for part in parts)),
            frozenset[str]().union(*(part.moments for part in parts)),
            Quantities.joined([part.quantities for part in parts]),
            frozenset[Amount]().union(*(part.amounts for part in parts)),
        )

    def missing(self, sentence: str, *, spelled: bool) -> tuple[str, ...]:
        """Return the values of a sentence that this text lacks; a number with a unit matches one without.

        ``spelled``: also words for numbers that have no unit: "the two", "three exceptions".
        """
        moments, rest = moments_of(fold(sentence), stored=False)
        claimed = quantities(rest)
        bare = claimed.bare - {"1"} if spelled else claimed.bare & quantities(_SPELLED.sub(" ", rest)).bare
        numbers = (
            *(value for value in bare if value not in self.quantities.values),
            *(
                " ".join(measure)
                for measure in claimed.measures
                if measure[0] not in self.quantities.bare and amount_of(measure) not in self.amounts
            ),
            *(claimed.codes - self.quantities.codes),
            *(set(moments) - self.moments),
        )
        names = (name for name in _NAME.findall(sentence) if not self._has(fold(name)))
        return tuple(dict.fromkeys((*sorted(numbers), *names)))[:_MOST_VALUES]

    def _has(self, name: str) -> bool:
        """Return whether a folded proper name is here, or is made of common words."""
        language = self.language
        return all(
            language.is_common(word)
            or word in _DAYS
            or not self.words.isdisjoint((word, word.removesuffix("s"), word.removesuffix("'s")))
            or language.stem(word) in self.stems
            for word in WORD.findall(name)
        )


def counted_days(text: str, *, today: date) -> tuple[str, ...]:
    """Return the days between the dates of a text and today: "11/20/2026 to today, 11/27/2026: 7 days",
    "today, 11/27/2026, to 12/1/2026: 4 days".

    A date without a year is the last such date, or the next one where that is MOST_AHEAD days ahead or fewer.
    One of two numbers has the month first; with a year also the day, where it can be no month. "1/2 tablet"
    and "24/7" are no dates.
    """
    folded, days = fold(text), dict[date, None]()
    matches = (match for pattern in _DATED for match in pattern.finditer(folded))
    for match in sorted(matches, key=re.Match[str].start):
        written = match.groupdict()
        month, day, year = (
            int(_MONTHS.get(written[part] or "", written[part] or 0)) for part in ("month", "day", "year")
        )
        day_and_after = folded[match.start("day") :][:_NEAR]
        if not year and any(value == written["day"] for value, _ in quantities(day_and_after).measures):
            continue  # an amount: "1/2 tablet"
        if year and month > 12:
            month, day = day, month
        with suppress(ValueError):
            then = date(year + 2000 * (0 < year < 100) or (today + timedelta(MOST_AHEAD)).year, month, day)
            if not year and (then - today).days > MOST_AHEAD:
                then = then.replace(year=then.year - 1)
            if 0 < abs((today - then).days) < MOST_DAYS:
                days[then] = None
    return tuple(_counted(then, today=today) for then in days)


def _counted(then: date, *, today: date) -> str:
    until, days = f"today, {_shown(today)}", abs((today - then).days)
    between = f"{_shown(then)} to {until}" if then < today else f"{until}, to {_shown(then)}"
    return f"{between}: {days} day{'s' * (days > 1)}"


def _shown(day: date) -> str:
    return f"{day.month}/{day.day}/{day.year}"


def has_days(text: str, language: Language) -> bool:
    """Return whether a text says an amount of days, or of longer units of time."""
    return any(unit == SECONDS and size >= DAY_S for unit, size in Values.of(text, language).amounts)


def amount_of(measure: tuple[str, str]) -> Amount:
    """Return a measure in the first unit of its dimension: 24 hours are 1 day."""
    size = UNIT_SIZES.get(measure[1])
    dimension, factor = (measure[1], 1.0) if size is None else size
    return dimension, round(float(measure[0]) * factor, 9)


def _times(match: re.Match[str]) -> Iterator[str]:
    """Yield the time of day of a match, if it is one: a bare number is none."""
    if match[4]:
        yield "12:00" if match[4] == "noon" else "0:00"
    elif match[2] or match[3]:
        hour = int(match[1]) % (12 if match[3] else 24) + 12 * (match[3] == "p")
        yield f"{hour}:{match[2] or '00'}"


def moments_of(folded: str, *, stored: bool) -> tuple[list[str], str]:
    """Return dates, times of day and phone numbers, each in one form, and the text without them.

    ``stored``: of a document. Its dates of two numbers are read with the month first and with the day first,
    and the text keeps its times: an answer may say "8 to 5 p.m." of "8 a.m. to 5 p.m.".
    """
    moments: list[str] = []

    def date(match: re.Match[str]) -> str:
        month, day = (int(_MONTHS.get(match[part], match[part])) for part in ("month", "day"))
        if month > 12 or (stored and day <= 12 and match["month"].isdecimal()):
            moments.append(f"{day}/{month}")
        if month <= 12:
            moments.append(f"{month}/{day}")
        return " "

    def time(match: re.Match[str]) -> str:
        moments.extend(_times(match))
        return match[0] if stored else " "

    def phone(match: re.Match[str]) -> str:
        moments.append("-".join(match.groups()))
        return " "

    for pattern in _DATES:
        folded = pattern.sub(date, folded)
    return moments, _TIME.sub(time, _PHONE.sub(phone, folded))


# Check digits. python-stdnum has neither of the two American ones, and is LGPL.


def digits_of(value: str) -> str:
    return "".join(character for character in value if character.isdigit())


def passes_luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of ISO/IEC 7812."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return bool(digits) and (sum(map(int, digits[-1::-2])) + sum(n // 10 + n % 10 for n in doubled)) % 10 == 0


def is_npi(value: str) -> bool:
    """Return whether ten digits are a National Provider Identifier: Luhn with the prefix 80840."""
    digits = digits_of(value)
    return len(digits) == 10 and digits[0] in "12" and passes_luhn(f"80840{digits}")


def is_dea_number(value: str) -> bool:
    """Return whether the seventh digit is the check digit of a DEA number."""
    digits = [int(digit) for digit in digits_of(value)[-7:]]
    return len(digits) == 7 and (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]
