"""Captured calls of a tenant's models, each with the record of its answer: where to look for a fault."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from assistant.answer.check import CUT_SHORT
from assistant.domain.answers import AccessQuery, AnswerRecord, Outcome
from assistant.stores.captures import StoredCaptures
from assistant.stores.records import StoredRecords

CallFault = Literal["failed", "cut", "slow", "withheld", "not captured", "unreadable"]
"""``cut``: the model ran into its limit of tokens, or a filter ended it. ``withheld``: its text has a value
that nothing which it was given holds. ``not captured``: the record names a call of which there is no line."""
_READABLE = (2, 3)
"""Versions of a line: of the redactor, and of the release before, whose lines have no text."""
_HOUR = re.compile(r"/(\d{4})/(\d{2})/(\d{2})/(\d{2})/")
_Line = Mapping[str, Any]
_WITHOUT_TEXT = {
    *("answer_id", "asked_at", "outcome", "finish_reason", "error_code", "certainty", "degraded"),
    *("model_id", "model_digest", "variant", "prompt_id", "prompt_hash", "weights", "usage", "timings_ms"),
}


@dataclass(frozen=True, slots=True)
class CapturedCall:
    """A call of the model that writes. Either of ``line`` and ``record`` may be missing."""

    inference_id: str
    line: _Line | None
    """As the redactor wrote it."""
    record: AnswerRecord | None

    def faults(self, *, slow_ms: float, has_capture: bool = True) -> tuple[CallFault, ...]:
        """Return what is wrong with it; a call is slow from ``slow_ms`` of its answer's time on.
        ``has_capture`` false: the model is behind no endpoint of ours, and its calls have records alone."""
        record, line = self.record, self.line
        response: _Line = {} if line is None else line.get("response", {})
        found: dict[CallFault, bool] = {
            "failed": record is not None and record.outcome is Outcome.FAILED,
            "cut": response.get("finish_reason") == "length"
            or (record is not None and record.finish_reason in CUT_SHORT),
            "slow": record is not None and record.timings_ms.get("total", 0.0) >= slow_ms,
            "withheld": record is not None and any(one.detail == "withheld" for one in record.sentences),
            "not captured": line is None and has_capture,
            "unreadable": line is not None and not line.get("readable"),
        }
        return tuple(name for name, is_so in found.items() if is_so)

    def facts(self) -> Mapping[str, Any]:
        """Return what is known of it: lengths, times, hashes and places, and the words that the redactor kept
        of the call. Of the record no text."""
        record = self.record
        about = None
        if record is not None:
            about = record.model_dump(mode="json", include=_WITHOUT_TEXT) | {
                "documents": [use.document_id for use in record.passages],
                "sentences": [{"support": one.support, "detail": one.detail} for one in record.sentences],
            }
        return {"inference_id": self.inference_id, "call": self.line, "answer": about}


async def captured_calls(
    capture: StoredCaptures, records: StoredRecords, *, since: datetime, until: datetime, shared: bool = False
) -> list[CapturedCall]:
    """Return the calls of [since, until) that a record or a line tells of, oldest first.

    A line of a call of the embedding model is left out: no answer names it. ``shared``: the capture has the
    calls of other tenants too, so a line that can be read counts only where a record of this one names it.
    Raises DependencyError, RecordsUnavailableError.
    """
    lines = {name: line async for name, line in _lines(capture, since, until)}
    of_call: dict[str, AnswerRecord] = {}
    async for record in asked_answers(records, since=since, until=until):
        if record.inference_id is not None:
            of_call[record.inference_id] = record
    if shared:
        lines = {name: line for name, line in lines.items() if name in of_call or not line.get("readable")}
    calls = [CapturedCall(name, lines.get(name), of_call.get(name)) for name in {**of_call, **lines}]
    return sorted(calls, key=_time)


async def asked_answers(
    records: StoredRecords, *, since: datetime, until: datetime
) -> AsyncIterator[AnswerRecord]:
    """Yield the records of the answers asked in [since, until). Raises RecordsUnavailableError."""
    query = AccessQuery(since=since, until=until, limit=1_000)
    while True:
        page = await records.list_accesses(query)
        for entry in page.entries:
            record = await records.get_answer(entry.subject_id) if entry.kind == "asked" else None
            if record is not None:
                yield record
        if page.next_after is None:
            return
        query = AccessQuery(since=since, until=until, limit=1_000, after=page.next_after)


async def _lines(
    capture: StoredCaptures, since: datetime, until: datetime
) -> AsyncIterator[tuple[str, _Line]]:
    first, last = (tuple(f"{time:%Y %m %d %H}".split()) for time in (since, until))
    async for key in capture.clean_keys():
        hour = _HOUR.search(key)
        if hour is None or not first <= hour.groups() <= last:
            continue
        for number, raw in enumerate((await capture.read_clean(key) or b"").splitlines(), start=1):
            line = orjson.loads(raw)
            name = line.get("inference_id") or f"{key}:{number}"
            if line.get("schema_version") not in _READABLE:
                line = {"readable": False, "schema_version": line.get("schema_version")}
            if not line.get("purpose"):
                yield name, line


def _time(call: CapturedCall) -> tuple[str, str]:
    at = call.record.asked_at.isoformat() if call.record else (call.line or {}).get("inference_time")
    return at or "", call.inference_id
