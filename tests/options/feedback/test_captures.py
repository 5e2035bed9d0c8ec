"""Captured calls are joined with the records of their answers, and what went wrong is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.answers import AnswerRecord, FinishReason, Outcome
from assistant.models.redaction import redacted
from assistant.options.feedback.commands import CapturedCall, captured_calls
from assistant.stores.captures import StoredCaptures
from assistant.stores.records import StoredRecords
from assistant.stores.sqlite_table import SqliteTable
from tests.contracts.samples import NOON, answer

HOUR = f"clinic-llm/AllTraffic/{NOON:%Y/%m/%d/%H}"


def clean(inference_id: str, *, finish_reason: str = "stop") -> bytes:
    response = {"choices": [{"message": {"content": "Wait."}, "finish_reason": finish_reason}]}
    data = {"endpointOutput": {"data": json.dumps(response), "encoding": "JSON"}}
    event = {"inferenceId": inference_id, "inferenceTime": "2026-11-20T12:00:00Z"}
    raw = json.dumps({"captureData": data, "eventMetadata": event}).encode()
    return b"".join(redacted(raw, passages_percent=0))


async def calls(
    folder: Path,
    *,
    records: tuple[AnswerRecord, ...] = (),
    lines: Mapping[str, bytes],
    shared: bool = False,
) -> list[CapturedCall]:
    capture, table = StoredCaptures.here(folder), SqliteTable(folder / "records.sqlite")
    stored = StoredRecords(table)
    for name, content in lines.items():
        await capture.put_clean(f"{HOUR}/{name}.jsonl", content)
    for record in records:
        await stored.put_answer(record)
    try:
        day = timedelta(days=1)
        return await captured_calls(capture, stored, since=NOON - day, until=NOON + day, shared=shared)
    finally:
        await table.close()


def called(inference_id: str | None = "call-1", **changed: Any) -> AnswerRecord:
    return answer().model_copy(update={"inference_id": inference_id, **changed})


@pytest.mark.parametrize(
    ("record", "line", "faults"),
    [
        (called(), clean("call-1"), ()),
        (called(finish_reason=FinishReason.LENGTH), clean("call-1", finish_reason="length"), ("cut",)),
        (called(outcome=Outcome.FAILED, finish_reason=None), clean("call-1"), ("failed",)),
        (called(timings_ms={"total": 20_000.0}), clean("call-1"), ("slow",)),
        (called(), clean("call-2"), ("not captured",)),
        (called(), orjson.dumps({"schema_version": 99, "inference_id": "call-1"}), ("unreadable",)),
    ],
)
async def test_what_is_wrong_with_a_call_is_named(
    record: AnswerRecord, line: bytes, faults: tuple[str, ...], tmp_path: Path
) -> None:
    found = await calls(tmp_path, records=(record,), lines={"one": line})
    assert found[0].inference_id == "call-1"
    assert found[0].faults(slow_ms=10_000.0) == faults


async def test_a_call_of_a_model_without_capture_has_its_record_alone(tmp_path: Path) -> None:
    (found,) = await calls(tmp_path, records=(called(),), lines={})
    assert found.faults(slow_ms=10_000.0, has_capture=False) == ()
    assert found.facts()["call"] is None


async def test_of_a_shared_capture_a_tenant_sees_the_calls_of_its_records(tmp_path: Path) -> None:
    lines = {"one": clean("call-1"), "two": clean("call-2"), "three": b'{"schema_version":99}'}
    found = await calls(tmp_path, records=(called(),), lines=lines, shared=True)
    assert [call.inference_id for call in found if call.line and call.line["readable"]] == ["call-1"]
    (other,) = [call for call in found if call.record is None]
    assert other.faults(slow_ms=10_000.0) == ("unreadable",)
    assert other.facts()["call"] == {"readable": False, "schema_version": 99}


@pytest.mark.parametrize(
    ("version", "faults"), [(1, ("unreadable",)), (2, ()), (3, ()), (4, ("unreadable",))]
)
async def test_a_line_of_the_release_before_is_read(
    version: int, faults: tuple[str, ...], tmp_path: Path
) -> None:
    line = orjson.dumps(orjson.loads(clean("call-1")) | {"schema_version": version})
    (found,) = await calls(tmp_path, records=(called(),), lines={"one": line})
    assert found.faults(slow_ms=10_000.0) == faults


async def test_facts_hold_no_text_of_a_person(tmp_path: Path) -> None:
    record = called(question="Mrs Doe asks", text="Tell Mrs Doe to wait.")
    (found,) = await calls(tmp_path, records=(record,), lines={"one": clean("call-1")})
    assert "Doe" not in str(found.facts())
    assert "Wait" not in str(found.facts())
