"""Finds patients' data in text, with Presidio's recognisers and our own, and replaces it.

Importing this module loads spaCy, of which Presidio takes types alone: 1.8 s of CPU and 100 MB. Import it
where a filter is made, in a process that needs one (docs/decisions/0048-patients-data.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from presidio_analyzer import PatternRecognizer
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    IpRecognizer,
    MedicalLicenseRecognizer,
    UsNpiRecognizer,
    UsSsnRecognizer,
)

from assistant.learning.patient_names import NameFinder, NameLists
from assistant.learning.patient_values import PATTERNS, Finding, PatientData, find_values, value_rules
from assistant.learning.ports import ReplacedText

_LEAST_SCORE = 0.4
"""Of a finding of Presidio's: below are patterns that need a language model's words."""
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
_LONGEST_BEFORE = 20
_OLD_DATE, _DATE_BESIDE_NAME = 0.5, 0.8
_LEAST_AGE_BESIDE_NAME = 3
"""Years. A younger date is oftener the day of a fill than of a birth."""
_YEAR = re.compile(r"(?:19|20)\d{2}")
_LEAST_AGE = 10
"""Years, of a date without a label and a name."""


class PatientsDataFilter:
    """Replaces patients' data by placeholders such as ``<PHONE_NUMBER>``.

    A message of 50 to 100 characters takes 0.7 ms of CPU, one of 200 with eight findings 2 ms. ``replace``
    waits for nothing; call it for long texts outside the event loop. It may be used by several threads.
    """

    def __init__(self) -> None:
        self._rules = value_rules()
        self._names = NameFinder(NameLists())
        self._predefined = [(recognizer(), kind, score) for recognizer, kind, score in _PREDEFINED]
        self._this_year = datetime.now(UTC).year

    def replace(self, text: str) -> ReplacedText:
        """Return the text with a placeholder in place of each finding."""
        found = self.find(text)
        pieces: list[str] = []
        at = 0
        for each in found:
            pieces += (text[at : each.start], f"<{each.kind}>")
            at = each.end
        members = [each for each in found if each.kind is PatientData.MEMBER_NUMBER]
        return ReplacedText(
            text="".join((*pieces, text[at:])),
            found=dict(Counter(each.kind.value for each in found)),
            member_numbers=tuple(text[each.start : each.end] for each in members),
        )

    def find(self, text: str) -> list[Finding]:
        """Return the findings by their place. Those that overlap are one, of the kind with the best score."""
        kept: list[Finding] = []
        for each in sorted(self._all(text), key=lambda each: each.start):
            if not kept or kept[-1].end <= each.start:
                kept.append(each)
                continue
            best = max(kept[-1], each, key=lambda one: (one.score, one.end - one.start))
            kept[-1] = Finding(best.kind, kept[-1].start, max(kept[-1].end, each.end), best.score)
        return kept

    def _all(self, text: str) -> Iterator[Finding]:
        yield from find_values(text, self._rules)
        for recognizer, kind, score in self._predefined:
            for each in recognizer.analyze(text, recognizer.supported_entities):
                before = text[max(0, each.start - _LONGEST_BEFORE) : each.start]
                is_version = kind is PatientData.IP_ADDRESS and _VERSION.search(before)
                if each.score >= _LEAST_SCORE and not is_version:
                    yield Finding(kind, each.start, each.end, score)
        names = self._names.find(text)
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
