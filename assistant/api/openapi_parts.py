"""Pieces that routes declare for the OpenAPI file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"
_MEANINGS = {
    400: "Not readable",
    401: "No valid token",
    403: "Role missing",
    404: "Not there, or not yours",
    409: "Used before with other content",
    410: "A document that the answer shows was withdrawn since",
    413: "Too large",
    422: "Breaks the schema",
    429: "Too much at once; see Retry-After",
    500: "A defect of the service; its log has the trace id",
    503: "A dependency does not answer, or the model endpoints are paused; see Retry-After",
}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer", "required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}
SHARED_HEADERS: dict[str, Any] = {
    "RetryAfter": {
        "description": "Seconds after which the same request may succeed.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "AnswerId": {
        "description": "The answer, for verdicts and for reading it back.",
        "required": True,
        "schema": {"type": "string"},
    },
}


def problems(*statuses: int, meanings: dict[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """Declare the statuses that a route answers with a problem body; a defect's 500 is among them always."""
    content = {"application/problem+json": {"schema": reference("Problem")}}
    return refusals(*statuses, content=content, meanings=meanings)


def refusals(
    *statuses: int, content: dict[str, Any], meanings: dict[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Declare error statuses with a body of any form, and the headers that go with them."""
    said = _MEANINGS | (meanings or {})
    return {
        status: {"description": said[status], "content": content}
        | ({"headers": _HEADERS[status]} if status in _HEADERS else {})
        for status in sorted({*statuses, 500})
    }


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Declare a JSON body that the route reads itself, within its own bounds."""
    schema = reference(model.__name__)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def reference(model: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model)}
