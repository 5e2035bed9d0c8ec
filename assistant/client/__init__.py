"""A typed client of the service: ``AssistantClient``, and ``BlockingAssistantClient`` for code without an
event loop.

It follows docs/openapi.json: every operation there is a method of the same name here, and ``stream`` reads
the events of ``ask``. Unknown events and fields are ignored.

    async with AssistantClient("https://assistant.example", token=token) as client:
        async for event in client.stream("How long is the wait?"):
            ...
"""

from assistant.client.client import AssistantClient, BlockingAssistantClient
from assistant.client.connection import (
    ConflictingError,
    NotAllowedError,
    NotThereError,
    Patience,
    Question,
    RefusedByServiceError,
    RejectedError,
    SignInError,
    UnavailableError,
    UnreachableError,
)

__all__ = [
    "AssistantClient",
    "BlockingAssistantClient",
    "ConflictingError",
    "NotAllowedError",
    "NotThereError",
    "Patience",
    "Question",
    "RefusedByServiceError",
    "RejectedError",
    "SignInError",
    "UnavailableError",
    "UnreachableError",
]
