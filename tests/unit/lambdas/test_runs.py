"""Each function's ``run`` with fakes: what it does with an event, and what it returns to Lambda."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from assistant.aws.lambda_entry import ResourceRequest
from assistant.domain.errors import ConfigurationError, DependencyError, TooLargeError
from assistant.knowledge.add_documents import AddSummary
from assistant.knowledge.batches import PAUSED_DELAY_S
from assistant.knowledge.ports import QueuedDocument
from assistant.settings.deployed_names import (
    DOCUMENTS_POSTPONED,
    RAW_FILES_REFUSED,
)
from assistant.wiring.services import Ingesting, Receiving, Redacting, SearchDomain
from lambdas import apply_search_schema, ingest_documents, receive_documents, redact_capture
from tests.fakes.lambda_events import custom_resource, object_created, sqs_event

ALL_DONE = {"batchItemFailures": []}
FIRST_FAILED = {"batchItemFailures": [{"itemIdentifier": "message-0"}]}


def message(document_id: str) -> str:
    return json.dumps({"schema_version": 1, "document_id": document_id})


@dataclass
class Batches:
    """Remembers what it gets; all documents are handled at once."""

    handled: list[str] = field(default_factory=list[str])
    postponed: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    async def handle(self, messages: Sequence[QueuedDocument]) -> int:
        self.handled += [each.document_id for each in messages]
        return 0

    async def postpone(self, messages: Sequence[QueuedDocument], *, delay_s: int) -> int:
        self.postponed += [(each.document_id, delay_s) for each in messages]
        return len(messages)

    async def put_back(self, receipts: Sequence[str]) -> None:
        assert not receipts


@dataclass
class Power:
    is_paused: bool = False

    async def read(self) -> bool:
        return self.is_paused


def ingesting(batches: Batches, *, is_paused: bool = False) -> Ingesting:
    return Ingesting(cast(Any, Power(is_paused)), {"ids": cast(Any, batches)}, "clinic")


def metrics(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the metric lines that were written."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]


async def test_documents_are_postponed_while_the_endpoints_are_paused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = Batches()

    await ingest_documents.run(ingesting(batches, is_paused=True), sqs_event("ids", [message("a")]))

    assert (batches.handled, batches.postponed) == ([], [("a", PAUSED_DELAY_S)])
    (line,) = metrics(capsys)
    assert (line[DOCUMENTS_POSTPONED], line["Service"]) == ([1.0], "clinic")


async def test_a_queue_that_is_not_configured_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="other"):
        await ingest_documents.run(ingesting(Batches()), sqs_event("other", [message("a")]))


async def test_a_folder_of_the_inbox_is_not_fetched() -> None:
    keys: list[str] = []

    async def receive(key: str) -> AddSummary:
        keys.append(key)
        return AddSummary()

    bodies = [object_created("inbox", "wiki/"), object_created("inbox", "wiki/refill.md")]
    receiving = Receiving(cast(Any, receive), "clinic")

    assert await receive_documents.run(receiving, sqs_event("inbox", bodies)) == ALL_DONE
    assert keys == ["wiki/refill.md"]


async def test_a_file_that_is_too_large_is_counted_and_not_delivered_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def receive(key: str) -> AddSummary:
        raise TooLargeError(key)

    event = sqs_event("inbox", [object_created("inbox", "wiki/refill.md")])

    assert await receive_documents.run(Receiving(cast(Any, receive), "clinic"), event) == ALL_DONE
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


async def test_an_unknown_custom_resource_is_refused() -> None:
    event = custom_resource("Custom::Other", "Create", response_url="https://reply.invalid/")
    domain = SearchDomain(cast(Any, None), cast(Any, None), cast(Any, None))

    with pytest.raises(ConfigurationError, match="Custom::Other"):
        await apply_search_schema.run(domain, ResourceRequest.model_validate(event))
