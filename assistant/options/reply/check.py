"""Checks a text for a patient, without a model: against the lines and live values of its answer, and against
what the patient said.

A value is a number with its unit, a date, time, phone number, code or name. It is *held* where one of these
texts has it, in whatever form: "two weeks" holds "14 days". Wording needs a model (``judge``;
docs/decisions/0123 has the figures).

A *moment* is a date ("11/3"), a time of day or a phone number; a *measure* a number with its unit,
("14", "day"), whose ``Amount`` is its size in one base unit, such as seconds.
"""

from __future__ import annotations

import re
from calendar import day_name, month_name
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import cached_property
from itertools import combinations, product, takewhile

from assistant.domain.answers import ReplyCheck
from assistant.text.language import (
    WORD,
    Language,
    SentenceSpan,
    fold,
    quantities,
    split_sentences,
    word_groups,
    word_set,
)
from assistant.text.values import DAY_S, MOST_DAYS, ONE, SECONDS, Amount, Values, amount_of, moments_of

_SAME = 0.02
"""Amounts of time are equal within this share: a month has 30 days, and a twelfth of a year."""
_LEAP_YEAR = 2024
"""Dates without a year are taken to be of it, so that 29 February is one."""
_MINUTE = 60.0
"""Seconds."""
_CLAUSE = re.compile(r"(?:(?! - )[^,;:!?\u2013\u2014])+")
_STEP = re.compile(r"^[ \t]{0,8}\d{1,3}[.)][ \t]", re.MULTILINE)
_PRONOUNS = frozenset({"1", "2"})
"""Numbers that are words of a sentence: "one of them", "the two"."""
_OF_DATES = frozenset(map(fold, (*month_name, *day_name)))
"""Names of months and days: no proper names."""
_GIVEN = word_set("en_given_names") | word_set("en_name_words")
_TITLES = word_groups("en_patient_cues")["titles"]
_PERSONS = _GIVEN | word_set("en_surnames") | _TITLES
_LONGEST_LINE, _LONGEST_OPENING, _LONGEST_NAME = 9, 4, 4
"""Words of a greeting or closing line; of what stands before a name ("Thank you for writing"); of a name
("Dr. Ana de Souza")."""
_CLOSING_LINES = 3
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

    ``lines``: of the answer's documents, each as "title\\nheading\\ntext" (``read_lines``). ``given``: live
    values and the messages of the conversation, the question last.

    Example: for the line "Damaged item\\n\\nThe desk ships a replacement within 14 days. Keep the item for 7
    days." and the question "when does the replacement ship":

    | text                                         | fault                          |
    | "A new one ships within three weeks."        | not_held, values ("3 week", …) |
    | "The desk ships no replacement in 14 days."  | none: wording is not compared  |
    | "A new one ships within two weeks."          | none                           |

    What code derives, a date that lies so many days after another one or the sum of two amounts, is
    "reckoned". A name in a greeting or closing line is no fault.
    """
    return tuple(_Check(lines, given, language).run(text))


class _Check:
    """The check of one text."""

    def __init__(self, lines: Sequence[str], given: Sequence[str], language: Language) -> None:
        self._language = language
        # without titles, headings and the number of a step
        bodies = [_STEP.sub("", line.split("\n", 2)[-1]) for line in lines]
        heads = ["\n".join(line.split("\n", 2)[:-1]) for line in lines]
        self._of_lines, self._given = (
            Values.joined([Values.of(text, language) for text in (*texts, "")])
            for texts in ((*heads, *bodies), given)
        )
        self._held = Values.joined([self._of_lines, self._given])

    def run(self, text: str) -> Iterator[ReplyCheck]:
        """Yield one fault at most for each sentence."""
        spans = split_sentences(text)
        derived, address = self._reckoned | self._sums(text), self._address(text, spans)
        for span in spans:
            names = self._other_names(span, but=address)
            foreign = tuple(dict.fromkeys((*self._foreign(span.text), *names)))
            if not_held := tuple(value for value in foreign if value not in derived):
                yield ReplyCheck.found("not_held", not_held[:20], words=span.text, start=span.start)
            elif foreign:
                yield ReplyCheck.found("reckoned", foreign[:20], words=span.text, start=span.start)

    # Values

    def _foreign(self, sentence: str) -> Iterator[str]:
        """Yield the values of a sentence that nothing holds, but for names."""
        moments, rest = moments_of(fold(sentence), stored=False)
        yield from (new for new in moments if new not in self._held.moments)
        claimed = quantities(rest)
        counted = quantities(ONE.sub("1 ", rest)).measures - claimed.measures  # "a week"
        yield from (" ".join(measure) for measure in claimed.measures if not self._holds(measure))
        yield from (" ".join(measure) for measure in counted if not self._holds_period(measure))
        yield from claimed.bare - self._held.quantities.values - _PRONOUNS
        yield from claimed.codes - self._held.quantities.codes

    def _holds(self, measure: tuple[str, str]) -> bool:
        """Return whether a number with its unit, ("14", "day"), is held: the same amount in any unit; the
        number without a unit in a line; or without a unit in what was given, where no text has it with
        one."""
        number, amount = measure[0], amount_of(measure)
        if measure == ("1", "time"):
            return True  # "one time": no value
        if _has(amount, self._held.amounts) or number in self._of_lines.quantities.bare:
            return True
        with_units = {value for value, _ in self._held.quantities.measures}
        return number in self._given.quantities.bare and number not in with_units

    def _holds_period(self, measure: tuple[str, str]) -> bool:
        """Return whether an amount without a number, "a week", is held: the amount, or the word. What is no
        time over a minute always is: "a form", "a second"."""
        is_period = amount_of(measure)[0] == SECONDS and amount_of(measure)[1] > _MINUTE
        word = self._language.stem(measure[1])
        return not is_period or _has(amount_of(measure), self._held.amounts) or word in self._held.stems

    def _other_names(self, span: SentenceSpan, *, but: tuple[int, int]) -> Iterator[str]:
        """Yield the names that nothing holds: words with a capital inside the sentence, and one that opens it
        or a clause and is no plain English. ``but``: as from ``_address``."""
        sentence, (greeting_end, closing) = span.text, but
        for word in WORD.finditer(sentence):
            if not greeting_end <= span.start + word.start() < closing:
                continue
            bare = word[0].removesuffix("'s")
            name, before = fold(bare), sentence[: word.start()].rstrip()
            is_inside = before != "" and (before[-1].isalnum() or before[-1] in ",;")
            is_name = bare.isalpha() and bare[0].isupper() and len(bare) > _SHORT
            is_held = name in self._names or self._language.stem(name) in self._held.stems
            is_plain = not is_inside and self._language.is_plain(name)
            if is_name and not (is_held or is_plain or name in _OF_DATES):
                yield bare

    def _address(self, text: str, spans: Sequence[SentenceSpan]) -> tuple[int, int]:
        """Return where a greeting ends and where a closing begins, by place and shape; 0 and the text's
        length without one.

        | place                                          | example                                     |
        | the first line, with a comma at its end        | "Hello Ana and family,"                     |
        | the first words, up to the end of a name       | "Hi Ana, ", "Good question, Dr. Weiss."     |
        | the last lines, after a sentence or empty line | "Stay well,", "Teresa from the refill line" |
        | the last words, with a name                    | "Kind regards, Sam"                         |
        """
        text, closing = text.rstrip(), len(text)
        first, *more = text.split("\n")
        if not spans:
            return 0, closing
        is_line = (
            first.rstrip().endswith(",") and self._is_line(first) and not self._orders(WORD.findall(first))
        )
        greeting_end = len(first) if is_line else spans[0].start + self._greeting_end(spans[0].text)
        start = len(text) + 1
        for line in reversed(more[-_CLOSING_LINES:]):
            start -= len(line) + 1
            above = text[:start].rstrip()
            if line.strip() and not self._is_line(line, above=above, is_last=start + len(line) == len(text)):
                break
            if line.strip() and (above[-1:] in ".!?" or text[:start].endswith("\n\n")):
                closing = start
        opening, _, name = map(WORD.findall, spans[-1].text.rpartition(", "))
        if fold(" ".join(name[:1])) in _GIVEN and "".join(name[1:]).islower():
            name = name[:1]  # "Teresa from the diabetes line"
        if spans[-1].start < closing and all(map(_is_title, name)) and self._calls(opening, name):
            closing = spans[-1].start
        return greeting_end, closing

    def _is_line(self, line: str, *, above: str = "", is_last: bool = True) -> bool:
        """Return whether a line greets or closes: it is short, has no number, is no sentence and no item of a
        list; and it, or the one ``above`` it, ends with a comma, or it names a person, or another closing
        line follows.

        "Kind regards," and "Take care, Sam", not "Take Metformin" and "Our courier is Humana".
        """
        line = line.strip().lstrip("\u2013\u2014 ")
        words = WORD.findall(line)
        if not 0 < len(words) <= _LONGEST_LINE or not line[0].isalpha() or line[-1] in ".!?:":
            return False
        is_name = "," in line or not is_last or all(word.istitle() for word in words)
        has_person = any(word.istitle() and fold(word) in _PERSONS for word in words)
        is_greeting = has_person or "," in (line[-1], above[-1:]) or (is_name and not self._orders(words))
        return is_greeting and not quantities(line).values

    def _greeting_end(self, sentence: str) -> int:
        """Return where the name ends that the first words of a text call: in its first clause at the end, or
        as a clause. 0 without one."""
        opening: list[str] = []
        for clause in _CLAUSE.finditer(sentence):
            words = WORD.findall(clause[0])
            names = list(takewhile(_is_title, reversed(words if opening else words[1:])))
            if opening and names and len(names) < len(words):  # "The wait is two days, says Dr. Brandt"
                return 0
            opening += words[: len(words) - len(names)]
            if names:
                is_near = clause.start() > 0 or len(opening) < _LONGEST_OPENING - 1  # "Good news of Humana"
                return clause.end() if is_near and self._calls(opening, names) else 0
        return 0

    def _calls(self, opening: Sequence[str], name: Sequence[str]) -> bool:
        """Return whether words before a name go with one that is called: "Thank you", "Ana", and neither
        "With", "Humana" nor "Take", "Metformin"."""
        names, begins = set(map(fold, name)), fold("".join(opening[:1]))
        if not 0 < len(opening) <= _LONGEST_LINE or any(map(_is_title, opening[1:])):
            return False
        is_opening = self._language.is_plain(begins) and not self._language.is_function(begins)
        is_short = len(opening) <= _LONGEST_OPENING and len(name) <= _LONGEST_NAME
        is_called = is_opening and (is_short or not names.isdisjoint(_TITLES))
        is_order = self._orders(opening) or any(self._orders([word]) for word in name)
        is_person = is_short and names <= _PERSONS
        return names <= _GIVEN or (not is_order and (is_called or is_person))

    def _orders(self, words: Sequence[str]) -> bool:
        """Return whether words may begin with an imperative: "Take care", and not "Thank you"."""
        verb, *more = map(fold, words)
        return verb not in _PERSONS and self._language.is_verb(verb) and more[:1] != ["you"]

    def _sums(self, text: str) -> frozenset[str]:
        """Return the measures of a text that are the sum of two others of it, which something holds: "15
        dollar" where it says 10 and 5 dollars, too."""
        said = quantities(moments_of(fold(text), stored=False)[1]).measures
        amounts = {measure: amount_of(measure) for measure in said}
        held = [amount for measure, amount in amounts.items() if self._holds(measure)]
        sums = {
            (one[0], round(one[1] + other[1], 9))
            for one, other in combinations(held, 2)
            if one[0] == other[0]
        }
        return frozenset(" ".join(measure) for measure, amount in amounts.items() if amount in sums)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(word.removesuffix("'s") for word in self._held.words)

    @cached_property
    def _reckoned(self) -> frozenset[str]:
        """The dates that lie a held number of days before or after a held date: "11/17" for "11/3" and
        "14 days"."""
        dates = [_date_of(moment) for moment in self._held.moments if "/" in moment]
        days = {round(size / DAY_S) for unit, size in self._held.amounts if unit == SECONDS}
        reckoned = (
            start + sign * timedelta(days=number)
            for start, number, sign in product(filter(None, dates), days, (1, -1))
            if 0 < number < MOST_DAYS
        )
        return frozenset(f"{day.month}/{day.day}" for day in reckoned)


def _is_title(word: str) -> bool:
    """Return whether a word has its first letter alone in capitals, and is no month or day."""
    return word.istitle() and fold(word) not in _OF_DATES


def _has(amount: Amount, amounts: frozenset[Amount]) -> bool:
    """Return whether an amount, (base unit, size), is among others; an amount of time also where it is near
    one."""
    if amount[0] != SECONDS:
        return amount in amounts
    return any(unit == SECONDS and abs(size - amount[1]) <= _SAME * size for unit, size in amounts)


def _date_of(moment: str) -> date | None:
    """Return the date of "month/day"; None where there is none such, "2/30"."""
    month, day = map(int, moment.split("/"))
    try:
        return date(_LEAP_YEAR, month, day)
    except ValueError:
        return None
