"""``ingest_documents``: ids of documents → parsed, embedded, in the index, live."""

from __future__ import annotations

from assistant.functions.entry import Event, LambdaContext
from assistant.functions.messages import Failures, queued_documents
from assistant.functions.telling import tell
from assistant.knowledge.batches import PAUSED_DELAY_S, BatchOutcome
from assistant.settings import deployed_names
from assistant.wiring.services import Ingesting


async def ingest_documents(ingesting: Ingesting, event: Event, _context: LambdaContext) -> Failures:
    """Bring in the batch. What waits for an endpoint is put back as new messages, so that it is no failure:
    only messages that are none of ours are kept, and become dead letters."""
    taken = queued_documents(event)
    batches = ingesting.batches_of(taken.queue_name)
    await batches.put_back(taken.strange_receipts)
    if not taken.messages:
        outcome = BatchOutcome(done=0, postponed=0)
    elif await ingesting.power.read():
        outcome = await batches.postpone(taken.messages, delay_s=PAUSED_DELAY_S)
    else:
        outcome = await batches.handle(taken.messages)
    if outcome.postponed:
        tell(deployed_names.DOCUMENTS_POSTPONED, outcome.postponed, service=ingesting.metrics_service)
    return taken.failures
