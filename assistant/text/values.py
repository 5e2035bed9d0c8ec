"""Values of a text in one form: numbers, doses, codes, dates, times of day, phone numbers, proper names; and
the check digits of numbers that people type.

An answer may only claim values that its sources have: ``Values.of`` reads a source, ``missing`` compares a
sentence.
"""

from __future__ import annotations

import re
from calendar import day_abbr, month_abbr, month_name, monthrange
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from typing import Self

from assistant.text.language import UNIT_SIZES, WORD, Language, Quantities, fold, quantities

_MOST_VALUES = 20
"""Values that ``missing`` returns."""
_NAME = re.compile(
    r"(?:(?<=[^\W_] )|(?<=[,;)%] )|(?<=\b[DM][rs]\. )|(?<=[^\W_][/\u2013]))[\"'\u201c(]?"
    r"([A-Z][^\W\d_]+(?:[-'\u2019][^\W_]+)*)"
)
"""A proper name: a word with a capital inside a sentence, "Smith" in "Ask Smith", with a word, a comma, a
closing bracket or a title ("Dr.") before it. The first word of a sentence, or of what follows a colon or a
list number, is none."""
_MONTHS = {fold(name): n for names in (month_name, month_abbr) for n, name in enumerate(names) if n}
_MONTHS["sept"] = 9
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_NAMED_DATES = (
    re.compile(rf"\b(?P<month>{_MONTH})\.? (?P<day>\d\d?)(?:st|nd|rd|th)?\b(?!:)"),
    re.compile(rf"\b(?P<day>\d\d?)(?:st|nd|rd|th)? (?:of )?(?P<month>{_MONTH})\b"),
)
"""Dates with the name of a month, in folded text: "nov. 27th", "27th of november"."""
_DATES = (
    *_NAMED_DATES,
    re.compile(r"\b(?:\d{4}-)(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(r"\b(?P<month>\d\d?)/(?P<day>\d\d?)(?=/\d{2,4}\b)"),
    re.compile(r"\b(?P<month>0\d|1[0-2])/(?P<day>\d\d)\b(?!/)"),
)
"""Dates as values, without their year: answers and sources often write one without the other. Beside the
named ones "2026-11-27", "11/27" before "/2026", and "11/27"."""
_DATES_WITH_YEAR = (
    *(re.compile(rf"{each.pattern}(?:,? (?P<year>\d{{4}})\b)?") for each in _NAMED_DATES),
    re.compile(r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(r"(?<![\w/.-])(?P<month>\d\d?)/(?P<day>\d\d?)(?:/(?P<year>\d{4}|\d\d))?(?![\w/-]|\.\d)"),
)
"""Dates for counting days: as ``_DATES``, with the year where there is one."""
_SPANS = (
    *_DATES_WITH_YEAR,
    re.compile(r"\b(?P<day>\d\d?)\.\s?(?P<month>\d\d?)\.\s?(?P<year>\d{4})\b"),
    re.compile(r"\b(?P<year>20\d\d)(?P<month>0[1-9]|1[0-2])(?P<day>[0-3]\d)\b"),
    re.compile(r"\b(?P<year>20\d\d)[-/](?P<month>0[1-9]|1[0-2])\b"),
    re.compile(rf"\b(?P<month>{_MONTH})\.?,? (?P<year>\d{{4}})\b"),
    re.compile(rf"\b(?:from|in|since|until|till|before|after|by) (?P<month>{_MONTH})\b(?! \d)"),
    re.compile(r"\b(?:fy ?)?(?P<year>(?:19|20)\d\d)\b(?:[-/]\d\d(?:\d\d)?\b)?"),
)
"""Days, months and years, in folded text: "11/27/2026", "27.11.2026", "20261127", "2026-11", "november 2026",
"from november", "fy2026", "2026-27"."""
Span = tuple[date, date]
"""The first and the last day of a day, a month or a year."""
MOST_DAYS = 400
"""Most days to or from a date that are counted: a birthday is farther away."""
_AGO = re.compile(r"(?<![\w-])[\w-]{1,20} (?:day|week)s? ago\b")
_BEFORE_DATE = re.compile(r"\b(?:(?P<past>since)|(?P<coming>until|till))\s+(?:the\s+)?$")
"""A word before a date that says on which side of today it is."""
_LIMIT = re.compile(
    r"\b(?P<ahead>\d+) (?:calendar )?days before\b(?! an? )"
    r"|(?:\b(?:within|last|past|after|for|more than|lasts(?: at least)?)|:)"
    r" (?P<since>\d+) (?:calendar )?days\b(?! before)"
    r"|(?<!than )\b(?P<of>\d+) (?:calendar )?days (?:after|from|of|past|to)\b"
)
"""A limit in days, before an event or after it: "14 days before departure"; "within 7 days", "180 days from
the notice", "stays open for 14 days", "Limit: 90 days". Business days, days of a supply ("fewer than 3 days
of medicine") and notices that we give ("a text 3 days before a refill") are none."""
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
_ROOT = 5
"""Letters in which two stems of one word agree: "deliv" of "delivered", "deliveri" of "delivery"."""
_HALF_A_YEAR = 182
"""Days: of two dates without a year that lie farther apart, the second may be the earlier one."""
_NEAR = 3
"""Up to so many times its length a date is near a limit: farther away nobody asks whether it is over."""
_TIME = re.compile(r"\b(\d\d?)(?::(\d\d))?\s?(?:([ap])\.?m\b\.?|(?<=:\d\d)\b)|\b(noon|midnight)\b")
"""A time of day, "8 a.m.", "8:30 pm", "20:15", "noon": groups 1 and 2 are hour and minute, 3 is "a" or "p", 4
a word."""
_PHONE = re.compile(r"(?<!\d)(?:\+?1[ .-])?\(?(\d{3})\)?[ .-](\d{3})[ .-](\d{4})(?!\d)")
_DAYS = frozenset(map(fold, (*day_abbr, *month_abbr)))
"""Short names of days and months, which an answer may write for the long ones."""
ONE = re.compile(r"\b(?:an?|per|each|every|single)\s(?=[a-z])")
"""A word for one before a unit: "a tablet", "each day"."""
_ONCE_OR_TWICE = re.compile(r"\b(?:once|(twice))\b")
SECONDS, DAY_S = "s", 86_400
"""The unit that amounts of time are converted to, and a day in it."""
_LONGEST_AMOUNT = 16
"""Characters that a number and the unit after it may have, from the begin of the number."""
Amount = tuple[str, float]
"""Unit that a dimension is counted in, and how many of it: 24 hours are ("s", 86400.0), 2 tablets ("tablet",
2.0)."""
_LATIN_WORD = re.compile(r"\b[a-z]+\b")


@dataclass(frozen=True, slots=True)
class Values:
    """The values of source texts, which an answer must not exceed."""

    language: Language
    words: frozenset[str]
    stems: frozenset[str]
    """All folded words of the texts, and their stems, for names."""
    moments: frozenset[str]
    """Dates, times of day and phone numbers: "11/27", "20:15", "555-123-4567"."""
    quantities: Quantities
    amounts: frozenset[Amount]
    """Measures as ``amount_of`` converts them; "twice a day" has 2 times and 1 day too."""

    @classmethod
    def of(cls, text: str, language: Language) -> Self:
        """Return the values of one text."""
        folded = fold(text)
        words = frozenset(WORD.findall(folded))
        moments, rest = moments_of(folded, stored=True)
        numbers = quantities(rest)
        with_ones = _ONCE_OR_TWICE.sub(lambda match: "2 times" if match[1] else "1 time", ONE.sub("1 ", rest))
        amounts = frozenset(map(amount_of, numbers.measures | quantities(with_ones).measures))
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
        """Return the values of a sentence that these texts lack, at most _MOST_VALUES, numbers first; a
        number with a unit matches one without. "Take 10 mg at 8 p.m., says Kowalski." may lack "10 mg",
        "20:00" and "Kowalski".

        ``spelled``: numbers without a unit count in words too, "the two", "three exceptions"; else only in
        digits.
        """
        moments, rest = moments_of(fold(sentence), stored=False)
        claimed = quantities(rest)
        bare = claimed.bare - {"1"} if spelled else claimed.bare & quantities(_LATIN_WORD.sub(" ", rest)).bare
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
        names = (name for name in _NAME.findall(sentence) if not self._has_name(fold(name)))
        return tuple(dict.fromkeys((*sorted(numbers), *names)))[:_MOST_VALUES]

    def _has_name(self, name: str) -> bool:
        """Return whether each word of a folded proper name is in the texts, in some form, or is a common
        word."""
        language = self.language
        return all(
            language.is_common(word)
            or word in _DAYS
            or not self.words.isdisjoint((word, word.removesuffix("s"), word.removesuffix("'s")))
            or language.stem(word) in self.stems
            for word in WORD.findall(name)
        )


def counted_days(text: str, lines: Sequence[str], *, today: date, language: Language) -> str | None:
    """Return the days between the date of a text and today, where a line of a document limits them:
    "11/20/2026 to today, 11/27/2026: 7 days", "today, 11/27/2026, to 12/1/2026: 4 days"; of two dates in
    order the days between them, "11/20 to 12/1: 11 days"; "two weeks ago: 14 days". None where no line about
    the date has a limit in days, or more than one reading is left.

    A date is a past or a coming one: a word says which ("since", "until", "ago"), else the limit that it is
    near, which counts from an event or up to one. In a date of two numbers the first is the month; with a
    year it is the day if it is above 12. "1/2 tablet" and "24/7" are no dates, "11/3 or 11/4" no span.
    """
    found = list(_dates_in(fold(text), today=today))
    if len(found) not in (1, 2):
        return None
    matches, dates = [match for match, _ in found], [readings for _, readings in found]
    is_about, ahead, since = False, 0, 0
    for folded in map(fold, lines):
        for limit in _LIMIT.finditer(folded):
            # of a row of a table, the cells up to the one with the limit
            named = folded[: limit.end()] + folded[limit.end() :].partition(";")[0]
            names_it = len(dates) == 2 or any(_is_about(named, match, language=language) for match in matches)
            is_about, ahead = is_about or names_it, max(ahead, int(limit["ahead"] or 0))
            since = max(since, names_it * int(limit["since"] or limit["of"] or 0))
    ahead *= is_about
    if len(dates) == 2 and matches[0].string[matches[0].end() : matches[1].start()].strip() != "or":
        most = timedelta(min(_NEAR * max(ahead, since), _HALF_A_YEAR))
        spans = [(b - a, a, b) for a in dates[0] for b in dates[1] if a < b <= a + most]
        return "{1.month}/{1.day} to {2.month}/{2.day}: {0.days} days".format(*min(spans)) if spans else None
    days = [(then - today).days for then in dates[0]] if len(dates) == 1 else []
    days = [n for n in days if 0 < n <= _NEAR * ahead or 0 < -n <= _NEAR * since]
    if len(days) != 1:
        return None
    if matches[0].re is _AGO:  # the same each day, so a prompt with it stays recorded
        return f"{matches[0][0]}: {-days[0]} days"
    return _days_sentence(today + timedelta(days[0]), today=today)


def _dates_in(folded: str, *, today: date) -> Iterator[tuple[re.Match[str], list[date]]]:
    """Yield where a folded text has dates, in order, each with the last and the next such date, or one of
    both. Dates that are today, or MOST_DAYS or more away, are left out."""
    matches = (match for pattern in (*_DATES_WITH_YEAR, _AGO) for match in pattern.finditer(folded))
    for match in sorted(matches, key=re.Match[str].start):
        near = [day for day in _readings(match, today=today) if abs((day - today).days) < MOST_DAYS]
        side = _BEFORE_DATE.search(folded[: match.start()])
        past = [day for day in near if day < today and not (side and side["coming"])][-1:]
        coming = [day for day in near if day > today and not (side and side["past"])][:1]
        if today not in near and (past or coming):
            yield match, past + coming


def spans_in(text: str, *, today: date | None = None) -> tuple[list[Span], str]:
    """Return the days, months and years of a text, and the text without them, folded. One without a year is
    a coming one; without ``today`` it is none."""
    spans, folded = list[Span](), fold(text)
    if today is not None:
        folded = folded.replace("next year", str(today.year + 1)).replace("last year", str(today.year - 1))
    for pattern in _SPANS:
        matches = list(pattern.finditer(folded))
        found = [span for match in matches for span in _spans_of(match, today=today)]
        spans, folded = spans + found, pattern.sub(" ", folded) if found else folded
    return spans, folded


def _spans_of(match: re.Match[str], *, today: date | None) -> Iterator[Span]:
    """Yield what a match of ``_SPANS`` may be: of its year, else what comes this year or the next. Two
    numbers are none, "24/7"."""
    month, day, year = _numbers_of(match)
    coming = () if today is None or year or match["month"].isdecimal() else (today.year, today.year + 1)
    for each in coming or [year]:
        with suppress(ValueError):
            last = date(each, month or 12, day or monthrange(each, month or 12)[1])
            if year or today is None or last >= today:
                yield date(each, month or 1, day or 1), last


def _numbers_of(match: re.Match[str]) -> tuple[int, int, int]:
    """Return month, day and year of a date's match, 0 for what it has not. With a year the first of two
    numbers is the day if it is above 12."""
    parts = match.groupdict()
    numbers = (_MONTHS.get(parts.get(name) or "", parts.get(name) or 0) for name in ("month", "day", "year"))
    month, day, year = map(int, numbers)
    month, day = (day, month) if year and month > 12 else (month, day)
    return month, day, year + 2000 * (0 < year < 100)


def _is_about(line: str, match: re.Match[str], *, language: Language) -> bool:
    """Return whether a line has a word of the sentence in which a date stands."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    words = language.content_stems(f"{_SENTENCE_END.split(before)[-1]} {_SENTENCE_END.split(after)[0]}")
    pairs = product(words, language.content_stems(line))
    return any(a == b or (a[:_ROOT] == b[:_ROOT] and len(min(a, b, key=len)) >= _ROOT) for a, b in pairs)


def _readings(match: re.Match[str], *, today: date) -> list[date]:
    """Return the dates that a match of ``_DATES_WITH_YEAR`` may be: in its year, or in this one and those
    beside it; the day of one of ``_AGO``; none for an amount, "1/2 tablet"."""
    if match.re is _AGO:
        amounts = map(amount_of, quantities(ONE.sub("1 ", match[0])).measures)
        return [today - timedelta(seconds=size) for _, size in amounts]
    month, day, year = _numbers_of(match)
    day_and_after = match.string[match.start("day") :][:_LONGEST_AMOUNT]
    if not year and any(value == match["day"] for value, _ in quantities(day_and_after).measures):
        return []
    dates: list[date] = []
    for each in [year] if year else range(today.year - 1, today.year + 2):
        with suppress(ValueError):
            dates.append(date(each, month, day))
    return dates


def _days_sentence(then: date, *, today: date) -> str:
    """Return "11/20/2026 to today, 11/27/2026: 7 days"; the earlier date is first."""
    until, days = f"today, {_american_date(today)}", abs((today - then).days)
    between = f"{_american_date(then)} to {until}" if then < today else f"{until}, to {_american_date(then)}"
    return f"{between}: {days} day{'s' * (days > 1)}"


def _american_date(day: date) -> str:
    """Return "11/27/2026"."""
    return f"{day.month}/{day.day}/{day.year}"


def amount_of(measure: tuple[str, str]) -> Amount:
    """Return a measure (number, unit) in the unit that its dimension is counted in (``UNIT_SIZES``): ("24",
    "hour") and ("1", "day") are both ("s", 86400.0). A unit without a size is its own dimension."""
    size = UNIT_SIZES.get(measure[1])
    dimension, factor = (measure[1], 1.0) if size is None else size
    return dimension, round(float(measure[0]) * factor, 9)


def _time_of_day(match: re.Match[str]) -> Iterator[str]:
    """Yield the time of day of a match of ``_TIME`` as "20:15"; nothing for a number without minutes, "a" or
    "p"."""
    if match[4]:
        yield "12:00" if match[4] == "noon" else "0:00"
    elif match[2] or match[3]:
        hour = int(match[1]) % (12 if match[3] else 24) + 12 * (match[3] == "p")
        yield f"{hour}:{match[2] or '00'}"


def moments_of(folded: str, *, stored: bool) -> tuple[list[str], str]:
    """Return dates, times of day and phone numbers, each in one form, and the text without them.

    "Come on Nov. 27 at 8 p.m." has "11/27" and "20:00". ``stored``: the text is a document's. Then a date of
    two numbers counts with the month first and with the day first, and the text keeps its times, because an
    answer may say "8 to 5 p.m." for "8 a.m. to 5 p.m.".
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
        moments.extend(_time_of_day(match))
        return match[0] if stored else " "

    def phone(match: re.Match[str]) -> str:
        moments.append("-".join(match.groups()))
        return " "

    for pattern in _DATES:
        folded = pattern.sub(date, folded)
    return moments, _TIME.sub(time, _PHONE.sub(phone, folded))


# Check digits, written here: python-stdnum has neither of the two American ones, and is LGPL.


def digits_of(value: str) -> str:
    """Return the digits of a value, "555-0100" as "5550100"."""
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
    """Return whether the last of seven digits is the check digit of a DEA number: the last digit of the sum
    of the 1st, 3rd and 5th and twice the sum of the others."""
    digits = [int(digit) for digit in digits_of(value)[-7:]]
    return len(digits) == 7 and (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]
