"""``receive_documents``: events of new raw files → documents, their states, their ids in a queue."""

from __future__ import annotations

from assistant.domain.errors import TooLargeError
from assistant.functions.entry import Event, LambdaContext
from assistant.functions.messages import Failures, each_message, new_object
from assistant.functions.telling import tell
from assistant.settings import deployed_names
from assistant.wiring.services import Receiving


async def receive_documents(receiving: Receiving, event: Event, _context: LambdaContext) -> Failures:
    """Take in each file; a message whose file cannot be taken in now comes again, the others do not."""

    async def receive(body: str) -> None:
        await _receive(receiving, body)

    return await each_message(event, receive)


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
        tell(deployed_names.RAW_FILES_REFUSED, refused, service=receiving.metrics_service)
