"""``receive_documents``: events of new raw files → documents, their states, their ids in a queue."""

from __future__ import annotations

from typing import Any, cast

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType

from assistant.bootstrap.functions import Receiving
from assistant.domain.errors import TooLargeError
from assistant.functions.entry import Event, LambdaContext
from assistant.functions.messages import Failures, failures, new_object
from assistant.functions.telling import tell
from assistant.settings import function_metrics


async def receive_documents(receiving: Receiving, event: Event, _context: LambdaContext) -> Failures:
    """Take in each file; a message whose file cannot be taken in now comes again, the others do not."""
    processor = AsyncBatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    async def receive(record: Event) -> None:
        await _receive(receiving, str(record["body"]))

    with processor(records=list(event["Records"]), handler=receive):
        await cast("Any", processor).async_process()
    return failures([str(each["itemIdentifier"]) for each in processor.response()["batchItemFailures"]])


async def _receive(receiving: Receiving, body: str) -> None:
    found = new_object(body)
    if found.key.endswith("/"):  # what consoles call a folder
        return
    try:
        summary = await receiving.receive(found.key)
        refused = len(summary.failures)
    except TooLargeError:
        refused = 1
    if refused:
        tell(function_metrics.RAW_FILES_REFUSED, refused, service=receiving.metrics_service)
