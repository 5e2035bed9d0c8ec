"""A typed client of the service: ``AssistantClient``.

Its methods have the names of operations in docs/openapi.json, and ``stream`` reads the events of ``ask``.
Unknown events and fields are ignored.

    async with AssistantClient("https://assistant.example", token=token) as client:
        async for event in client.stream("How long is the wait?"):
            ...
"""

from assistant.client.client import AssistantClient
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
