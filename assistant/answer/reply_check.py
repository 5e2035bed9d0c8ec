"""Checks a text for a patient, without a model: against the lines and live values of its answer, and against
what the patient said.

A value (number with its unit, date, time, phone number, code, name) is held where one of them has it, in
whatever form. What a sentence says is compared with the sentence of a line of which it is nearly all: other
paraphrases need a reader (``reply_judge``; docs/decisions/0123 has the figures).
"""

from __future__ import annotations

import re
from calendar import day_name, month_name
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import cached_property
from itertools import product

from assistant.answer.support import LEAST_WEIGHT, OPPOSITE, Piece, piece_of
from assistant.domain.answers import ReplyCheck
from assistant.text.language import (
    WORD,
    Language,
    fold,
    quantities,
    split_sentences,
)
from assistant.text.values import DAY_S, MOST_DAYS, ONE, SECONDS, Amount, Values, amount_of, moments_of

_ALMOST_ALL = 0.8
"""Share of its words' weight that a sentence has in common with one of a line when it repeats it."""
_SAME = 0.02
"""Amounts of time are one within this share: a month has 30 days, and a twelfth of a year."""
_LEAP_YEAR = 2024
"""Of dates without a year."""
_MINUTE = 60.0
_VALUE = re.compile(r"[ /:]")
"""In an amount, a date or a time: neither a bare number nor a code."""
_PRONOUNS = frozenset({"1", "2"})
"""Numbers that are words of a sentence: "one of them", "the two"."""
_OF_DATES = frozenset(map(fold, (*month_name, *day_name)))
_SHORT = 2
"""Letters of a word with a capital that is no name: "I", "PO"."""


def check_reply(
    text: str,
    *,
    lines: Sequence[str],
    given: Sequence[str],
    language: Language,
) -> tuple[ReplyCheck, ...]:
    """Return the faults of a text, in its order.

    ``lines``: of the answer's documents, each below its title and heading. ``given``: live values, and the
    messages of the conversation.
    """
    return tuple(_Check(lines, given, language).run(text))


class _Check:
    def __init__(self, lines: Sequence[str], given: Sequence[str], language: Language) -> None:
        self._language, self._question = language, given[-1] if given else ""
        bodies = [line.split("\n", 2)[-1] for line in lines]
        self._of_lines, self._given = (
            Values.joined([Values.of(each, language) for each in (*texts, "")]) for texts in (lines, given)
        )
        self._asked = Values.joined([Values.of(each, language) for each in (*bodies, "")])
        self._held = Values.joined([self._of_lines, self._given])
        self._stated = [one for each in bodies for one in self._sentences(each)]
        self._line_numbers = _numbers("\n".join(bodies))

    def run(self, text: str) -> Iterator[ReplyCheck]:
        spans = split_sentences(text)
        for span in spans:
            if foreign := tuple(dict.fromkeys(self._foreign(span.text))):
                yield ReplyCheck.found("not_held", foreign[:20], words=span.text, start=span.start)
            elif self._is_contradicted(span.text):
                yield ReplyCheck.found("contradicts", (), words=span.text, start=span.start)
        if missing := self._missing(text):
            yield ReplyCheck.found("missing", missing[:20])

    # Values

    def _foreign(self, sentence: str) -> Iterator[str]:
        """Yield the values that nothing holds."""
        moments, rest = moments_of(fold(sentence), stored=False)
        yield from (one for one in moments if one not in self._held.moments and one not in self._reckoned)
        claimed = quantities(rest)
        counted = quantities(ONE.sub("1 ", rest)).measures - claimed.measures
        yield from (" ".join(one) for one in claimed.measures if not self._holds(one))
        yield from (" ".join(one) for one in counted if not self._holds_period(one))
        yield from claimed.bare - self._held.quantities.values - _PRONOUNS
        yield from claimed.codes - self._held.quantities.codes
        yield from self._other_names(sentence)

    def _holds(self, measure: tuple[str, str]) -> bool:
        """Return whether a number with its unit is held: in another unit, or where it has none; not where it
        stands with another one."""
        number, amount = measure[0], amount_of(measure)
        if measure == ("1", "time"):
            return True
        if _has(amount, self._held.amounts) or number in self._of_lines.quantities.bare:
            return True
        with_units = {value for value, _ in self._held.quantities.measures}
        return number in self._given.quantities.bare and number not in with_units

    def _holds_period(self, measure: tuple[str, str]) -> bool:
        """Return whether "a week" is held: the amount, or the word."""
        is_period = amount_of(measure)[0] == SECONDS and amount_of(measure)[1] > _MINUTE
        word = self._language.stem(measure[1])
        return not is_period or _has(amount_of(measure), self._held.amounts) or word in self._held.stems

    def _other_names(self, sentence: str) -> Iterator[str]:
        """Yield the names that nothing holds: words with a capital inside the sentence, and one that opens it
        or a clause and is no common word."""
        for word in WORD.finditer(sentence):
            bare = word[0].removesuffix("'s")
            name, before = fold(bare), sentence[: word.start()].rstrip()
            is_inside = before != "" and (before[-1].isalnum() or before[-1] in ",;")
            is_name = bare.isalpha() and bare[0].isupper() and len(bare) > _SHORT
            is_held = name in self._names or self._language.stem(name) in self._held.stems
            is_common = not is_inside and self._language.is_common(name)
            if is_name and not (is_held or is_common or name in _OF_DATES):
                yield bare

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(word.removesuffix("'s") for word in self._held.words)

    @cached_property
    def _reckoned(self) -> frozenset[str]:
        """Return the dates that are held amounts of days before or after held dates."""
        dates = [_date_of(moment) for moment in self._held.moments if "/" in moment]
        days = {round(size / DAY_S) for unit, size in self._held.amounts if unit == SECONDS}
        reckoned = (
            one + sign * timedelta(days=number)
            for one, number, sign in product(filter(None, dates), days, (1, -1))
            if 0 < number < MOST_DAYS
        )
        return frozenset(f"{one.month}/{one.day}" for one in reckoned)

    # Statements

    def _sentences(self, text: str) -> list[Piece]:
        return [piece_of(span.text, self._language) for span in split_sentences(text)]

    def _is_contradicted(self, sentence: str) -> bool:
        """Return whether the line that it repeats says otherwise."""
        told = piece_of(sentence, self._language)
        line = max(self._stated, key=lambda one: self._likeness(told, one), default=told)
        return self._likeness(told, line) >= _ALMOST_ALL and _says_opposite(told, line)

    def _likeness(self, one: Piece, other: Piece) -> float:
        return self._common(one, other) / (
            max(sum(map(self._weight, each.stems)) for each in (one, other)) or 1.0
        )

    def _weight(self, stem: str) -> float:
        return LEAST_WEIGHT + self._language.rarity(stem)

    # What is missing

    def _missing(self, text: str) -> tuple[str, ...]:
        """Return the amounts, dates and times of the line that is nearest to the question, where the text has
        no value of the lines."""
        told, asked = Values.of(text, self._language), self._asked
        if any(self._told(one, told) for one in self._line_numbers) or told.moments & asked.moments:
            return ()
        question = piece_of(self._question, self._language)
        nearest = max(self._stated, key=lambda one: self._common(question, one), default=question)
        values = _numbers(nearest.text) if self._common(question, nearest) else set[str]()
        return tuple(sorted(one for one in values if _VALUE.search(one)))

    def _common(self, one: Piece, other: Piece) -> float:
        return sum(map(self._weight, one.stems.keys() & other.stems.keys()))

    def _told(self, value: str, told: Values) -> bool:
        """Return whether a text has a number, whatever its unit, or an amount in another unit."""
        number, _, unit = value.partition(" ")
        amount = amount_of((number, unit)) if unit else (number, 0.0)
        return number in told.quantities.values or _has(amount, told.amounts)


def _has(amount: Amount, amounts: frozenset[Amount]) -> bool:
    if amount[0] != SECONDS:
        return amount in amounts
    return any(unit == SECONDS and abs(size - amount[1]) <= _SAME * size for unit, size in amounts)


def _numbers(text: str) -> set[str]:
    """Return the numbers, codes, dates, times and amounts of a text."""
    moments, rest = moments_of(fold(text), stored=False)
    claimed, counted = quantities(rest), quantities(ONE.sub("1 ", rest))
    measures = (" ".join(one) for one in claimed.measures | counted.measures)
    return {*moments, *claimed.bare, *claimed.codes, *measures} - _PRONOUNS


def _says_opposite(one: Piece, other: Piece) -> bool:
    if one.marks["negation"] % 2 != other.marks["negation"] % 2:
        return True
    sides, conditions = one.sides, one.conditions
    if sides and other.sides and not sides & other.sides:
        return True
    return any(
        conditions & pair and other.conditions & pair and not conditions & other.conditions & pair
        for pair in OPPOSITE
    )


def _date_of(moment: str) -> date | None:
    month, day = map(int, moment.split("/"))
    try:
        return date(_LEAP_YEAR, month, day)
    except ValueError:
        return None
