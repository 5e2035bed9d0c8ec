"""What every store of captured calls does."""

from __future__ import annotations

import json

from assistant.models.redaction import RedactCapture, SweepQuarantine
from tests.contracts.twins import Twin

KEY = "clinic-llm/AllTraffic/2026/11/20/12/calls.jsonl"
RAW = json.dumps(
    {
        "captureData": {"endpointInput": {"data": '{"model": "m"}', "encoding": "JSON"}},
        "eventMetadata": {"eventId": "e1", "inferenceId": "call-1", "customAttributes": ["Mrs Doe"]},
    }
).encode()


async def sweep(twin: Twin) -> float:
    redact = RedactCapture(twin.capture, passages_percent=0)
    return await SweepQuarantine(twin.capture, redact=redact, overdue_after_s=-60.0)()


async def test_a_captured_call_becomes_a_clean_line_and_is_gone(twin: Twin) -> None:
    await twin.put_raw(KEY, RAW)
    assert await sweep(twin) == 0.0
    assert await twin.capture.raw_objects() == {}
    assert [blob.key async for blob in twin.capture.clean.list("")] == [KEY]
    line = json.loads(await twin.capture.clean.get(KEY) or b"")
    assert (line["inference_id"], line["readable"]) == ("call-1", True)
    assert "Doe" not in str(line)


async def test_an_empty_store_has_nothing(twin: Twin) -> None:
    assert await sweep(twin) == 0.0
    assert [blob.key async for blob in twin.capture.clean.list("")] == []
    assert await twin.capture.clean.get(KEY) is None
    assert await twin.capture.read_raw(KEY) is None
