"""Finds patients' data in text, with Presidio's recognisers and our own, and replaces it.

Importing this module loads spaCy, of which Presidio takes types alone: 1.8 s of CPU and 100 MB. Import it
where a filter is made, in a process that needs one (docs/decisions/0048-patients-data.md).

A label ("member ID", "DOB") takes the value that follows in the same sentence; a value without a label needs
a shape of its own. A number under another label ("order", "NDC", "BIN") is left alone. The patterns are in
``patient_patterns.toml``.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from typing import Any

from presidio_analyzer import PatternRecognizer
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    IpRecognizer,
    MedicalLicenseRecognizer,
    UsNpiRecognizer,
    UsSsnRecognizer,
)

from assistant.options.feedback.events import ReplacedText
from assistant.text.language import fold, language, word_groups, word_set
from assistant.text.values import digits_of


class PatientData(StrEnum):
    """What is replaced: the placeholder's name."""

    PERSON = "PERSON"
    PHONE_NUMBER = "PHONE_NUMBER"
    """A fax number, too."""
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
    files("assistant.options.feedback").joinpath("patient_patterns.toml").read_text("utf-8")
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


_PARTS.update({name.replace(" ", "_"): any_of(words) for name, words in word_groups("en_addresses").items()})
_PARTS.update({f"label_{name.replace(' ', '_')}": _any(name) for name in _GROUPS})
for _name, _part in _PATTERNS["parts"].items():
    _PARTS[_name] = _expanded(_part)
PATTERNS: Mapping[str, re.Pattern[str]] = {
    name: compiled(pattern) for name, pattern in _PATTERNS["patterns"].items()
}
_OTHER_NUMBER, _EXPLAINED = PATTERNS["other_number"], PATTERNS["explained"]
"""Directly before a number or its label: it is of another kind; before it in its sentence: what it is of."""
_YEAR = re.compile(r"(?:19|20)\d{2}")
_IS_DATE = re.compile(_expanded(r"(?:19|20)\d{2}([-/.])\d{1,2}\1\d{1,2}|%part%([-/.])%part%\2%year%"))
_TOLL_FREE = re.compile(r"\+?1?\W{0,2}8(?:00|33|44|55|66|77|88)\D")
_ALIKE = (PatientData.RX_NUMBER, PatientData.MEMBER_NUMBER)
_PLAIN_NUMBER = re.compile(_expanded(r"(?<![\w.$-])\d{5,12}(?![\w%-]|[.]\d)%no_unit%"))
_NO_STREET = word_set("en_stop") | word_set("en_units") | word_groups("en_patient_cues")["no street"]
_GIVEN, _SURNAMES = word_set("en_given_names"), word_set("en_surnames")
_LETTERS = re.compile(r"[^\W\d_]+")
_AFTER_LABEL = re.compile(
    r"(?:[^\d.!?]|(?<![\w.])\d{1,4}(?:\.\d)? ?(?:mg|mcg|ml|g|units?|iu|%|days?)\b|(?<=\bno)\.|(?<=\bo\.b)\.)*"
)
"""Between a label and its value: no digit and no end of a sentence."""
_MOST_BETWEEN = 48
"""Characters between a label and its value."""
_LONGEST_VALUE = 80
_MOST_VALUES = 10
"""Values that one label may have ("rx 123 and 456")."""
_LONGEST_BEFORE = 40
"""Characters that are read before a number for a label of another kind."""


# --- which values a pattern accepts ---


def _is_street(value: str) -> bool:
    """Whether the words between house number and street type may be a street's name."""
    match = PATTERNS["street"].match(value)
    if match is None or match["names"] is None:
        return True
    return not any(name.lower().strip(".") in _NO_STREET for name in match["names"].split())


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
    "personal": _is_personal,
    "no_mailbox": lambda value: PATTERNS["mailbox"].match(value) is None,
    "no_year": lambda value: _YEAR.fullmatch(value) is None,
}


def _has_digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda value: least <= len(digits_of(value)) <= most and not _IS_DATE.fullmatch(value)


def _accepts(entry: Mapping[str, Any]) -> Callable[[str], bool]:
    """Return what a value of this label or rule must be beside its pattern."""
    checks = [_ACCEPTS[entry["accepts"]]] if "accepts" in entry else []
    if "digits" in entry:
        checks.append(_has_digits(*entry["digits"]))
    return lambda value: all(check(value) for check in checks)


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
        kind, accepts = PatientData[entry["kind"]], _accepts(entry)
        name, shape = entry["words"], entry["value"]
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
    digits, refused = _has_digits(6, 20), PATTERNS["other_id"]
    yield _Label(PatientData.MEMBER_NUMBER, generic, code, None, digits, 0.8, refused)


_LABELS = tuple(_labels())
_ANY_LABEL = compiled(
    "|".join(
        label.words.pattern
        for label in _LABELS
        if label.before is not None and not label.is_near and label.kind is not PatientData.PHONE_NUMBER
    )
    + f"|{_any('other label')}"
)


# --- rules ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """How a value is recognised by its shape: the pattern's group ``value``."""

    kind: PatientData
    pattern: re.Pattern[str]
    score: float
    accepts: Callable[[str], bool]
    refused_after: re.Pattern[str] | None
    is_tried_again: bool
    """Whether the text of a refused match, from its second word, may hold another match."""


_RULES = tuple(
    _Rule(
        kind=PatientData[entry["kind"]],
        pattern=compiled(entry["pattern"]),
        score=entry["score"],
        accepts=_accepts(entry),
        refused_after=PATTERNS.get(entry.get("refused_after", "other_number")),
        is_tried_again=entry.get("is_tried_again", False),
    )
    for entry in _PATTERNS["rules"]
)


def find_values(text: str) -> Iterator[Finding]:
    """Yield what labels and rules find, and numbers as long as a found one. Findings may overlap: the better
    score counts."""
    alike: dict[int, PatientData] = {}
    for each in (*_by_labels(text), *_by_rules(text)):
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
    return (
        len(gap) <= _MOST_BETWEEN
        and _AFTER_LABEL.fullmatch(gap) is not None
        and _ANY_LABEL.search(gap) is None
    )


def _ends_with(pattern: re.Pattern[str] | None, text: str, at: int) -> bool:
    """Whether a pattern that ends at a place matches the text before it."""
    return pattern is not None and pattern.search(text[max(0, at - _LONGEST_BEFORE) : at]) is not None


def _by_rules(text: str) -> Iterator[Finding]:
    for rule in _RULES:
        for match in _matches(rule, text):
            start, end = match.span("value")
            if not _ends_with(rule.refused_after, text, start) and rule.accepts(text[start:end]):
                yield Finding(rule.kind, start, end, rule.score)


def _matches(rule: _Rule, text: str) -> Iterator[re.Match[str]]:
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


# --- names ---
# No language model is available. A name is reported when a list of given names or surnames knows it, when a
# word before or after it says that a person is meant ("caller", "Mrs", "said"), or when two unknown words
# with capital letters follow each other.

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_MOST_WORDS = 5
"""Words of one name, at most."""
_NAMED, _GREETED = PATTERNS["named"], PATTERNS["greeted"]
"""What comes before a name that may be on no list; what comes before a name, and before much else."""
_CUES = word_groups("en_patient_cues")
_OTHER_ENDINGS = tuple(_CUES["endings"])
"""Endings of medicines, diseases and derived English words: no list of common words has them all."""
_PARTICLES, _SUFFIXES, _TITLES = _CUES["particles"], _CUES["suffixes"], _CUES["titles"]
_SAINTS = frozenset({"st", "saint", "mount"})
_ADDRESSES = _CUES["addresses"]
"""Titles that stand before names alone."""
_PEOPLE, _AFTER_PEOPLE, _THINGS_OF_PEOPLE = _CUES["people"], _CUES["after people"], _CUES["things of people"]
_DISEASES_AFTER = _CUES["diseases after"]
_NOT_PEOPLE_AFTER = _DISEASES_AFTER | _CUES["not people after"]
_NOT_ALONE = _CUES["not alone"]
"""Names that are oftener a word: a title before them or a surname after them must say that a person is
meant."""
_NOT_LOWER = _CUES["not lower"]
"""Names that are a word where they have no capital letter."""
_VERBS = _CUES["verbs"]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word with what the lists say of it. ``end`` is before a possessive "'s"."""

    start: int
    end: int
    folded: str
    has_capital: bool
    is_upper: bool
    is_possessive: bool
    is_given: bool
    is_surname: bool
    is_ambiguous: bool
    """A name that is also an English word or a place."""
    is_other: bool
    """Never a name: a common word, a medicine, a company, …"""
    is_common: bool
    """Among the common words, and none that tells of people."""

    @property
    def is_listed(self) -> bool:
        return self.is_given or self.is_surname

    @property
    def is_sure(self) -> bool:
        return self.is_listed and not self.is_ambiguous

    @property
    def is_unknown(self) -> bool:
        """With a capital letter and on no list: a rare name, or a product."""
        return self.has_capital and not self.is_listed and not self.is_other

    @property
    def is_initial(self) -> bool:
        return len(self.folded) == 1 and self.has_capital


_AMBIGUOUS = word_set("en_name_words")
_NEVER = frozenset[str]().union(*word_groups("en_never_names").values())
_is_common = language("en").is_common


def _is_word(part: str) -> bool:
    is_name = part in _GIVEN or part in _SURNAMES
    return len(part) == 1 or part in _AMBIGUOUS or (_is_common(part) and not is_name)


def _word(match: re.Match[str]) -> _Word:
    written = match[0].replace("\u2019", "'")
    is_possessive = written.lower().endswith("'s")
    whole, bare = fold(written), written[:-2] if is_possessive else written
    folded = fold(bare)
    parts = folded.split("-")
    is_compound = len(parts) > 1 and any(_is_word(part) for part in parts)
    is_given = not is_compound and any(part in _GIVEN for part in parts)
    is_surname = not is_compound and any(part in _SURNAMES for part in parts)
    is_surname = is_surname or (folded.startswith(("mc", "o'")) and not _is_common(folded))
    is_never = whole in _NEVER or folded in _NEVER or folded in _TITLES or folded in _PEOPLE
    is_listed = (is_given or is_surname) and not (is_never and whole.endswith("'s"))
    is_common = _is_common(folded) or (folded.endswith("s") and _is_common(folded[:-1]))
    has_other_ending = folded.endswith(_OTHER_ENDINGS) and not folded.endswith(("vic", "vics"))
    return _Word(
        start=match.start(),
        end=match.end() - (2 if is_possessive else 0),
        folded=folded,
        has_capital=bare[:1].isupper(),
        is_upper=len(bare) > 1 and bare.isupper(),
        is_possessive=is_possessive,
        is_given=is_given and is_listed,
        is_surname=is_surname and is_listed,
        is_ambiguous=folded in _AMBIGUOUS or is_never,
        is_common=is_common
        and not is_never
        and folded not in _AFTER_PEOPLE | _NOT_PEOPLE_AFTER | _THINGS_OF_PEOPLE,
        is_other=not is_listed and (is_never or is_common or (has_other_ending and len(folded) > 4)),
    )


def find_names(text: str) -> list[Finding]:
    """Return the names of a text by their place. They do not overlap."""
    words = [_word(match) for match in _WORD.finditer(text)]
    labelled, greeted = ({match.end() for match in each.finditer(text)} for each in (_NAMED, _GREETED))
    read = _Reading(text, words, labelled=labelled, greeted=greeted - labelled)
    found = {name.start: name for name in read.names()}
    for name in _again(words, list(found.values())):
        found.setdefault(name.start, name)
    return sorted(found.values(), key=lambda name: name.start)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One text on its way through the rules."""

    text: str
    words: Sequence[_Word]
    labelled: set[int]
    """Places after words such as "her name is", where a name follows."""
    greeted: set[int]

    def names(self) -> Iterator[Finding]:
        at = 0
        while at < len(self.words):
            until = self._run(at) if self.words[at].has_capital else self._lower_run(at)
            score = self._score(at, until) if until > at else 0.0
            if score:
                last = self.words[until - 1]
                yield Finding(PatientData.PERSON, self.words[at].start, last.end, score)
            at = max(until, at + 1) if score else at + 1

    # where a name may end

    def _run(self, at: int) -> int:
        """Return the end of the run of words with capital letters that may be one name; ``at`` for none."""
        if not self._may_begin(at):
            return at
        until = at + 1
        while until < len(self.words) and until - at < _MOST_WORDS and self._goes_on(at, until):
            until += 1
        return until

    def _may_begin(self, at: int) -> bool:
        word = self.words[at]
        return not word.is_other and (not word.is_initial or self._is_before_name(at))

    def _is_before_name(self, at: int) -> bool:
        """Whether an initial has a word after it that may be a surname."""
        if at + 1 >= len(self.words) or self.text[self.words[at].end : self.words[at + 1].start] not in (
            ". ",
            ".",
            " ",
        ):
            return False
        following = self.words[at + 1]
        return following.has_capital and not following.is_other and not following.is_upper

    def _goes_on(self, at: int, until: int) -> bool:
        before, word = self.words[until - 1], self.words[until]
        gap = self.text[before.end : word.start]
        if before.is_possessive:
            return False
        if gap == ", ":
            is_turned = until == at + 1 and before.is_surname and word.is_given and word.has_capital
            return is_turned or (word.folded in _SUFFIXES and word.has_capital)
        if gap not in (" ", "  ") and not (gap in (". ", ".") and before.is_initial):
            return False
        if word.folded in _PARTICLES and not word.has_capital:
            following = self.words[until + 1 : until + 3]
            return any(each.has_capital and not each.is_other for each in following)
        if word.folded in _SUFFIXES:
            return word.has_capital
        is_common_surname = before.is_sure and before.is_given and word.is_common and not word.is_upper
        return word.has_capital and (not word.is_other or is_common_surname)

    def _lower_run(self, at: int) -> int:
        """Return the end of a name that was written without capital letters; ``at`` for none."""
        first = self.words[at]
        is_addressed = self._follows(at, _ADDRESSES) or first.start in self.labelled
        if first.is_other or len(first.folded) < 2:
            return at
        if first.folded in _VERBS or (first.folded in _NOT_ALONE | _NOT_LOWER and not is_addressed):
            return at
        if not is_addressed and not first.is_listed:
            return at
        until = at + 1
        while until < len(self.words) and until - at < 3 and not self.words[until - 1].is_possessive:
            word = self.words[until]
            if self.text[self.words[until - 1].end : word.start] != " ":
                break
            is_name = word.is_sure or (word.is_listed and first.is_given and word.folded not in _NOT_ALONE)
            is_rare = is_addressed and not word.is_other and not word.is_listed
            if not (is_name or is_rare):
                break
            until += 1
        return until

    # whether it is a name

    def _score(self, at: int, until: int) -> float:
        """Return how sure a run of words is a name; 0 for none."""
        words = [
            word for word in self.words[at:until] if not word.is_initial and word.folded not in _SUFFIXES
        ]
        if not words or self._is_other_thing(at, until):
            return 0.0
        if words[0].start != self.words[at].start and len(words) == 1:
            return 0.7 if words[0].is_listed or words[0].is_unknown else 0.0
        is_told = self._follows(at, _TITLES) or self.words[at].start in self.labelled
        if is_told:
            return 0.95
        if not words[0].has_capital:
            return self._score_of_lower(at, words)
        return self._score_of_several(words) if len(words) > 1 else self._score_of_one(at, words[0])

    def _is_other_thing(self, at: int, until: int) -> bool:
        """Whether the words around a run say that it names a company, a place or a disease."""
        last = self.words[until - 1]
        if self._follows(at, _SAINTS):
            return True
        if until >= len(self.words):
            return False
        following = self.words[until]
        gap = self.text[last.end : following.start]
        if last.is_possessive:
            return following.folded in _DISEASES_AFTER
        if gap not in (" ", "-"):
            return False
        is_told = self._follows(at, _TITLES) or self.words[at].start in self.labelled
        return following.folded in (_DISEASES_AFTER if is_told else _NOT_PEOPLE_AFTER)

    @staticmethod
    def _score_of_several(words: Sequence[_Word]) -> float:
        first, last = words[0], words[-1]
        if any(word.is_sure for word in words):
            return 0.9
        if any(word.is_upper for word in words):
            return 0.9 if first.is_given and last.is_surname else 0.0
        is_turned = first.is_surname and last.is_given
        if is_turned or (first.is_given and (last.is_surname or last.is_unknown)):
            return 0.7
        if all(word.is_unknown for word in words) or (first.is_unknown and last.is_surname):
            return 0.6
        return 0.0

    def _score_of_one(self, at: int, word: _Word) -> float:
        if word.is_upper and (not word.is_sure or len(word.folded) < 5):
            return 0.0
        if word.is_sure:
            return 0.85 if word.is_given else 0.75
        has_person = self._follows(at, _PEOPLE) or word.start in self.greeted
        is_person = self._precedes(at, _AFTER_PEOPLE)
        if word.folded in _NOT_ALONE:
            return 0.6 if has_person and word.folded not in _VERBS else 0.0
        return 0.6 if has_person or is_person else 0.0

    def _score_of_lower(self, at: int, words: Sequence[_Word]) -> float:
        has_person = self._follows(at, _PEOPLE)
        if len(words) > 1:
            return 0.85 if words[0].is_sure or (has_person and words[0].is_given) else 0.0
        word = words[0]
        if not word.is_sure:
            return 0.0
        if word.is_given:
            return 0.8
        return 0.65 if has_person else 0.0

    # the words around

    def _follows(self, at: int, words: frozenset[str]) -> bool:
        """Whether one of ``words`` is directly before the word at ``at``."""
        if at == 0:
            return False
        before = self.words[at - 1]
        gap = self.text[before.end : self.words[at].start]
        return (
            before.folded in words and not before.is_possessive and gap in (" ", ". ", ".", ", ", ": ", "  ")
        )

    def _precedes(self, at: int, words: frozenset[str]) -> bool:
        """Whether one of ``words`` is directly after the word at ``at``."""
        if at + 1 >= len(self.words):
            return False
        after = self.words[at + 1]
        gap = self.text[self.words[at].end : after.start]
        return after.folded in words and gap.lower() in (" ", "'s ", "\u2019s ", ", ", " (")


def _again(words: Sequence[_Word], found: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the other places of names that were found: a first name that is used again alone."""
    taken: set[int] = set()
    known: set[str] = set()
    names = iter(sorted(found, key=lambda name: name.start))
    name = next(names, None)
    for word in words:
        while name and name.end <= word.start:
            name = next(names, None)
        if name and name.start <= word.start:
            taken.add(word.start)
            if len(word.folded) > 2 and not word.is_ambiguous and word.has_capital:
                known.add(word.folded)
    for word in words:
        if word.folded in known and word.has_capital and word.start not in taken:
            yield Finding(PatientData.PERSON, word.start, word.end, 0.7)


# --- the filter ---

_LEAST_SCORE = 0.4
"""Least score of a finding of Presidio's: below are patterns that need a language model's words."""
_PREDEFINED: tuple[tuple[Callable[[], PatternRecognizer], PatientData, float], ...] = (
    (CreditCardRecognizer, PatientData.PAYMENT_CARD, 0.96),
    (UsNpiRecognizer, PatientData.NPI, 0.48),
    (MedicalLicenseRecognizer, PatientData.DEA_NUMBER, 0.85),
    (UsSsnRecognizer, PatientData.SOCIAL_SECURITY_NUMBER, 0.85),
    (IpRecognizer, PatientData.IP_ADDRESS, 0.85),
)
"""Presidio's own recognisers, with the score that they have beside labels. Those of e-mail and links miss
what ours find, those of telephone and member numbers find dates and codes
(docs/decisions/0048-patients-data.md)."""
_VERSION = re.compile(r"\b(?:v|ver|version|release|build|firmware|app)\.? ?(?:is |to )?\Z", re.IGNORECASE)
_LONGEST_VERSION = 20
_OLD_DATE, _DATE_BESIDE_NAME = 0.5, 0.8
_LEAST_AGE_BESIDE_NAME = 3
"""Years. A younger date is oftener the day of a fill than of a birth."""
_LEAST_AGE = 10
"""Years, of a date without a label and a name."""


class PatientsDataFilter:
    """Replaces patients' data by placeholders such as ``<PHONE_NUMBER>``.

    A message of 50 to 100 characters takes 0.7 ms of CPU, one of 200 with eight findings 2 ms. ``replace``
    waits for nothing; call it for long texts outside the event loop. It may be used by several threads.
    """

    def __init__(self) -> None:
        self._predefined = [(recognizer(), kind, score) for recognizer, kind, score in _PREDEFINED]
        self._this_year = datetime.now(UTC).year

    def replace(self, text: str) -> ReplacedText:
        """Return the text with a placeholder in place of each finding."""
        findings = self.find(text)
        pieces: list[str] = []
        at = 0
        for finding in findings:
            pieces += (text[at : finding.start], f"<{finding.kind}>")
            at = finding.end
        members = [finding for finding in findings if finding.kind is PatientData.MEMBER_NUMBER]
        return ReplacedText(
            text="".join((*pieces, text[at:])),
            found=dict(Counter(finding.kind.value for finding in findings)),
            member_numbers=tuple(text[member.start : member.end] for member in members),
        )

    def find(self, text: str) -> list[Finding]:
        """Return the findings by their place. Those that overlap are one, of the kind with the best score."""
        kept: list[Finding] = []
        for each in sorted(self._all(text), key=lambda each: each.start):
            if not kept or kept[-1].end <= each.start:
                kept.append(each)
                continue
            best = max(kept[-1], each, key=lambda finding: (finding.score, finding.end - finding.start))
            kept[-1] = Finding(best.kind, kept[-1].start, max(kept[-1].end, each.end), best.score)
        return kept

    def _all(self, text: str) -> Iterator[Finding]:
        yield from find_values(text)
        for recognizer, kind, score in self._predefined:
            for each in recognizer.analyze(text, recognizer.supported_entities):
                before = text[max(0, each.start - _LONGEST_VERSION) : each.start]
                is_version = kind is PatientData.IP_ADDRESS and _VERSION.search(before)
                if each.score >= _LEAST_SCORE and not is_version:
                    yield Finding(kind, each.start, each.end, score)
        names = find_names(text)
        yield from names
        yield from self._dates(text, {name.end for name in names})

    def _dates(self, text: str, names_end: set[int]) -> Iterator[Finding]:
        """Yield dates of birth without a label: old dates, and dates directly after a name."""
        for match in PATTERNS["full_date"].finditer(text):
            start, age = match.start(), self._age(match[0])
            ends = (end for end in range(start - 3, start + 1) if end in names_end)
            is_beside = any(not text[end:start].strip(" ,;|/(-") for end in ends)
            if is_beside and age >= _LEAST_AGE_BESIDE_NAME:
                yield Finding(PatientData.DATE_OF_BIRTH, *match.span(), _DATE_BESIDE_NAME)
            elif age >= _LEAST_AGE:
                yield Finding(PatientData.DATE_OF_BIRTH, *match.span(), _OLD_DATE)

    def _age(self, date: str) -> int:
        """Return how many years ago a date was; a year of two digits is in the last hundred years."""
        four = _YEAR.search(date)
        return self._this_year - int(four[0]) if four else (self._this_year - int(date[-2:])) % 100
