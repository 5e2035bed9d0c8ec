"""Recognises values that lead to a patient: by the label before or after them, and by a shape of their own.

A label ("member ID", "DOB") takes the value that follows in the same sentence; a value without a label needs
a shape. A number under another label ("order", "NDC", "BIN") is left alone. The patterns are in
``patient_patterns.toml``.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from assistant.text.check_digits import digits_of
from assistant.text.language import word_groups, word_set


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


_PATTERNS: Mapping[str, Any] = tomllib.loads(
    files("assistant.learning").joinpath("patient_patterns.toml").read_text("utf-8")
)
_GROUPS = word_groups("en_patient_labels")
_PARTS: dict[str, str] = {}
"""Parts of patterns, and lists of words, by name."""


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern of the file, which does not tell capital letters."""
    return re.compile(_expanded(pattern), re.IGNORECASE)


def _expanded(pattern: str) -> str:
    whole = "".join(line.lstrip(" ") for line in pattern.split("\n"))
    return re.sub(r"%([a-z_]+)%", lambda part: _PARTS[part[1]], whole)


def any_of(words: Iterable[str]) -> str:
    """Return the pattern of these words, ``_`` as a space that may be missing; of none it never matches."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(re.escape(word).replace('_', ' ?') for word in longest_first) or '(?!)'})"


def _any(group: str) -> str:
    """Return the pattern of a group's words, each in singular and plural."""
    return rf"\b{any_of(_GROUPS.get(group, ()))}(?:'?s)?(?!\w)\.?"


_PARTS.update(
    {name.replace(" ", "_"): any_of(words) for name, words in word_groups("en_addresses").items()}
)
_PARTS.update({f"label_{name.replace(' ', '_')}": _any(name) for name in _GROUPS})
for _name, _part in _PATTERNS["parts"].items():
    _PARTS[_name] = _expanded(_part)
PATTERNS: Mapping[str, re.Pattern[str]] = {
    name: compiled(pattern) for name, pattern in _PATTERNS["patterns"].items()
}
_OTHER_NUMBER, _EXPLAINED = PATTERNS["other_number"], PATTERNS["explained"]
"""Directly before a number or its label: it is of another kind; before it in its sentence: what it is of."""
_REFUSED: Mapping[str | None, re.Pattern[str] | None] = {
    None: _OTHER_NUMBER,
    "explained": _EXPLAINED,
    "": None,
}
_IS_YEAR = re.compile(r"(?:19|20)\d{2}")
_IS_DATE = re.compile(_expanded(r"(?:19|20)\d{2}([-/.])\d{1,2}\1\d{1,2}|%part%([-/.])%part%\2%year%"))
_TOLL_FREE = re.compile(r"\+?1?\W{0,2}8(?:00|33|44|55|66|77|88)\D")
_ALIKE = (PatientData.RX_NUMBER, PatientData.MEMBER_NUMBER)
_PLAIN_NUMBER = re.compile(_expanded(r"(?<![\w.$-])\d{5,12}(?![\w%-]|[.]\d)%no_unit%"))
_NO_STREET = word_set("en_stop") | word_set("en_units") | word_groups("en_patient_cues")["no street"]
_GIVEN, _SURNAMES = word_set("en_given_names"), word_set("en_surnames")
_UNSURE_STREETS = word_groups("en_patient_cues")["unsure streets"]
_LETTERS = re.compile(r"[^\W\d_]+")
_AFTER_LABEL = re.compile(
    r"(?:[^\d.!?]|(?<![\w.])\d{1,4}(?:\.\d)? ?(?:mg|mcg|ml|g|units?|iu|%|days?)\b|(?<=\bno)\.|(?<=\bo\.b)\.)*"
)
"""Between a label and its value: no digit and no end of a sentence."""
_MOST_BETWEEN = 48
"""Characters between a label and its value."""
_MOST_WORDS_BETWEEN = 7
_LONGEST_VALUE = 80
_MOST_VALUES = 10
"""Of one label ("rx 123 and 456")."""
_LONGEST_BEFORE = 40
"""Characters that are read before a number for a label of another kind."""


# --- which values a pattern accepts ---


def _is_street(value: str) -> bool:
    """Whether the words between house number and street type may be a street's name."""
    match = PATTERNS["street"].match(value)
    if match is None or match["names"] is None:
        return True
    names = match["names"].split()
    if any(name.lower().strip(".") in _NO_STREET for name in names):
        return False
    has_capitals = all(name[0].isupper() or name[0].isdigit() for name in names)
    is_followed = re.search(r"\d|,", value[match.end() :]) is not None
    return has_capitals or match["suffix"].lower() not in _UNSURE_STREETS or is_followed or len(names) == 1


def _names_no_quantity(value: str) -> bool:
    """Whether none of the words after a number is a unit or a word that no street is called."""
    return not any(word.lower().strip(".,") in _NO_STREET for word in value.split()[1:4])


def _is_personal(link: str) -> bool:
    host, _, path = (link.partition("://")[2] or link).partition("/")
    names = [part.lower() for part in _LETTERS.findall(path)]
    pairs = itertools.pairwise(names)
    return (
        "@" in host
        or PATTERNS["personal"].search(f"/{path}") is not None
        or PATTERNS["personal"].match(f"{host}/{path}") is not None
        or any(given in _GIVEN and surname in _SURNAMES for given, surname in pairs)
    )


_ACCEPTS: Mapping[str, Callable[[str], bool]] = {
    "street": _is_street,
    "no_quantity": _names_no_quantity,
    "personal": _is_personal,
    "no_mailbox": lambda value: PATTERNS["mailbox"].match(value) is None,
}


def _has_digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda value: least <= len(digits_of(value)) <= most and not _IS_DATE.fullmatch(value)


def _accepts(entry: Mapping[str, Any]) -> Callable[[str], bool]:
    """Return what a value of this label or rule must be beside its pattern."""
    if "accepts" in entry:
        return _ACCEPTS[entry["accepts"]]
    return _has_digits(*entry["digits"]) if "digits" in entry else lambda _: True


# --- labels ---


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


def _labels() -> Iterator[_Label]:
    for entry in _PATTERNS["labels"]:
        kind, name, shape, accepts = (
            PatientData[entry["kind"]],
            entry["words"],
            entry["value"],
            _accepts(entry),
        )
        value = compiled(rf"(?<![\w.-])(?:{shape})(?![\w%])")
        refused = _OTHER_NUMBER if kind in (PatientData.PHONE_NUMBER, PatientData.PAYMENT_CARD) else None
        numbered, sure = _any(f"{name} numbered"), _any(f"{name} sure")
        far = rf"(?:{numbered}(?: card)? ?%number%|{sure}(?: card)?(?: ?%number%)?)"
        for words, is_near in ((far, False), (_any(f"{name} near"), True)):
            before = compiled(rf"(?<![\w.-])(?P<value>{shape})%is_called%")
            score = 0.9 if is_near else 0.95
            yield _Label(kind, compiled(words), value, before, accepts, score, refused, is_near)
        if f"{name} loose" in _GROUPS:
            loose = compiled(r"(?<![\w.$-])%loose%(?!\w)")
            words = compiled(_any(f"{name} loose"))
            yield _Label(kind, words, loose, None, _has_digits(5, 16), 0.45, _OTHER_NUMBER)
    code = compiled(r"(?<![\w.-])%code%(?!\w)")
    generic = compiled(r"\b(?:id|i\.d\.)(?: ?(?:#|number|no\b\.?))?")
    yield _Label(
        PatientData.MEMBER_NUMBER, generic, code, None, _has_digits(6, 20), 0.8, PATTERNS["other_id"]
    )


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
    accepts: Callable[[str], bool]
    refused_after: re.Pattern[str] | None
    is_tried_again: bool
    """Whether the text of a refused match, from its second word, may hold another match."""


def find_values(text: str, rules: Sequence[Rule]) -> Iterator[Finding]:
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
        between = PATTERNS["next"].match(text, found.end())
        found = between and label.value.match(text, between.end())
        if not found or not label.accepts(found[0]):
            return


def _may_lie_between(gap: str, label: _Label) -> bool:
    """Whether nothing but a few words without another label is between a label and its value."""
    if label.is_near:
        return PATTERNS["directly"].fullmatch(gap) is not None
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
    return _TOLL_FREE.match(value) is not None and PATTERNS["business"].search(before) is not None


def value_rules() -> tuple[Rule, ...]:
    """Return the rules of the file."""
    return tuple(
        Rule(
            kind=PatientData[entry["kind"]],
            pattern=compiled(entry["pattern"]),
            score=entry["score"],
            accepts=_accepts(entry),
            refused_after=_REFUSED[entry.get("refused_after")],
            is_tried_again=entry.get("is_tried_again", False),
        )
        for entry in _PATTERNS["rules"]
    )
