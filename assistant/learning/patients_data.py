"""Finds patients' data in text with Presidio's engine, and replaces it.

Importing this module loads spaCy, of which Presidio takes types alone: 1.8 s of CPU and 100 MB. Import it
where a filter is made, in a process that needs one (docs/decisions/0048-patients-data.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from presidio_analyzer import (
    AnalyzerEngine,
    LocalRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.nlp_engine import NlpArtifacts, NoOpNlpEngine

from assistant.learning.patient_addresses import address_rules
from assistant.learning.patient_names import NameFinder, NameLists
from assistant.learning.patient_numbers import FULL_DATE, PatientData, find_numbers, number_rules
from assistant.learning.ports import ReplacedText

_LANGUAGE = "en"
_LEAST_SCORE = 0.4
_NO_BIRTH, _OLD_DATE, _DATE_BESIDE_NAME = 0.1, 0.5, 0.8
_LEAST_AGE_BESIDE_NAME = 3
"""Years. A younger date is oftener the day of a fill than of a birth."""
_YEAR = re.compile(r"(?:19|20)\d{2}")
_LEAST_AGE = 10
"""Years, of a date without a label and a name."""


class PatientsDataFilter:
    """Replaces patients' data by placeholders such as ``<PHONE_NUMBER>``.

    A message of 100 characters takes 0.4 ms of CPU, one of 200 with eight findings 1.5 ms. ``replace`` waits
    for nothing; call it for long texts outside the event loop. It may be used by several threads.
    """

    def __init__(self) -> None:
        recognizers = [_numbers(), _Dates(), _names()]
        self._engine = AnalyzerEngine(
            registry=RecognizerRegistry(recognizers=recognizers, supported_languages=[_LANGUAGE]),
            nlp_engine=NoOpNlpEngine(models=[{"lang_code": _LANGUAGE, "model_name": ""}]),
            supported_languages=[_LANGUAGE],
            default_score_threshold=_LEAST_SCORE,
        )

    def replace(self, text: str) -> ReplacedText:
        """Return the text with a placeholder in place of each finding."""
        found = self.find(text)
        pieces: list[str] = []
        at = 0
        for each in found:
            pieces += (text[at : each.start], f"<{each.entity_type}>")
            at = each.end
        return ReplacedText(
            text="".join((*pieces, text[at:])),
            found=dict(Counter(each.entity_type for each in found)),
            member_numbers=tuple(
                text[each.start : each.end] for each in found if each.entity_type == PatientData.MEMBER_NUMBER
            ),
        )

    def find(self, text: str) -> list[RecognizerResult]:
        """Return the findings by their place. Those that overlap are one, of the kind with the best score."""
        kept: list[RecognizerResult] = []
        for each in sorted(self._engine.analyze(text, language=_LANGUAGE), key=lambda each: each.start):
            if not kept or kept[-1].end <= each.start:
                kept.append(each)
                continue
            best = max(kept[-1], each, key=lambda one: (one.score, one.end - one.start))
            span = kept[-1].start, max(kept[-1].end, each.end)
            kept[-1] = RecognizerResult(best.entity_type, *span, best.score)
        return kept


class _Recognizer(LocalRecognizer):
    """Gives Presidio what a function finds."""

    def __init__(
        self, kinds: Iterable[PatientData], find: Callable[[str], Iterable[RecognizerResult]]
    ) -> None:
        super().__init__(supported_entities=[kind.value for kind in kinds])
        self._find = find

    def load(self) -> None:
        """Nothing is loaded."""

    def analyze(
        self,
        text: str,
        entities: list[str],  # noqa: ARG002 - all kinds are always asked for
        nlp_artifacts: NlpArtifacts | None = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        return list(self._find(text))


def _numbers() -> _Recognizer:
    """Return the recogniser of numbers, addresses and dates with a label."""
    rules = (*number_rules(), *address_rules())

    def find(text: str) -> Iterator[RecognizerResult]:
        for each in find_numbers(text, rules):
            yield RecognizerResult(each.kind.value, each.start, each.end, each.score)

    return _Recognizer([kind for kind in PatientData if kind is not PatientData.PERSON], find)


def _names() -> _Recognizer:
    finder = NameFinder(NameLists())

    def find(text: str) -> Iterator[RecognizerResult]:
        for each in finder.find(text):
            yield RecognizerResult(PatientData.PERSON.value, each.start, each.end, each.score)

    return _Recognizer([PatientData.PERSON], find)


class _Dates(_Recognizer):
    """Dates of birth without a label: old dates, and dates directly after a name."""

    def __init__(self) -> None:
        super().__init__([PatientData.DATE_OF_BIRTH], self._candidates)
        self._this_year = datetime.now(UTC).year

    def _candidates(self, text: str) -> Iterator[RecognizerResult]:
        for match in FULL_DATE.finditer(text):
            score = _OLD_DATE if self._age(match[0]) >= _LEAST_AGE else _NO_BIRTH
            yield RecognizerResult(PatientData.DATE_OF_BIRTH.value, *match.span(), score)

    def enhance_using_context(
        self,
        text: str,
        raw_recognizer_results: list[RecognizerResult],
        other_raw_recognizer_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,  # noqa: ARG002 - without a language model they are empty
        context: list[str] | None = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        names = {each.end for each in other_raw_recognizer_results if each.entity_type == PatientData.PERSON}
        for date in raw_recognizer_results:
            ends = (end for end in range(date.start - 3, date.start + 1) if end in names)
            is_beside = any(not text[end : date.start].strip(" ,;|/(-") for end in ends)
            if is_beside and self._age(text[date.start : date.end]) >= _LEAST_AGE_BESIDE_NAME:
                date.score = _DATE_BESIDE_NAME
        return raw_recognizer_results

    def _age(self, date: str) -> int:
        """Return how many years ago a date was; a year of two digits is in the last hundred years."""
        four = _YEAR.search(date)
        return self._this_year - int(four[0]) if four else (self._this_year - int(date[-2:])) % 100
