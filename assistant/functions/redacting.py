"""``redact_capture``: raw capture → a clean copy, and no raw one. ``sweep_quarantine``: none is forgotten."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit

from assistant.functions.entry import Event, LambdaContext
from assistant.functions.messages import Failures, each_message, new_object
from assistant.functions.telling import tell
from assistant.settings import deployed_names
from assistant.wiring.services import Redacting


async def redact_capture(redacting: Redacting, event: Event, _context: LambdaContext) -> Failures:
    """Redact each object; a message whose object failed comes again, the others do not."""

    async def redact(body: str) -> None:
        await redacting.redact(new_object(body).key)

    return await each_message(event, redact)


async def sweep_quarantine(redacting: Redacting, _event: Event, _context: LambdaContext) -> None:
    """Redact what is overdue, and say how old the oldest raw object is that is left."""
    age_s = await redacting.sweep()
    tell(
        deployed_names.OLDEST_RAW_CAPTURE_AGE,
        age_s,
        service=redacting.metrics_service,
        unit=MetricUnit.Seconds,
    )
