"""Recognises numbers and dates that lead to a patient: by the label before or after them, and by shape.

A label ("member ID", "DOB") takes the value that follows in the same sentence; a value without a label needs
a shape of its own. A number under another label ("order", "NDC", "BIN") is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from assistant.text.check_digits import digits_of
from assistant.text.language import word_groups


class PatientData(StrEnum):
    """What is replaced: the placeholder's name."""

    PERSON = "PERSON"
    PHONE_NUMBER = "PHONE_NUMBER"
    """Of fax too."""
    EMAIL_ADDRESS = "EMAIL_ADDRESS"
    SOCIAL_SECURITY_NUMBER = "SOCIAL_SECURITY_NUMBER"
    PAYMENT_CARD = "PAYMENT_CARD"
    NPI = "NPI"
    """National Provider Identifier."""
    DEA_NUMBER = "DEA_NUMBER"
    """A prescriber's registration with the Drug Enforcement Administration."""
    DATE_OF_BIRTH = "DATE_OF_BIRTH"
    ADDRESS = "ADDRESS"
    MEMBER_NUMBER = "MEMBER_NUMBER"
    RX_NUMBER = "RX_NUMBER"
    MEDICAL_RECORD_NUMBER = "MEDICAL_RECORD_NUMBER"
    IP_ADDRESS = "IP_ADDRESS"
    URL = "URL"
    """Only with parts that lead to a person."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A place in a text with patients' data."""

    kind: PatientData
    start: int
    end: int
    score: float
    """How sure its kind is, from 0 to 1."""


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the pattern, which does not tell capital letters."""
    return re.compile(pattern, re.IGNORECASE)


# --- shapes -----------------------------------------------------------------------------------------------
_APART = r"[-\u2010-\u2015\u2212. \u00a0]"
_YEAR = r"(?:(?:19|20)\d{2}|\d{2})"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_PART = r"(?:0?[1-9]|[12]\d|3[01])"
"""A day or a month."""
_FULL_DATE = (
    rf"(?:(?:19|20)\d{{2}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|{_PART}[-/.]{_PART}[-/.]{_YEAR}|"
    rf"{_MONTH}[ /-]{_DAY},?[ /-]'?(?:of )?{_YEAR}|{_DAY}[ /-](?:of )?{_MONTH}[ ,/-]{{1,2}}'?{_YEAR})"
)
_DATE = (
    rf"(?:{_FULL_DATE}|\d{{1,2}} \d{{1,2}} {_YEAR}|{_MONTH}[ -]{_DAY}|(?:the )?{_DAY}[ -](?:of )?{_MONTH}|"
    rf"{_MONTH} (?:19|20)\d{{2}}|\d{{8}}|\d{{6}}|\d{{1,2}}/\d{{1,2}}|(?:19|20)\d{{2}})"
)
FULL_DATE = compiled(rf"(?<![\w/.-]){_FULL_DATE}(?![\w/-])")
"""A date with day, month and year."""
_IS_YEAR = re.compile(r"(?:19|20)\d{2}")
_IS_DATE = re.compile(rf"(?:19|20)\d{{2}}([-/.])\d{{1,2}}\1\d{{1,2}}|{_PART}([-/.]){_PART}\2{_YEAR}")
_PHONE = (
    rf"(?:\+?1{_APART}?)?(?:\(\d{{3}}\) ?[-\u2010-\u2015\u2212]?|\d{{3}}(?:{_APART}|/))\d{{3}}{_APART}\d{{4}}"
    r"(?:,? ?(?:x|ext\.?|extension) ?\d{1,6})?"
)
_ANY_PHONE = rf"{_PHONE}|1?\d{{10}}|\d{{3}}{_APART}\d{{4}}|\d{{3}}{_APART}\d{{7}}"
_CODE = (
    r"(?<!\w)(?!(?:is|was|the|for|her|his|are|and|of|on|it|its|in|my|at|to|no|as|but|has|had|out|too|or)\b|"
    r"(?:id|ids|num|nr|rx)\b(?![-_#]\d))"
    r"(?:[a-z]{1,8}[-/]?|rx[_#]|(?-i:[A-Z]{1,4}[ -]){1,2}|[a-z]{1,3} )?\d[a-z\d]{0,19}"
    r"(?:[-./*#_\u2010-\u2015][a-z\d]{1,14}| [-/\u2013] \d{3,12}(?![\w/])| ?/ ?0\d(?![\w/])| ?\(0\d{1,2}\)| "
    r"\d{2,12}[a-z\d]{0,6}(?![\w/])| \d(?= \d)| (?-i:[A-Z]{1,3}\d{1,12}[A-Z\d]{0,6})| "
    r"(?-i:[A-Z]{2,4})(?=[ -]\d)| (?-i:[A-HJ-Z])(?!\w)| \d(?= ?(?:[.,;:!?)]|\Z))){0,9}"
)
"""Letters and digits with a digit in them, in groups."""
_CARD = r"\d{4}(?:[ -]?\d{4}){3}|\d{4}[ -]?\d{6}[ -]?\d{5}"
_SOCIAL = rf"(?:\d{{3}}|[x*]{{3}}){_APART}?(?:\d{{2}}|[x*]{{2}}){_APART}?\d{{4}}"
_LOOSE = r"[a-z]{0,4}-?\d{5,12}[a-z]?(?:-\d{1,3})?(?!%|[./]\d)"
_NO_UNIT = r"(?! ?(?:units?|iu|mg|mcg|ml|g|%|dollars|usd|tablets|people|patients|steps|miles)\b)"
_ALIKE = (PatientData.RX_NUMBER, PatientData.MEMBER_NUMBER)
_PLAIN_NUMBER = re.compile(rf"(?<![\w.$-])\d{{5,12}}(?![\w%-]|[.]\d){_NO_UNIT}")


def _has_digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda value: least <= len(digits_of(value)) <= most and not _IS_DATE.fullmatch(value)


def _is_rx(value: str) -> bool:
    return _has_digits(4, 24)(value) and _IS_YEAR.fullmatch(value) is None


# --- labels -----------------------------------------------------------------------------------------------
_NUMBER = r"(?:id(?:entification)?s?(?: ?(?:#|numbers?|no\b\.?))?|numbers?|nos?\b\.?|(?:num|nr|nbr)\b\.?|#)"
_GROUPS = word_groups("en_patient_labels")


def any_of(words: Iterable[str]) -> str:
    """Return the pattern of these words, ``_`` as a space that may be missing; of none it never matches."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(re.escape(word).replace('_', ' ?') for word in longest_first) or '(?!)'})"


def _any(group: str) -> str:
    """Return the pattern of a group's words, each in singular and plural."""
    return rf"\b{any_of(_GROUPS.get(group, ()))}(?:'?s)?(?!\w)\.?"


_AFTER_LABEL = re.compile(
    r"(?:[^\d.!?]|(?<![\w.])\d{1,4}(?:\.\d)? ?(?:mg|mcg|ml|g|units?|iu|%|days?)\b|(?<=\bno)\.|(?<=\bo\.b)\.)*"
)
"""Between a label and its value: no digit and no end of a sentence."""
_DIRECTLY = compiled(
    r"[ :#=\-\u2013(]*"
    r"(?:(?:is|was|are|were|no|number|says|said|reads|has|had|shows|ending|ends)(?: in| with)?[ :.#]+)?"
)
_IS_CALLED = (
    r"(?:,? (?:is|was|being) (?:the |her |his |their |my |its )?(?:patient's )?| ?\((?:the |her |his )?)\Z"
)
_NEXT = compiled(r"(?:,? and|,? or|,? &|,|/|;) ?(?:also |then )?")
_MOST_BETWEEN = 48
"""Characters between a label and its value."""
_MOST_WORDS_BETWEEN = 7
_LONGEST_VALUE = 80
_MOST_VALUES = 10
"""Of one label ("rx 123 and 456")."""
_LONGEST_BEFORE = 40
"""Characters that are read before a number for a label of another kind."""
_OTHER_NUMBER = compiled(rf"{_any('other number')}[ :]*(?:{_NUMBER}|card)?[ :=#]*(?:is |was )?\Z")
"""Directly before a number or its label: it is of another kind."""
_EXPLAINED = compiled(
    rf"(?:{_any('other far')}(?: [a-z#:]+){{0,4}}[ :#(=]*|"
    rf"{_any('other unless')}(?: (?!(?:for|on|of|rxs?|prescription|script|refill|fill)\b)[a-z#:]+){{0,4}}"
    r"[ :#(=]*|"
    rf"{_any('other near')}(?: (?:is|was|number|no|id|shipped|under|code|#)\.?)*[ :#(=]*|\$ ?)\Z"
)
"""Before a number in its sentence: what it is a number of."""
_OTHER_ID = compiled(rf"{_any('other id')}(?:'s)?[ :]*\Z")
_TOLL_FREE = re.compile(r"\+?1?\W{0,2}8(?:00|33|44|55|66|77|88)\D")
_BUSINESS = compiled(_any("business"))


@dataclass(frozen=True, slots=True)
class _Label:
    """Words that say of what kind the value after or before them is."""

    kind: PatientData
    words: re.Pattern[str]
    value: re.Pattern[str]
    before: re.Pattern[str] | None
    """The value before the label."""
    accepts: Callable[[str], bool]
    score: float
    refused_after: re.Pattern[str] | None = None
    is_near: bool = False
    """Whether the value must follow directly."""


_TABLE: Sequence[tuple[PatientData, str, str, Callable[[str], bool]]] = (
    (PatientData.MEMBER_NUMBER, "member", _CODE, _has_digits(4, 20)),
    (PatientData.RX_NUMBER, "rx", _CODE, _is_rx),
    (PatientData.MEDICAL_RECORD_NUMBER, "record", _CODE, _has_digits(4, 14)),
    (PatientData.NPI, "npi", r"\d{10}|\d{3}[ -]\d{3}[ -]\d{4}", _has_digits(10, 10)),
    (PatientData.DEA_NUMBER, "dea", r"[a-z][a-z9][ -]?\d{7}", _has_digits(7, 8)),
    (PatientData.SOCIAL_SECURITY_NUMBER, "social", _SOCIAL, _has_digits(4, 9)),
    (PatientData.PHONE_NUMBER, "phone", _ANY_PHONE, _has_digits(7, 17)),
    (PatientData.DATE_OF_BIRTH, "birth", _DATE, lambda _: True),
    (
        PatientData.PAYMENT_CARD,
        "card",
        r"\d{4}(?:[ -]?\d{4}){3}|\d{4}[ -]?\d{6}[ -]?\d{5}",
        _has_digits(15, 16),
    ),
    (PatientData.ADDRESS, "zip", r"\d{5}(?:-\d{4})?", _has_digits(5, 9)),
)


def _labels() -> Iterator[_Label]:
    for kind, name, shape, accepts in _TABLE:
        value = compiled(rf"(?<![\w.-])(?:{shape})(?![\w%])")
        refused = _OTHER_NUMBER if kind in (PatientData.PHONE_NUMBER, PatientData.PAYMENT_CARD) else None
        numbered, sure = _any(f"{name} numbered"), _any(f"{name} sure")
        far = rf"(?:{numbered}(?: card)? ?{_NUMBER}|{sure}(?: card)?(?: ?{_NUMBER})?)"
        for words, is_near in ((far, False), (_any(f"{name} near"), True)):
            before = compiled(rf"(?<![\w.-])(?P<value>{shape}){_IS_CALLED}")
            score = 0.9 if is_near else 0.95
            yield _Label(kind, compiled(words), value, before, accepts, score, refused, is_near)
        if f"{name} loose" in _GROUPS:
            loose = compiled(rf"(?<![\w.$-]){_LOOSE}(?!\w)")
            words = compiled(_any(f"{name} loose"))
            yield _Label(kind, words, loose, None, _has_digits(5, 16), 0.45, _OTHER_NUMBER)
    code = compiled(rf"(?<![\w.-]){_CODE}(?!\w)")
    generic = compiled(r"\b(?:id|i\.d\.)(?: ?(?:#|number|no\b\.?))?")
    yield _Label(PatientData.MEMBER_NUMBER, generic, code, None, _has_digits(6, 20), 0.8, _OTHER_ID)


_LABELS = tuple(_labels())
_ANY_LABEL = compiled(
    "|".join(
        each.words.pattern
        for each in _LABELS
        if each.before is not None and not each.is_near and each.kind is not PatientData.PHONE_NUMBER
    )
    + f"|{_any('other label')}"
)


# --- rules ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a value is recognised by its shape: the pattern's group ``value``."""

    kind: PatientData
    pattern: re.Pattern[str]
    score: float
    accepts: Callable[[str], bool] = lambda _: True
    refused_after: re.Pattern[str] | None = _OTHER_NUMBER
    is_tried_again: bool = False
    """Whether the text of a refused match, from its second word, may hold another match."""


def find_numbers(text: str, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Yield what labels and rules find, and numbers as long as a found one. Findings may overlap: the better
    score counts."""
    alike: dict[int, PatientData] = {}
    for each in (*_by_labels(text), *_by_rules(text, rules)):
        value = text[each.start : each.end]
        if each.kind is PatientData.PHONE_NUMBER and _is_of_business(text, each.start, value):
            continue
        yield each
        if each.kind in _ALIKE and value.isdigit() and len(value) in range(5, 13):
            alike.setdefault(len(value), each.kind)
    if alike:
        for match in _PLAIN_NUMBER.finditer(text):
            if (kind := alike.get(len(match[0]))) and not _ends_with(_EXPLAINED, text, match.start()):
                yield Finding(kind, *match.span(), 0.43)


def _by_labels(text: str) -> Iterator[Finding]:
    for label in _LABELS:
        for words in label.words.finditer(text):
            if label.before is not None:
                start = max(0, words.start() - _LONGEST_VALUE)
                value = label.before.search(text[start : words.start()])
                if value and label.accepts(value["value"]):
                    yield Finding(label.kind, start + value.start("value"), start + value.end("value"), 0.9)
            if not _ends_with(label.refused_after, text, words.start()):
                yield from _values_after(text, words.end(), label)


def _values_after(text: str, at: int, label: _Label) -> Iterator[Finding]:
    """Yield the value after a label, and those that are listed with it."""
    end = at + _MOST_BETWEEN + _LONGEST_VALUE
    found = next((each for each in label.value.finditer(text, at, end) if label.accepts(each[0])), None)
    if found is None or not _may_lie_between(text[at : found.start()], label):
        return
    for _ in range(_MOST_VALUES):
        yield Finding(label.kind, *found.span(), label.score)
        between = _NEXT.match(text, found.end())
        found = between and label.value.match(text, between.end())
        if not found or not label.accepts(found[0]):
            return


def _may_lie_between(gap: str, label: _Label) -> bool:
    """Whether nothing but a few words without another label is between a label and its value."""
    if label.is_near:
        return _DIRECTLY.fullmatch(gap) is not None
    is_short = len(gap) <= _MOST_BETWEEN and len(gap.split()) <= _MOST_WORDS_BETWEEN
    return is_short and _AFTER_LABEL.fullmatch(gap) is not None and _ANY_LABEL.search(gap) is None


def _ends_with(pattern: re.Pattern[str] | None, text: str, at: int) -> bool:
    """Whether a pattern that ends at a place matches the text before it."""
    return pattern is not None and pattern.search(text[max(0, at - _LONGEST_BEFORE) : at]) is not None


def _by_rules(text: str, rules: Sequence[Rule]) -> Iterator[Finding]:
    for rule in rules:
        for match in _matches(rule, text):
            start, end = match.span("value")
            if not _ends_with(rule.refused_after, text, start) and rule.accepts(text[start:end]):
                yield Finding(rule.kind, start, end, rule.score)


def _matches(rule: Rule, text: str) -> Iterator[re.Match[str]]:
    at = 0
    while match := rule.pattern.search(text, at):
        yield match
        is_refused = rule.is_tried_again and not rule.accepts(match["value"])
        words = match[0].split(None, 1)
        at = match.end() - len(words[1]) if is_refused and len(words) == 2 else max(match.end(), at + 1)


def _is_of_business(text: str, start: int, value: str) -> bool:
    """Whether a toll-free number belongs to a company."""
    before = text[max(0, start - 2 * _LONGEST_BEFORE) : start]
    return _TOLL_FREE.match(value) is not None and _BUSINESS.search(before) is not None


def number_rules() -> Iterator[Rule]:
    """Yield the rules of numbers and of dates of birth without a label before them."""
    kinds = PatientData
    social = r"(?:ssn|social(?: security)?(?: number)?)"
    letter, either = "[ac-hj-kmnp-rt-y]", r"[ac-hj-kmnp-rt-y\d]"
    medicare = rf"[1-9]{letter}{either}\d[ -]?{letter}{either}\d[ -]?{letter}{{2}}\d{{2}}"
    mixed = (
        r"(?-i:(?=(?:[A-Z-]{0,9}\d){4})(?:\d{1,9}[A-Z]{1,9}-?\d[A-Z\d-]{0,12}|"
        r"[A-Z]{1,9}\d{1,9}-?[A-Z]{1,9}\d[A-Z\d-]{0,12}))"
    )
    shapes: Sequence[tuple[PatientData, str, float]] = (
        (kinds.SOCIAL_SECURITY_NUMBER, r"(?:xxx|\*\*\*)-?(?:xx|\*\*)-?\d{4}", 0.85),
        (kinds.PHONE_NUMBER, r"1?[2-9]\d{2}[2-9]\d{6}", 0.5),
        (kinds.PHONE_NUMBER, r"555[-\u2010-\u2015\u2212]\d{4}", 0.6),
        (kinds.PHONE_NUMBER, _PHONE, 0.75),
        (kinds.MEMBER_NUMBER, medicare, 0.97),
        (kinds.MEMBER_NUMBER, rf"(?=\S{{8}}){mixed}", 0.42),
        (kinds.RX_NUMBER, r"rx[-_#]?\d{5,12}[a-z]{0,2}(?:-\d{1,3})?", 0.95),
        (kinds.MEDICAL_RECORD_NUMBER, r"mrn[-#]?\d{4,12}", 0.95),
    )
    for kind, shape, score in shapes:
        pattern = compiled(rf"(?<![\w.-])(?P<value>{shape})(?![\w-])(?!\.\d)")
        yield Rule(kind=kind, pattern=pattern, score=score)
    abroad = rf"(?<![\w.-])(?P<value>\+\d{{1,3}}(?:{_APART}?\(?\d{{1,4}}\)?){{2,6}})(?![\w-])(?!\.\d)"
    yield Rule(kind=kinds.PHONE_NUMBER, pattern=compiled(abroad), score=0.7, accepts=_has_digits(8, 15))
    last_four = (
        r"(?:\blast (?:4|four)(?: digits)?(?: of| on)?(?: the| her| his| their| my)?"
        rf"[^.!?\d]{{0,20}}{social}[^.!?\d]{{0,20}}|"
        rf"\b{social}[^.!?\d]{{0,20}}(?:last (?:4|four)|ending|ends)[^.!?\d]{{0,12}})(?P<value>\d{{4}})(?!\w)"
    )
    yield Rule(kind=kinds.SOCIAL_SECURITY_NUMBER, pattern=compiled(last_four), score=0.9)
    date = rf"(?<![\w/.-])(?P<value>{_FULL_DATE}) (?:dob|d\.o\.b\.?)(?![\w:]| ?[\d(:])"
    yield Rule(kind=kinds.DATE_OF_BIRTH, pattern=compiled(date), score=0.85)
    judged = (
        rf"(?<![\w.$/-])(?P<value>\d{{5,8}})(?![\w%-]|[./]\d){_NO_UNIT}[^\d.!?\n]{{0,16}}\b(?:too soon|"
        r"reject|rejected|rejects|rejecting|ready|stuck|on hold|early|filled|refill|reversed|transferred)\b"
    )
    yield Rule(kind=kinds.RX_NUMBER, pattern=compiled(judged), score=0.43, refused_after=_EXPLAINED)
    for kind, value in (  # long numbers that no word explains are taken for identifiers of a patient
        (kinds.RX_NUMBER, r"[a-z]{0,2}-?\d{6,8}(?:-\d{1,6})?|\d{2,4}-\d{5,7}"),
        (kinds.MEMBER_NUMBER, r"[a-z]{0,3}-?\d{9,12}(?:-\d{1,3})?|[a-z]{1,4}\d{6,12}[a-z]?"),
    ):
        pattern = compiled(rf"(?<![\w.$/-])(?P<value>{value})(?![\w-]|[./]\d){_NO_UNIT}")
        accepts = _has_digits(6, 16)
        yield Rule(kind=kind, pattern=pattern, score=0.42, accepts=accepts, refused_after=_EXPLAINED)
