"""Finds patients' data in text, with Presidio's recognisers and our own, and replaces it.

``PatientsDataFilter`` at the end is what others use. It joins the findings of five recognisers, in which this
file is ordered; where findings overlap, the one with the best score gives the placeholder's name:

1. Labels: "member ID", "DOB" take the value that follows in the same sentence, or the value before them.
2. Rules: a value without a label needs a shape of its own, as "614-555-0188" or "19 Willow Creek Ln".
   A number after a label of another kind ("order", "NDC", "BIN") is left alone by both.
3. Names, by lists of names and by the words around them.
4. Presidio's own recognisers, where they find as much as ours.
5. Dates without a label that are probably dates of birth.

The patterns are in ``patient_patterns.toml``; the words of its labels in ``words/en_patient_labels.txt``.
Scores are ranks from 0 to 1 that were tuned on ``evaluation/patients_data``: they are no probabilities, and
only Presidio's findings are dropped for a low one.

Importing this module loads spaCy, of which Presidio takes types alone: 1.8 s of CPU and 100 MB. Import it
where a filter is made, in a process that needs one (docs/decisions/0048-patients-data.md).
"""

from __future__ import annotations

import itertools
import re
import tomllib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
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

from assistant.options.desk.events import ReplacedText
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
    """A place in a text with patients' data: ``text[start:end]``."""

    kind: PatientData
    start: int
    end: int
    score: float
    """From 0 to 1. Where findings overlap, the kind of the highest score is taken."""


_PATTERNS: Mapping[str, Any] = tomllib.loads(
    files("assistant.options.desk").joinpath("patient_patterns.toml").read_text("utf-8")
)
_LABEL_WORDS = word_groups("en_patient_labels")
"""Words by group, such as "member numbered" and "other number"; ``_labels`` tells what the groups mean."""


# --- patterns: %name% in a pattern of the file stands for a part ---


def _expanded(pattern: str, parts: Mapping[str, str]) -> str:
    """Return a pattern of the file as ``re`` takes it: "%year%x" -> "(?:(?:19|20)\\d{2}|\\d{2})x".

    Line breaks, and the spaces after them, are there for readers alone and are removed.
    """
    on_one_line = "".join(line.lstrip(" ") for line in pattern.split("\n"))
    return re.sub(r"%([a-z_]+)%", lambda part: parts[part[1]], on_one_line)


def any_of(words: Iterable[str]) -> str:
    """Return a pattern of these words: {"po", "post_office"} -> "(?:post ?office|po)".

    ``_`` is a space that may be missing. Without words the pattern never matches.
    """
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(re.escape(word).replace('_', ' ?') for word in longest_first) or '(?!)'})"


def _any_label_word(group: str) -> str:
    """Return the pattern of the words of a group of labels, each in singular and plural. A group that is
    missing gives a pattern that never matches."""
    return rf"\b{any_of(_LABEL_WORDS.get(group, ()))}(?:'?s)?(?!\w)\.?"


def _pattern_parts() -> dict[str, str]:
    """Return what %name% stands for, by name: words of addresses ("streets"), words of labels
    ("label_other_number"), and the parts of the file, each of which may use those above it."""
    parts = {name.replace(" ", "_"): any_of(words) for name, words in word_groups("en_addresses").items()}
    parts |= {f"label_{group.replace(' ', '_')}": _any_label_word(group) for group in _LABEL_WORDS}
    for name, pattern in _PATTERNS["parts"].items():
        parts[name] = _expanded(pattern, parts)
    return parts


_PARTS: Mapping[str, str] = _pattern_parts()


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the file. Capital letters make no difference, except in its groups (?-i:…)."""
    return re.compile(_expanded(pattern, _PARTS), re.IGNORECASE)


PATTERNS: Mapping[str, re.Pattern[str]] = {
    name: compiled(pattern) for name, pattern in _PATTERNS["patterns"].items()
}
_OTHER_NUMBER = PATTERNS["other_number"]
"""Text before a number, to its end, that gives the number another kind: "order number: "."""
_EXPLAINED = PATTERNS["explained"]
"""As ``_OTHER_NUMBER``, with words between: "NDC for the patient is "."""
_YEAR = re.compile(r"(?:19|20)\d{2}")
_IS_DATE = re.compile(_expanded(r"(?:19|20)\d{2}([-/.])\d{1,2}\1\d{1,2}|%part%([-/.])%part%\2%year%", _PARTS))
_TOLL_FREE = re.compile(r"\+?1?\W{0,2}8(?:00|33|44|55|66|77|88)\D")
_SERIAL_KINDS = (PatientData.RX_NUMBER, PatientData.MEMBER_NUMBER)
"""Kinds whose numbers have one length in a text: a further number of that length is of the same kind."""
_SERIAL_DIGITS = range(5, 13)
_PLAIN_NUMBER = re.compile(_expanded(r"(?<![\w.$-])\d{5,12}(?![\w%-]|[.]\d)%no_unit%", _PARTS))
"""A number of ``_SERIAL_DIGITS`` digits that is no amount, share or dose."""
_NO_STREET = word_set("en_stop") | word_set("en_units") | word_groups("en_patient_cues")["no street"]
_GIVEN, _SURNAMES = word_set("en_given_names"), word_set("en_surnames")
_LETTERS = re.compile(r"[^\W\d_]+")
_AFTER_LABEL = re.compile(
    r"(?:[^\d.!?]|(?<![\w.])\d{1,4}(?:\.\d)? ?(?:mg|mcg|ml|g|units?|iu|%|days?)\b|(?<=\bno)\.|(?<=\bo\.b)\.)*"
)
"""Text between a label and its value: no end of a sentence, and no digit but those of a dose or of days. The
points of "no." and "d.o.b." end no sentence."""
_MOST_BETWEEN = 48
"""Characters between a label and its value."""
_LONGEST_VALUE = 80
"""Characters."""
_MOST_VALUES = 10
"""Values that one label may have ("rx 123 and 456")."""
_LONGEST_BEFORE = 40
"""Characters that are read before a number for a label of another kind."""


# --- which values a pattern accepts ---


def _is_street(value: str) -> bool:
    """Whether the words between house number and street type may be a street's name: those of "19 Willow
    Creek Ln" may, those of "30 tablets to 12 Oak St" may not."""
    match = PATTERNS["street"].match(value)
    if match is None or match["names"] is None:
        return True
    return not any(name.lower().strip(".") in _NO_STREET for name in match["names"].split())


def _is_personal(link: str) -> bool:
    """Whether a part of the link leads to a person: a user, an id, a query, or a given name and a surname one
    after the other ("…/team/maria-lopez")."""
    host, _, path = (link.partition("://")[2] or link).partition("/")
    names = [part.lower() for part in _LETTERS.findall(path)]
    pairs = itertools.pairwise(names)
    return (
        "@" in host
        or PATTERNS["personal"].search(f"/{path}") is not None
        or PATTERNS["personal"].match(f"{host}/{path}") is not None
        or any(given in _GIVEN and surname in _SURNAMES for given, surname in pairs)
    )


_NAMED_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "street": _is_street,
    "personal": _is_personal,
    "no_mailbox": lambda value: PATTERNS["mailbox"].match(value) is None,
    "no_year": lambda value: _YEAR.fullmatch(value) is None,
}
"""Checks of a value, by the name that ``accepts`` of a label or rule in the file has."""


def _has_digits(least: int, most: int) -> Callable[[str], bool]:
    """Return a check that a value has so many digits and is no date."""
    return lambda value: least <= len(digits_of(value)) <= most and not _IS_DATE.fullmatch(value)


def _accepts(entry: Mapping[str, Any]) -> Callable[[str], bool]:
    """Return the check of a value that has matched the pattern of this label or rule of the file."""
    checks = [_NAMED_CHECKS[entry["accepts"]]] if "accepts" in entry else []
    if "digits" in entry:
        checks.append(_has_digits(*entry["digits"]))
    return lambda value: all(check(value) for check in checks)


# --- labels ---


@dataclass(frozen=True, slots=True)
class _Label:
    """Words that say of what kind the value after or before them is: "member id is W123456789"."""

    kind: PatientData
    words: re.Pattern[str]
    value: re.Pattern[str]
    """The value after the words."""
    _: KW_ONLY
    value_before: re.Pattern[str] | None = None
    """The value before the words, as the pattern's group ``value``: "W123456789 is her member id". None where
    only a value after them counts."""
    accepts: Callable[[str], bool]
    """The check of a value that has matched its pattern."""
    score: float
    refused_after: re.Pattern[str] | None = None
    """Text directly before the words with which they are no label: "order" in "order id 4458821"."""
    must_be_beside: bool = False
    """Whether the value must follow directly, or after "is". Else a few words may be between."""
    bars_others: bool = False
    """Whether a value after these words is not that of an earlier label."""


def _labels() -> Iterator[_Label]:
    """Yield the labels of the file. An entry's ``words`` name the groups of its words:

    - "member numbered": far before the value, with a word for a number. "the member number that she gave is"
    - "member sure": far before the value, also without such a word. "mbi on the card that she has is"
    - "member near": directly before the value. "subscriber W123456789"
    - "member loose": before any number that has no other meaning; a guess, so its score is low.

    The last label is "id" without any other word: it is taken for a member's.
    """
    for entry in _PATTERNS["labels"]:
        kind, accepts = PatientData[entry["kind"]], _accepts(entry)
        group, shape = entry["words"], entry["value"]
        refused = _OTHER_NUMBER if kind in (PatientData.PHONE_NUMBER, PatientData.PAYMENT_CARD) else None
        numbered, sure = _any_label_word(f"{group} numbered"), _any_label_word(f"{group} sure")
        far = rf"(?:{numbered}(?: card)? ?%number%|{sure}(?: card)?(?: ?%number%)?)"
        value = compiled(rf"(?<![\w.-])(?:{shape})(?![\w%])")
        for words, is_near in ((far, False), (_any_label_word(f"{group} near"), True)):
            yield _Label(
                kind,
                compiled(words),
                value,
                value_before=compiled(rf"(?<![\w.-])(?P<value>{shape})%is_called%"),
                accepts=accepts,
                score=0.9 if is_near else 0.95,
                refused_after=refused,
                must_be_beside=is_near,
                # "call", "reach", "text" are in many sentences; "other label" has the clear ones ("fax").
                bars_others=not is_near and kind is not PatientData.PHONE_NUMBER,
            )
        if f"{group} loose" in _LABEL_WORDS:
            words = compiled(_any_label_word(f"{group} loose"))
            value, accepts = compiled(r"(?<![\w.$-])%loose%(?!\w)"), _has_digits(5, 16)
            yield _Label(kind, words, value, accepts=accepts, score=0.45, refused_after=_OTHER_NUMBER)
    words = compiled(r"\b(?:id|i\.d\.)(?: ?(?:#|number|no\b\.?))?")
    value, kind = compiled(r"(?<![\w.-])%code%(?!\w)"), PatientData.MEMBER_NUMBER
    accepts, refused = _has_digits(6, 20), PATTERNS["other_id"]
    yield _Label(kind, words, value, accepts=accepts, score=0.8, refused_after=refused)


_LABELS = tuple(_labels())
_BARRING_LABEL = compiled(
    "|".join(label.words.pattern for label in _LABELS if label.bars_others)
    + f"|{_any_label_word('other label')}"
)
"""A label that ends the reach of the label before it: in "rx is stuck, order 1234567" the number is no rx."""


# --- rules ---


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """How a value without a label is recognised by its shape: the pattern's group ``value``."""

    kind: PatientData
    pattern: re.Pattern[str]
    score: float
    accepts: Callable[[str], bool]
    refused_after: re.Pattern[str] | None
    is_tried_again: bool
    """Whether a match that ``accepts`` refuses is searched again from its second word: "30 tablets to 12 Oak
    St" is no address, "12 Oak St" in it is."""


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
    """Yield what labels and rules find, and further numbers of the same length. Findings may overlap.

    "rx 7012345 is ready, 7012399 ships" has two prescription numbers: the second has no label, but is as long
    as the first.
    """
    kind_of_length: dict[int, PatientData] = {}
    for finding in (*_find_by_labels(text), *_find_by_rules(text)):
        value = text[finding.start : finding.end]
        if finding.kind is PatientData.PHONE_NUMBER and _is_of_business(text, finding.start, value):
            continue
        yield finding
        if finding.kind in _SERIAL_KINDS and value.isdigit() and len(value) in _SERIAL_DIGITS:
            kind_of_length.setdefault(len(value), finding.kind)
    if kind_of_length:
        for number in _PLAIN_NUMBER.finditer(text):
            kind = kind_of_length.get(len(number[0]))
            if kind and not _ends_with(_EXPLAINED, text, number.start()):
                yield Finding(kind, *number.span(), 0.43)


def _find_by_labels(text: str) -> Iterator[Finding]:
    for label in _LABELS:
        for words in label.words.finditer(text):
            if label.value_before is not None:
                offset = max(0, words.start() - _LONGEST_VALUE)
                before = label.value_before.search(text[offset : words.start()])
                if before and label.accepts(before["value"]):
                    start, end = before.span("value")
                    yield Finding(label.kind, offset + start, offset + end, 0.9)
            if not _ends_with(label.refused_after, text, words.start()):
                yield from _values_after(text, words.end(), label)


def _values_after(text: str, at: int, label: _Label) -> Iterator[Finding]:
    """Yield the first value after a label that ends at ``at``, and those listed with it: "rx 123456 and
    123457"."""
    end = at + _MOST_BETWEEN + _LONGEST_VALUE
    value = next((match for match in label.value.finditer(text, at, end) if label.accepts(match[0])), None)
    if value is None or not _may_lie_between(text[at : value.start()], label):
        return
    for _ in range(_MOST_VALUES):
        yield Finding(label.kind, *value.span(), label.score)
        conjunction = PATTERNS["next"].match(text, value.end())
        value = conjunction and label.value.match(text, conjunction.end())
        if not value or not label.accepts(value[0]):
            return


def _may_lie_between(gap: str, label: _Label) -> bool:
    """Whether the text between a label and a value leaves the value to this label."""
    if label.must_be_beside:
        return PATTERNS["directly"].fullmatch(gap) is not None
    return (
        len(gap) <= _MOST_BETWEEN
        and _AFTER_LABEL.fullmatch(gap) is not None
        and _BARRING_LABEL.search(gap) is None
    )


def _ends_with(pattern: re.Pattern[str] | None, text: str, at: int) -> bool:
    r"""Whether the text before ``at`` ends with the pattern, which itself ends with ``\Z``. Without a
    pattern it does not."""
    return pattern is not None and pattern.search(text[max(0, at - _LONGEST_BEFORE) : at]) is not None


def _find_by_rules(text: str) -> Iterator[Finding]:
    for rule in _RULES:
        for match in _matches(rule, text):
            start, end = match.span("value")
            if not _ends_with(rule.refused_after, text, start) and rule.accepts(text[start:end]):
                yield Finding(rule.kind, start, end, rule.score)


def _matches(rule: _Rule, text: str) -> Iterator[re.Match[str]]:
    """Yield the matches of a rule, refused ones too; see ``is_tried_again``."""
    at = 0
    while match := rule.pattern.search(text, at):
        yield match
        at = max(match.end(), at + 1)
        if rule.is_tried_again and not rule.accepts(match["value"]):
            _, *after_first_word = match[0].split(None, 1)
            at = match.end() - len(after_first_word[0]) if after_first_word else at


def _is_of_business(text: str, start: int, value: str) -> bool:
    """Whether a toll-free number is a company's, by the words before it: "the plan's help desk
    800-555-0134" is left alone."""
    before = text[max(0, start - 2 * _LONGEST_BEFORE) : start]
    return _TOLL_FREE.match(value) is not None and PATTERNS["business"].search(before) is not None


# --- names ---
# No language model is available. Each word is a listed name (given name or surname), no name (a common word,
# a medicine, …) or unknown. A name is reported
# - when its words are listed: "Maria Lopez", "maria lopez", "Lopez, Maria";
# - when words around say that a person is meant: "mrs zork", "my name is zork", "caller Zork", "Zork called";
# - when two unknown words with capital letters follow each other: "Zorvak Tillin".
# Many listed names are words, too ("Grant", "Will"): these are ambiguous, and need a title or another name.

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_MOST_WORDS = 5
"""Words of one name, at most."""
_MOST_LOWER_CASE_WORDS = 3
"""As ``_MOST_WORDS``, of a name without capital letters: its end is less clear."""
_NAMED = PATTERNS["named"]
"""Text before a name, which may be on no list: "her name is "."""
_GREETED = PATTERNS["greeted"]
"""Text before a name, and before much else: "hi ", "this is "."""
_CUES = word_groups("en_patient_cues")
_ENDINGS_OF_NO_NAME = tuple(_CUES["endings"])
"""Endings of medicines, diseases and derived English words: no list of common words has them all."""
_PARTICLES, _SUFFIXES, _TITLES = _CUES["particles"], _CUES["suffixes"], _CUES["titles"]
_SAINTS = frozenset({"st", "saint", "mount"})
"""Before a name they make it a place: "St Luke"."""
_FORMS_OF_ADDRESS = _CUES["addresses"]
"""Titles that stand before names alone: "mrs", not "doctor"."""
_PEOPLE, _AFTER_PEOPLE, _THINGS_OF_PEOPLE = _CUES["people"], _CUES["after people"], _CUES["things of people"]
"""Words before a name ("caller"), after one ("called"), and after one with "'s" ("refill")."""
_DISEASES_AFTER = _CUES["diseases after"]
"""After a name they make it a disease: "Down's syndrome"."""
_NOT_PEOPLE_AFTER = _DISEASES_AFTER | _CUES["not people after"]
"""After a name they make it a disease, a company or a place: "Madison Pharmacy"."""
_NOT_ALONE = _CUES["not alone"]
"""Names that are oftener a word: a title before them or a surname after them must say that a person is
meant."""
_NOT_LOWER = _CUES["not lower"]
"""Names that are a word where they have no capital letter."""
_VERBS = _CUES["verbs"]
"""Names that are oftener a verb, and after a word such as "patient", too: "patient will"."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of the text as written, and what the lists say of it.

    =========== ======= ============ ======== ===================
    word        listed  ambiguous    no name  what it may be
    =========== ======= ============ ======== ===================
    Maria       yes     no           no       a sure name
    Grant       yes     yes          no       a name or a word
    Zorvak      no      no           no       unknown
    Metformin   no      (no matter)  yes      never a name
    =========== ======= ============ ======== ===================
    """

    start: int
    end: int
    """In the text; before a possessive "'s"."""
    folded: str
    """Without capital letters and without the possessive "'s"."""
    has_capital: bool
    is_upper: bool
    """Two letters or more, all capital."""
    is_possessive: bool
    is_given: bool
    """On the list of given names, as far as the word may be a name here."""
    is_surname: bool
    is_ambiguous: bool
    """Also an English word or a place, if it is a name."""
    is_no_name: bool
    """Never a name: a common word, a medicine, a company, …"""
    is_common: bool
    """Among the common words, and none that tells of people: it may be a surname after a given name."""

    @property
    def is_listed(self) -> bool:
        return self.is_given or self.is_surname

    @property
    def is_sure(self) -> bool:
        return self.is_listed and not self.is_ambiguous

    @property
    def is_unknown(self) -> bool:
        """With a capital letter and on no list: a rare name, or a product."""
        return self.has_capital and not self.is_listed and not self.is_no_name

    @property
    def is_initial(self) -> bool:
        return len(self.folded) == 1 and self.has_capital


_AMBIGUOUS = word_set("en_name_words")
_NEVER = frozenset[str]().union(*word_groups("en_never_names").values())
_is_common = language("en").is_common


def _is_no_part_of_name(part: str) -> bool:
    """Whether a part of a compound ("follow-up") makes the whole compound no name."""
    is_name = part in _GIVEN or part in _SURNAMES
    return len(part) == 1 or part in _AMBIGUOUS or (_is_common(part) and not is_name)


def _word(match: re.Match[str]) -> _Word:
    """Look a word up in the lists."""
    written = match[0].replace("\u2019", "'")
    is_possessive = written.lower().endswith("'s")
    without_s = written[:-2] if is_possessive else written
    whole, folded = fold(written), fold(without_s)
    parts = folded.split("-")
    is_compound_of_words = len(parts) > 1 and any(_is_no_part_of_name(part) for part in parts)
    is_given = not is_compound_of_words and any(part in _GIVEN for part in parts)
    is_surname = not is_compound_of_words and any(part in _SURNAMES for part in parts)
    is_surname = is_surname or (folded.startswith(("mc", "o'")) and not _is_common(folded))
    is_never_alone = whole in _NEVER or folded in _NEVER or folded in _TITLES or folded in _PEOPLE
    is_listed = (is_given or is_surname) and not (is_never_alone and whole.endswith("'s"))
    is_common = _is_common(folded) or (folded.endswith("s") and _is_common(folded[:-1]))
    has_other_ending = folded.endswith(_ENDINGS_OF_NO_NAME) and not folded.endswith(("vic", "vics"))
    has_other_ending = has_other_ending and len(folded) > 4
    tells_of_people = folded in _AFTER_PEOPLE | _NOT_PEOPLE_AFTER | _THINGS_OF_PEOPLE
    return _Word(
        start=match.start(),
        end=match.end() - (2 if is_possessive else 0),
        folded=folded,
        has_capital=without_s[:1].isupper(),
        is_upper=len(without_s) > 1 and without_s.isupper(),
        is_possessive=is_possessive,
        is_given=is_given and is_listed,
        is_surname=is_surname and is_listed,
        is_ambiguous=folded in _AMBIGUOUS or is_never_alone,
        is_common=is_common and not is_never_alone and not tells_of_people,
        is_no_name=not is_listed and (is_never_alone or is_common or has_other_ending),
    )


def find_names(text: str) -> list[Finding]:
    """Return the names of a text, in order. They do not overlap."""
    words = [_word(match) for match in _WORD.finditer(text)]
    after_named, after_greeted = (
        {match.end() for match in before.finditer(text)} for before in (_NAMED, _GREETED)
    )
    reader = _NameReader(text, words, named=after_named, greeted=after_greeted - after_named)
    names = list(reader.names())
    return sorted((*names, *_later_mentions(words, names)), key=lambda name: name.start)


@dataclass(frozen=True, slots=True)
class _NameReader:
    """Reads the names of one text. ``at`` and ``until`` are indexes into ``words``: words that may be one
    name are the run ``words[at:until]``."""

    text: str
    words: Sequence[_Word]
    named: set[int]
    """Places in the text after words such as "her name is", where a name follows."""
    greeted: set[int]
    """Places in the text after words such as "hi", where a name may follow."""

    def names(self) -> Iterator[Finding]:
        at = 0
        while at < len(self.words):
            has_capital = self.words[at].has_capital
            until = self._end_of_capitals(at) if has_capital else self._end_of_lower_case(at)
            score = self._score(at, until) if until > at else 0.0
            if score:
                last = self.words[until - 1]
                yield Finding(PatientData.PERSON, self.words[at].start, last.end, score)
            at = max(until, at + 1) if score else at + 1

    # where a run of words that may be a name ends

    def _end_of_capitals(self, at: int) -> int:
        """Return the end of the run of words with capital letters that may be one name; ``at`` for none."""
        if not self._may_begin(at):
            return at
        until = at + 1
        while until < len(self.words) and until - at < _MOST_WORDS and self._continues(at, until):
            until += 1
        return until

    def _may_begin(self, at: int) -> bool:
        """Whether a name may begin with the word: no common word, and an initial only before a surname."""
        word = self.words[at]
        return not word.is_no_name and (not word.is_initial or self._has_surname_after(at))

    def _has_surname_after(self, at: int) -> bool:
        """Whether an initial has a word after it that may be a surname: "J. Whitfield"."""
        if at + 1 >= len(self.words):
            return False
        following = self.words[at + 1]
        is_beside = self.text[self.words[at].end : following.start] in (". ", ".", " ")
        return is_beside and following.has_capital and not following.is_no_name and not following.is_upper

    def _continues(self, at: int, until: int) -> bool:
        """Whether the word at ``until`` belongs to the name that begins at ``at``."""
        before, word = self.words[until - 1], self.words[until]
        gap = self.text[before.end : word.start]
        if before.is_possessive:
            return False
        if gap == ", ":  # "Lopez, Maria" or "Luis Lopez, Jr"
            is_turned = until == at + 1 and before.is_surname and word.is_given and word.has_capital
            return is_turned or (word.folded in _SUFFIXES and word.has_capital)
        is_after_initial = gap in (". ", ".") and before.is_initial
        if gap not in (" ", "  ") and not is_after_initial:
            return False
        if word.folded in _PARTICLES and not word.has_capital:  # "Maria de la Cruz"
            following = self.words[until + 1 : until + 3]
            return any(later.has_capital and not later.is_no_name for later in following)
        if word.folded in _SUFFIXES:
            return word.has_capital
        is_common_surname = before.is_sure and before.is_given and word.is_common and not word.is_upper
        return word.has_capital and (not word.is_no_name or is_common_surname)  # "Maria Brush"

    def _end_of_lower_case(self, at: int) -> int:
        """Return the end of a name without capital letters: "maria lopez", "mrs zork"; ``at`` for none."""
        first = self.words[at]
        is_expected = self._is_after(at, _FORMS_OF_ADDRESS) or first.start in self.named
        if first.is_no_name or len(first.folded) < 2:
            return at
        if first.folded in _VERBS or (first.folded in _NOT_ALONE | _NOT_LOWER and not is_expected):
            return at
        if not is_expected and not first.is_listed:
            return at
        until = at + 1
        while (
            until < len(self.words)
            and until - at < _MOST_LOWER_CASE_WORDS
            and not self.words[until - 1].is_possessive
        ):
            word = self.words[until]
            if self.text[self.words[until - 1].end : word.start] != " ":
                break
            is_name = word.is_sure or (word.is_listed and first.is_given and word.folded not in _NOT_ALONE)
            is_rare = is_expected and not word.is_no_name and not word.is_listed
            if not (is_name or is_rare):
                break
            until += 1
        return until

    # whether a run of words is a name

    def _score(self, at: int, until: int) -> float:
        """Return the score of a run of words as a name; 0 for no name."""
        run = self.words[at:until]
        words = [word for word in run if not word.is_initial and word.folded not in _SUFFIXES]
        if not words or self._names_no_person(at, until):
            return 0.0
        if run[0] is not words[0] and len(words) == 1:  # "J. Whitfield"
            return 0.7 if words[0].is_listed or words[0].is_unknown else 0.0
        if self._is_announced(at):
            return 0.95
        if not words[0].has_capital:
            return self._score_of_lower_case(at, words)
        return self._score_of_several(words) if len(words) > 1 else self._score_of_one(at, words[0])

    def _names_no_person(self, at: int, until: int) -> bool:
        """Whether the words around a run say that it names a place, a disease or a company: "St Luke",
        "Down's syndrome", "Madison Pharmacy". After a title only a disease counts: "Dr Madison Pharmacy" is
        a person."""
        last = self.words[until - 1]
        if self._is_after(at, _SAINTS):
            return True
        if until >= len(self.words):
            return False
        following = self.words[until]
        gap = self.text[last.end : following.start]
        if last.is_possessive:
            return following.folded in _DISEASES_AFTER
        if gap not in (" ", "-"):
            return False
        return following.folded in (_DISEASES_AFTER if self._is_announced(at) else _NOT_PEOPLE_AFTER)

    @staticmethod
    def _score_of_several(words: Sequence[_Word]) -> float:
        """Return the score of several words that begin with capital letters."""
        first, last = words[0], words[-1]
        if any(word.is_sure for word in words):  # "Maria Zork"
            return 0.9
        if any(word.is_upper for word in words):  # "GRANT LONG", not "PRIOR AUTH"
            return 0.9 if first.is_given and last.is_surname else 0.0
        is_turned = first.is_surname and last.is_given
        if is_turned or (first.is_given and (last.is_surname or last.is_unknown)):  # "Grant Zork"
            return 0.7
        if all(word.is_unknown for word in words) or (first.is_unknown and last.is_surname):
            return 0.6
        return 0.0

    def _score_of_one(self, at: int, word: _Word) -> float:
        """Return the score of one word that begins with a capital letter."""
        if word.is_upper and (not word.is_sure or len(word.folded) < 5):  # "ANA" is a test, too
            return 0.0
        if word.is_sure:
            return 0.85 if word.is_given else 0.75
        is_after_person = self._is_after(at, _PEOPLE) or word.start in self.greeted
        if word.folded in _NOT_ALONE:  # "prescriber Long", not "Long called"
            return 0.6 if is_after_person and word.folded not in _VERBS else 0.0
        return 0.6 if is_after_person or self._is_before(at, _AFTER_PEOPLE) else 0.0

    def _score_of_lower_case(self, at: int, words: Sequence[_Word]) -> float:
        """Return the score of words without capital letters."""
        is_after_person = self._is_after(at, _PEOPLE)
        first = words[0]
        if len(words) > 1:
            return 0.85 if first.is_sure or (is_after_person and first.is_given) else 0.0
        if not first.is_sure:
            return 0.0
        if first.is_given:
            return 0.8
        return 0.65 if is_after_person else 0.0

    # the words around

    def _is_announced(self, at: int) -> bool:
        """Whether a name is sure to begin at ``at``: after a title, or after words such as "her name is"."""
        return self._is_after(at, _TITLES) or self.words[at].start in self.named

    def _is_after(self, at: int, words: frozenset[str]) -> bool:
        """Whether the word at ``at`` is directly after one of ``words``."""
        if at == 0:
            return False
        before = self.words[at - 1]
        gap = self.text[before.end : self.words[at].start]
        return (
            before.folded in words and not before.is_possessive and gap in (" ", ". ", ".", ", ", ": ", "  ")
        )

    def _is_before(self, at: int, words: frozenset[str]) -> bool:
        """Whether the word at ``at`` is directly before one of ``words``."""
        if at + 1 >= len(self.words):
            return False
        after = self.words[at + 1]
        gap = self.text[self.words[at].end : after.start]
        return after.folded in words and gap.lower() in (" ", "'s ", "\u2019s ", ", ", " (")


def _later_mentions(words: Sequence[_Word], names: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the words of found names where they are used again alone: "Zorvak" after "Zorvak Tillin".

    ``names`` are in order and do not overlap.
    """
    starts = [name.start for name in names]

    def is_in_name(word: _Word) -> bool:
        last = bisect_right(starts, word.start) - 1
        return last >= 0 and word.start < names[last].end

    known = {
        word.folded
        for word in words
        if len(word.folded) > 2 and word.has_capital and not word.is_ambiguous and is_in_name(word)
    }
    for word in words:
        if word.folded in known and word.has_capital and not is_in_name(word):
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
"""Presidio's own recognisers, each with the score that its findings get here. It is low for an NPI, which is
ten digits as other numbers are: a label wins. Presidio's recognisers of e-mail and links miss what ours find,
those of telephone and member numbers find dates and codes (docs/decisions/0048-patients-data.md)."""
_VERSION = re.compile(r"\b(?:v|ver|version|release|build|firmware|app)\.? ?(?:is |to )?\Z", re.IGNORECASE)
"""Text before four numbers that are a version, not an IP address: "portal version 10.2.1.5"."""
_LONGEST_VERSION = 20
"""Characters that are read before an IP address for ``_VERSION``."""
_OLD_DATE, _DATE_BESIDE_NAME = 0.5, 0.8
"""Scores."""
_LEAST_AGE_BESIDE_NAME = 3
"""Years. A younger date is oftener the day of a fill than of a birth."""
_LEAST_AGE = 10
"""Years, of a date without a label and a name."""


class PatientsDataFilter:
    """Replaces patients' data by placeholders such as ``<PHONE_NUMBER>``::

        PatientsDataFilter().replace("Caller Maria Lopez, rx 7012345, went to 19 Willow Creek Ln").text
        "Caller <PERSON>, rx <RX_NUMBER>, went to <ADDRESS>"

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
        replaced_until = 0
        for finding in findings:
            pieces += (text[replaced_until : finding.start], f"<{finding.kind}>")
            replaced_until = finding.end
        members = [finding for finding in findings if finding.kind is PatientData.MEMBER_NUMBER]
        return ReplacedText(
            text="".join((*pieces, text[replaced_until:])),
            found=dict(Counter(finding.kind.value for finding in findings)),
            member_numbers=tuple(text[member.start : member.end] for member in members),
        )

    def find(self, text: str) -> list[Finding]:
        """Return the findings in order. Those that overlap become one that covers them all, of the kind with
        the best score; of two with this score, the longer."""
        joined: list[Finding] = []
        for finding in sorted(self._overlapping(text), key=lambda finding: finding.start):
            if not joined or joined[-1].end <= finding.start:
                joined.append(finding)
                continue
            last = joined[-1]
            best = max(last, finding, key=lambda each: (each.score, each.end - each.start))
            joined[-1] = Finding(best.kind, last.start, max(last.end, finding.end), best.score)
        return joined

    def _overlapping(self, text: str) -> Iterator[Finding]:
        yield from find_values(text)
        for recognizer, kind, score in self._predefined:
            for result in recognizer.analyze(text, recognizer.supported_entities):
                before = text[max(0, result.start - _LONGEST_VERSION) : result.start]
                is_version = kind is PatientData.IP_ADDRESS and _VERSION.search(before)
                if result.score >= _LEAST_SCORE and not is_version:
                    yield Finding(kind, result.start, result.end, score)
        names = find_names(text)
        yield from names
        yield from self._dates(text, {name.end for name in names})

    def _dates(self, text: str, names_end: set[int]) -> Iterator[Finding]:
        """Yield dates of birth without a label: old dates, and dates directly after a name, "Maria Lopez
        (03/14/1962)". ``names_end``: where the names end, of which up to three marks may separate a date."""
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
        year = _YEAR.search(date)
        return self._this_year - int(year[0]) if year else (self._this_year - int(date[-2:])) % 100
