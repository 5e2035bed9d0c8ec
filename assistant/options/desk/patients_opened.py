"""The filter of patients' data, as processes ask for it, built where they have its engine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from threading import Lock

import structlog

from assistant.options.desk.events import PatientDataFilter, ReplacedText

_ENGINE = "presidio_analyzer"
_log = structlog.get_logger(__name__)


class _PatientsDataOnDemand:
    """Makes the filter with the first text, in the thread that replaces: its engine takes 2 s to import."""

    def __init__(self) -> None:
        self._made: PatientDataFilter | None = None
        self._making = Lock()

    def replace(self, text: str) -> ReplacedText:
        with self._making:
            if self._made is None:
                from assistant.options.desk.patients import PatientsDataFilter

                self._made = PatientsDataFilter()
        return self._made.replace(text)


def patients_filter() -> PatientDataFilter | None:
    """Return the filter of patients' data; None, and no words leave the records, where its engine is not
    installed."""
    if find_spec(_ENGINE) is None:
        _log.warning("feedback_without_words", missing=_ENGINE)
        return None
    return _PatientsDataOnDemand()


def replace_patients_data() -> Callable[[str], str] | None:
    """Return what replaces patients' data in a text, or None: as ``patients_filter``."""
    made = patients_filter()
    return None if made is None else lambda text: made.replace(text).text
