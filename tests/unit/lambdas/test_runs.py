"""Each function's ``run`` with fakes: what it does with an event, and what it returns to Lambda."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from assistant.domain.documents import UploadResult
from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.models.redaction import Redacting
from assistant.service.opened import Ingesting, Receiving
from assistant.tenant.deployed_names import RAW_FILES_REFUSED
from lambdas import ingest_documents, receive_documents, redact_capture
from tests.stage.lambda_events import object_created, sqs_event

ALL_DONE = {"batchItemFailures": []}
FIRST_FAILED = {"batchItemFailures": [{"itemIdentifier": "message-0"}]}


def metrics(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the metric lines that were written."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]


async def test_a_queue_that_is_not_configured_is_refused() -> None:
    body = json.dumps({"schema_version": 1, "document_id": "a"})
    with pytest.raises(ConfigurationError, match="other"):
        await ingest_documents.run(Ingesting(cast(Any, None), {}, "clinic"), sqs_event("other", [body]))


async def test_uploads_and_other_files_are_received_by_what_reads_them() -> None:
    """What the function itself puts beside an upload, its result, is read by neither."""
    files: list[str] = []
    uploads: list[tuple[str, int]] = []

    async def receive(key: str, _version: str) -> UploadResult:
        files.append(key)
        return UploadResult()

    async def receive_upload(key: str, *, attempt: int) -> UploadResult:
        uploads.append((key, attempt))
        return UploadResult()

    keys = ["wiki/.uploads/aa/content", ".uploadsaa/content"]
    below = [f".uploads/aa/bb/{name}" for name in ("upload.json", "content", "result.json")]
    bodies = [object_created("inbox", key) for key in (*keys, *below)]
    receiving = Receiving(cast(Any, receive), cast(Any, receive_upload), "clinic")

    assert await receive_documents.run(receiving, sqs_event("inbox", bodies)) == ALL_DONE
    assert (files, uploads) == (keys, [("aa/bb", 1)])


async def test_a_file_that_is_refused_is_counted_and_not_delivered_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def receive(_key: str, _version: str) -> UploadResult:
        return UploadResult(refused=1)

    event = sqs_event("inbox", [object_created("inbox", "wiki/refill.md")])

    assert (
        await receive_documents.run(Receiving(cast(Any, receive), cast(Any, None), "clinic"), event)
        == ALL_DONE
    )
    assert metrics(capsys)[0][RAW_FILES_REFUSED] == [1.0]


async def test_an_object_that_fails_is_delivered_again_and_stops_no_other() -> None:
    redacted: list[str] = []

    async def redact(key: str) -> None:
        if key == "first":
            raise DependencyError("S3 is unavailable.")
        redacted.append(key)

    redacting = Redacting(cast(Any, redact), cast(Any, None), "clinic")
    bodies = [object_created("quarantine", key) for key in ("first", "second")]

    assert await redact_capture.run(redacting, sqs_event("captured", bodies)) == FIRST_FAILED
    assert redacted == ["second"]
