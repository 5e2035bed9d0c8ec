"""Pieces that routes declare for the OpenAPI file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the statuses that a route answers with a problem body."""
    content = {"application/problem+json": {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Declare a JSON body that the route reads itself, within its own bounds."""
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_MEANINGS = {
    400: "Not readable",
    401: "No valid token",
    403: "Role missing",
    404: "Not there, or not yours",
    409: "Used before with other content",
    413: "Too large",
    422: "Breaks the schema",
    429: "Too much at once; see Retry-After",
    503: "A dependency does not answer",
}
