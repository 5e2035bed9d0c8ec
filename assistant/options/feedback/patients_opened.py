"""Builds the filter of patients' data, in processes that have its engine, and what redacts captured calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING

import structlog

from assistant.domain.clock import SystemClock
from assistant.options.feedback.ports import PatientDataFilter, ReplacedText
from assistant.process.settings import RedactingSettings
from assistant.stores.clients import AwsClients

if TYPE_CHECKING:
    from assistant.options.feedback.redaction import RedactCapture, SweepQuarantine

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
                from assistant.options.feedback.patients import PatientsDataFilter

                self._made = PatientsDataFilter()
        return self._made.replace(text)


def patients_filter() -> PatientDataFilter | None:
    """Return the filter of patients' data; None, and no words leave the records, where its engine is not
    installed."""
    if find_spec(_ENGINE) is None:
        _log.warning("feedback_without_words", missing=_ENGINE)
        return None
    return _PatientsDataOnDemand()


@dataclass(frozen=True, slots=True)
class Redacting:
    redact: RedactCapture
    sweep: SweepQuarantine
    metrics_service: str


@asynccontextmanager
async def open_redacting(settings: RedactingSettings) -> AsyncGenerator[Redacting]:
    from assistant.options.feedback.redaction import RedactCapture, SweepQuarantine
    from assistant.stores.s3 import S3CaptureStore

    async with AsyncExitStack() as stack:
        store = S3CaptureStore(
            await AwsClients(settings, stack).aws("s3"),
            quarantine_bucket=settings.quarantine_bucket,
            capture_bucket=settings.capture_bucket,
        )
        patients = patients_filter() if settings.keeps_texts else None
        redact = RedactCapture(store, passages_percent=settings.passages_percent, patients=patients)
        sweep = SweepQuarantine(
            store, redact=redact, clock=SystemClock(), overdue_after_s=settings.overdue_after_s
        )
        yield Redacting(redact, sweep, settings.metrics_service)
