"""``withdraw_documents``: ids → out of the index and the stores. ``purge_index``: off the domain's disks."""

from __future__ import annotations

from assistant.functions.entry import Event, LambdaContext
from assistant.functions.messages import Failures, queued_documents
from assistant.knowledge.withdrawal import resume_withdrawals
from assistant.wiring.services import Removing


async def withdraw_documents(removing: Removing, event: Event, _context: LambdaContext) -> Failures:
    """Take the documents out; what waits for the domain is put back as new messages."""
    taken = queued_documents(event)
    await removing.batches.put_back(taken.strange_receipts)
    if taken.messages:
        await removing.batches.handle(taken.messages)
    return taken.failures


async def purge_index(removing: Removing, _event: Event, _context: LambdaContext) -> None:
    """Rewrite what deleted passages are left in, and see that no withdrawal was forgotten.

    The domain keeps what was deleted in the last half minute: the next time takes it out.
    """
    await resume_withdrawals(removing.ingestion.stores)
    await removing.ingestion.index.optimize()
