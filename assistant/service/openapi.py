"""The OpenAPI file: what FastAPI knows of the routes, the raw streaming path, and the schemas of all events.

``python -m assistant.service.openapi`` writes docs/openapi.json anew; a test finds drift.
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

from assistant.answering.asking import AnswerRequest
from assistant.answering.events import Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.domain.answers import Sent, Verdict
from assistant.domain.documents import Document
from assistant.service.openapi_parts import REFERENCE, body_of, problems
from assistant.service.wire import WholeAnswer

API_VERSION = "1.0.0"
EVENTS = (Started, Sources, Token, SentenceEnded, Done, Problem)
_READ: Sequence[type] = (AnswerRequest, Verdict, Sent, Document)
_WRITTEN: Sequence[type] = (*EVENTS, WholeAnswer)
_STREAM = (
    "Server-sent events in the order started, sources, (token | sentence)*, done | error. Event ids are "
    "<answer_id>:<sequence>; a comment comes when nothing flows for 10 s. Clients ignore unknown events and "
    "fields. The schema of an event's data stands in components.schemas under the name that x-events gives."
)
_DEFAULT_PATH = Path(__file__).parents[2] / "docs" / "openapi.json"


def openapi_document(routes: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the whole service."""
    document = get_openapi(
        title="Private care assistant",
        version=API_VERSION,
        description="Private question answering for customer-care agents. The token chooses the tenant.",
        routes=routes.routes,
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _schemas(_READ, "validation") | _schemas(_WRITTEN, "serialization")
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422 body is never sent
        schemas.pop(unused, None)
    document["paths"].setdefault("/v1/answers", {})["post"] = _asking()
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    document["security"] = [{"bearer": []}]
    for open_path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        document["paths"][open_path]["get"]["security"] = []
    return document


def _asking() -> dict[str, Any]:
    whole = {"schema": {"$ref": REFERENCE.format(model="WholeAnswer")}}
    stream = {
        "schema": {"type": "string", "description": _STREAM},
        "x-events": {event.event: {"$ref": REFERENCE.format(model=event.__name__)} for event in EVENTS},
    }
    answers = {
        "description": "The answer",
        "content": {"text/event-stream": stream, "application/json": whole},
    }
    return {
        "tags": ["answers"],
        "summary": "Ask",
        "operationId": "ask",
        "description": "Answer a question, streamed or whole as Accept says. Leaving cancels.",
        **body_of(AnswerRequest),
        "responses": {"200": answers}
        | {
            str(status): response
            for status, response in problems(400, 401, 403, 404, 413, 422, 429, 503).items()
        },
    }


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
    from assistant.service.application import build_routes

    _DEFAULT_PATH.write_bytes(rendered(openapi_document(build_routes())))
