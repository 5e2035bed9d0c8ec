"""The OpenAPI file: FastAPI's routes, the raw streaming paths, the schemas of events, and links.

``python -m tools.openapi_document`` writes docs/openapi.json; a test compares it with the code. Links lead
from an operation's response to the operations that continue it: stateful tests follow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from assistant.answering.events import Done, ElementChanged, Problem, SentenceEnded, Sources, Started, Token
from assistant.answering.prepare import AnswerRequest
from assistant.api import wire
from assistant.api.chat import ChatRequest
from assistant.api.errors import REFERENCE, SHARED_HEADERS, body_of, links, problems, reference, refusals
from assistant.domain.answers import Sent, Verdict
from assistant.domain.desk_decisions import (
    CaseApproval,
    CaseReopening,
    CaseResolution,
    PreviewRequest,
    Restoring,
    StateChange,
)
from assistant.domain.documents import Document

_REFUSED_QUESTIONS = (400, 401, 403, 404, 409, 410, 413, 422, 429, 503)
_OF_AN_ANSWER = ("read_answer", "follow_answer", "give_verdict", "keep_sent", "cancel_answer")


def _answer_links(answer_id: str, conversation_id: str) -> dict[str, Any]:
    """Return the links to the operations that continue an answer; both names are paths in the body."""
    return links(*_OF_AN_ANSWER, answer_id=answer_id) | links(
        "read_conversation", conversation_id=conversation_id
    )


EVENTS = (Started, Sources, Token, SentenceEnded, ElementChanged, Done, Problem)
_STREAM = (
    "One of the server-sent events (`id`, `event`, `data`) of the stream, UTF-8. Their order is: started,"
    " sources, any number of token, sentence and element, then done or error, and nothing after it. `data` "
    "is JSON; its schema stands under the event's name in x-events. Ids are `<answer_id>:<sequence>`, the "
    "sequence ascending from 1, with gaps where tokens were merged for a slow reader; an event without an"
    " id is of this connection only. When nothing flows for 10 s the comment `: alive` comes. Clients "
    "ignore unknown events and fields. Texts of tokens are Markdown: a checked sentence, or a quoted unit of "
    "a document. A stream that ends without done or error was cut."
)
_CHUNKS = (
    "One of the server-sent events, which have `data` only: chunks (x-chunk), then `[DONE]`. The first "
    "has the role, the last choice the finish reason and the annotations. A stream that breaks off ends "
    "with an error (x-error) and without `[DONE]`. When nothing flows for 10 s the comment `: alive` "
    "comes."
)
_EVENT_ID = "^[A-Za-z0-9_-]{1,64}:[1-9][0-9]{0,8}$"
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat under the same key, by the same agent within 15 minutes, joins the first "
    "answer; with another request it is refused (409). A key keeps the answer's events as "
    "resume_window_s does. When the answer ends with a retryable error, its key is free again: the next "
    "request under it begins a new answer. So it is when the task that wrote the answer is gone, which "
    "shows 5 s after its last event (15 s before the first): a request that joins then gets what was kept "
    "and the error interrupted. An error that is not retryable comes again for 15 minutes.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
_LAST_EVENT_ID: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Id of the last event that was seen: those after it come. Without it, all.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}:[0-9]{1,9}$"},
}
_ANSWER_ID: dict[str, Any] = {
    "name": "answer_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_-]+$"},
}


def stream_operations() -> dict[str, dict[str, Any]]:
    """Return the paths with their operations, to be merged into those that FastAPI knows."""
    return {
        "/v1/answers": {"post": _ask()},
        "/v1/answers/{answer_id}/events": {"get": _follow()},
        "/v1/chat/completions": {"post": _chat()},
    }


def _ask() -> dict[str, Any]:
    return {
        "tags": ["answers"],
        "summary": "Ask",
        "operationId": "ask",
        "description": "Answer a question: as a stream when Accept prefers text/event-stream or ranks it "
        "equal to JSON, otherwise as one body. When the client disconnects, the answer ends after "
        "resume_window_s seconds.",
        "parameters": [_KEY],
        **body_of(AnswerRequest),
        "responses": _responses(
            {
                "description": "The answer",
                "content": {
                    "text/event-stream": _event_stream(),
                    "application/json": {"schema": reference("WholeAnswer")},
                },
                "links": _answer_links("answer_id", "conversation_id"),
            },
            problems(*_REFUSED_QUESTIONS),
        ),
    }


def _follow() -> dict[str, Any]:
    not_kept = {409: "The events were not kept, or have expired: read the answer itself"}
    return {
        "tags": ["answers"],
        "summary": "Resume an answer",
        "operationId": "follow_answer",
        "description": "The events of the caller's own answer, if its question had a resume_window_s or a "
        "key: those after Last-Event-ID, then the new ones. They are kept for 15 minutes. If the process "
        "that wrote the answer has ended, the stream ends with the error interrupted. If only the "
        "last events are lost and the whole answer is recorded, it ends with the error "
        "not_resumable: read the answer instead. If a document in the answer was withdrawn, or the "
        "caller may no longer read it, the only event is the error withdrawn.",
        "parameters": [_ANSWER_ID, _LAST_EVENT_ID],
        "responses": _responses(
            {"description": "The events", "content": {"text/event-stream": _event_stream()}},
            problems(401, 403, 404, 409, 422, 429, 503, meanings=not_kept),
        ),
    }


def _chat() -> dict[str, Any]:
    sent = ("ChatCompletionChunk", "ChatError")
    stream = {
        "schema": {
            "description": _CHUNKS,
            "type": "object",
            "required": ["data"],
            "properties": {"data": {"anyOf": [{"const": "[DONE]"}, *map(_json_text, sent)]}},
        },
        "x-chunk": reference("ChatCompletionChunk"),
        "x-error": reference("ChatError"),
    }
    answers = {
        "description": "The answer; its sentences' citations are annotations of type url_citation",
        "headers": {"X-Answer-Id": {"$ref": "#/components/headers/AnswerId"}},
        "content": {"text/event-stream": stream, "application/json": {"schema": reference("ChatCompletion")}},
        "links": _answer_links("id", "answer/conversation_id"),
    }
    errors = refusals(*_REFUSED_QUESTIONS, content={"application/json": {"schema": reference("ChatError")}})
    return {
        "tags": ["answers"],
        "summary": "Ask, in OpenAI's form",
        "operationId": "chat",
        "description": _CHAT_RULES,
        "parameters": [_KEY],
        **body_of(ChatRequest),
        "responses": _responses(answers, errors),
    }


_CHAT_RULES = (
    "The same answer as from /v1/answers, with the same admission, retrieval, gate, checks and "
    "record; the id of the completion is its answer_id. The last message, with role user, is the "
    "question. The prompt also contains the previous user message; retrieval uses it if the "
    "question is a follow-up. Messages with role assistant are never read; with conversation_id "
    "(from answer.conversation_id) the recorded turns are used instead. Roles system and "
    "developer, unknown parameters, and parameters that would change the response are refused "
    "(422). Parameters of sampling and bookkeeping are accepted without effect. The content is "
    "the answer's text. An uncertain answer starts with a line that says so, or ends with it if "
    "the service knows only at the end. Without evidence the content is the reason and whom to "
    "ask. Both have finish_reason stop; answer.finish_reason and answer.certainty distinguish "
    "them."
)


def _event_stream() -> dict[str, Any]:
    return {
        "schema": {"description": _STREAM, "oneOf": [_event_schema(event) for event in EVENTS]},
        "x-events": {event.event: reference(event.__name__) for event in EVENTS},
        "x-event-order": ["started", "sources", ["token", "sentence", "element"], ["done", "error"]],
        "x-event-id": _EVENT_ID,
        "x-heartbeat": {"comment": "alive", "after_s": 10},
    }


def _event_schema(event: type[Any]) -> dict[str, Any]:
    """Return the schema of one event: the stream's is that of each of its events."""
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "id": {"type": "string", "pattern": _EVENT_ID},
            "event": {"const": event.event},
            "data": _json_text(event.__name__),
        },
    }


def _json_text(model: str) -> dict[str, Any]:
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": reference(model)}


def _responses(good: dict[str, Any], bad: dict[int | str, dict[str, Any]]) -> dict[str, Any]:
    return {"200": good} | {str(status): response for status, response in bad.items()}


API_VERSION = "2.0.0"
_DECISIONS = (CaseResolution, CaseApproval, CaseReopening, StateChange, Restoring, PreviewRequest)
_READ = (
    AnswerRequest,
    ChatRequest,
    Verdict,
    Sent,
    Document,
    wire.WithholdRequest,
    wire.ElementRequest,
    wire.LinkToken,
    *_DECISIONS,
)
_WRITTEN = (
    *EVENTS,
    wire.DeskExportLine,
    wire.WholeAnswer,
    wire.ChatCompletion,
    wire.ChatCompletionChunk,
    wire.ChatError,
)
_OPEN_PATHS = ("/healthz", "/openapi.json")


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
