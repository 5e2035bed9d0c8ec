"""``redact_capture``: raw capture → a clean copy, and no raw one. ``sweep_quarantine``: none is forgotten."""

from __future__ import annotations

from typing import Any, cast

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType

from assistant.bootstrap.functions import Redacting
from assistant.functions.entry import Event, LambdaContext
from assistant.functions.messages import Failures, failures, new_object
from assistant.functions.telling import tell
from assistant.settings import function_metrics


async def redact_capture(redacting: Redacting, event: Event, _context: LambdaContext) -> Failures:
    """Redact each object; a message whose object failed comes again, the others do not."""
    processor = AsyncBatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    async def redact(record: Event) -> None:
        await redacting.redact(new_object(str(record["body"])).key)

    with processor(records=list(event["Records"]), handler=redact):
        await cast("Any", processor).async_process()
    return failures([str(each["itemIdentifier"]) for each in processor.response()["batchItemFailures"]])


async def sweep_quarantine(redacting: Redacting, _event: Event, _context: LambdaContext) -> None:
    """Redact what is overdue, and say how old the oldest raw object is that is left."""
    age_s = await redacting.sweep()
    tell(
        function_metrics.OLDEST_RAW_CAPTURE_AGE,
        age_s,
        service=redacting.metrics_service,
        unit=MetricUnit.Seconds,
    )
