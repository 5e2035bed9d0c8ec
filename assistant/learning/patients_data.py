"""Finds patients' data in text with Presidio's engine, and replaces it.

Importing this module loads spaCy, of which Presidio takes types alone: 1.8 s of CPU and 100 MB. Import it
where a filter is made, in a process that needs one (docs/decisions/0048-patients-data.md).
"""

from __future__ import annotations

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

from assistant.learning.patient_names import NameFinder, NameLists
from assistant.learning.patient_numbers import FULL_DATE, PatientData, find_numbers, rules
from assistant.learning.ports import ReplacedText

_LANGUAGE = "en"
_LEAST_SCORE = 0.4
_DATE_ALONE = 0.1
_DATE_BESIDE_NAME = 0.8
_LEAST_AGE = 3
"""Years. A younger date beside a name is oftener the day of a fill than of a birth."""


class PatientsDataFilter:
    """Replaces patients' data by placeholders such as ``<PHONE_NUMBER>``.

    A message of 200 characters takes 0.5 ms of CPU. ``replace`` waits for nothing; call it for long texts
    outside the event loop. It may be used by several threads.
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
        """Return the findings by their place. Where two overlap, the better score counts, then the longer."""
        found = self._engine.analyze(text, language=_LANGUAGE)
        kept: list[RecognizerResult] = []
        for each in sorted(found, key=lambda each: (-each.score, each.start - each.end, each.start)):
            if not any(each.start < other.end and other.start < each.end for other in kept):
                kept.append(each)
        return sorted(kept, key=lambda each: each.start)


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
    all_rules = rules()

    def find(text: str) -> Iterator[RecognizerResult]:
        for each in find_numbers(text, all_rules):
            yield RecognizerResult(each.kind.value, each.start, each.end, each.score)

    return _Recognizer([kind for kind in PatientData if kind is not PatientData.PERSON], find)


def _names() -> _Recognizer:
    finder = NameFinder(NameLists())

    def find(text: str) -> Iterator[RecognizerResult]:
        for each in finder.find(text):
            yield RecognizerResult(PatientData.PERSON.value, each.start, each.end, each.score)

    return _Recognizer([PatientData.PERSON], find)


class _Dates(_Recognizer):
    """Dates of birth without a label: an old date directly after a name."""

    def __init__(self) -> None:
        super().__init__([PatientData.DATE_OF_BIRTH], self._candidates)
        self._latest = datetime.now(UTC).year - _LEAST_AGE

    def _candidates(self, text: str) -> Iterator[RecognizerResult]:
        for match in FULL_DATE.finditer(text):
            if self._is_old(match["year"]):
                yield RecognizerResult(PatientData.DATE_OF_BIRTH.value, *match.span("value"), _DATE_ALONE)

    def enhance_using_context(
        self,
        text: str,
        raw_recognizer_results: list[RecognizerResult],
        other_raw_recognizer_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,  # noqa: ARG002 - without a language model they are empty
        context: list[str] | None = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        names = [each for each in other_raw_recognizer_results if each.entity_type == PatientData.PERSON]
        for date in raw_recognizer_results:
            gaps = (text[name.end : date.start] for name in names if name.end <= date.start <= name.end + 3)
            if any(not gap.strip(" ,;|/(-") for gap in gaps):
                date.score = _DATE_BESIDE_NAME
        return raw_recognizer_results

    def _is_old(self, year: str) -> bool:
        return int(year) <= self._latest if len(year) == 4 else int(year) > self._latest % 100
