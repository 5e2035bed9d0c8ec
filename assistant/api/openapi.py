"""The OpenAPI file: what FastAPI knows of the routes, the raw streaming paths, and the schemas of all events.

``python -m assistant.api.openapi`` writes docs/openapi.json anew; a test finds drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from assistant.answering.prepare import AnswerRequest
from assistant.api.chat_request import ChatRequest
from assistant.api.chat_wire import ChatCompletion, ChatCompletionChunk, ChatError
from assistant.api.openapi_links import link_operations
from assistant.api.openapi_parts import REFERENCE, SHARED_HEADERS
from assistant.api.openapi_streams import EVENTS, stream_operations
from assistant.api.wire import LinkToken, WholeAnswer, WithholdRequest
from assistant.domain.answers import Sent, Verdict
from assistant.domain.documents import Document

API_VERSION = "2.0.0"
_READ: Sequence[type] = (AnswerRequest, ChatRequest, Verdict, Sent, Document, WithholdRequest, LinkToken)
_WRITTEN: Sequence[type] = (*EVENTS, WholeAnswer, ChatCompletion, ChatCompletionChunk, ChatError)
_OPEN_PATHS = ("/healthz", "/openapi.json")
_DEFAULT_PATH = Path(__file__).parents[2] / "docs" / "openapi.json"


def openapi_document(routes: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the whole service."""
    document = get_openapi(
        title="Private care assistant",
        version=API_VERSION,
        description="Private question answering for customer-care agents. The token chooses the tenant.",
        routes=routes.routes,
    )
    components: dict[str, Any] = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    schemas |= _schemas(_READ, "validation") | _schemas(_WRITTEN, "serialization")
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422 body is never sent
        schemas.pop(unused, None)
    for path, operations in stream_operations().items():
        document["paths"].setdefault(path, {}).update(operations)
    link_operations(document)
    components["headers"] = SHARED_HEADERS
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    document["security"] = [{"bearer": []}]
    for open_path in _OPEN_PATHS:
        document["paths"][open_path]["get"]["security"] = []
    return document


def _schemas(kinds: Sequence[type], mode: JsonSchemaMode) -> dict[str, Any]:
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (kind.__name__, mode, TypeAdapter[Any](kind)) for kind in kinds
    ]
    _, found = TypeAdapter.json_schemas(inputs, ref_template=REFERENCE)
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def rendered(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


if __name__ == "__main__":
    from assistant.api.application import build_routes

    _DEFAULT_PATH.write_bytes(rendered(openapi_document(build_routes())))
