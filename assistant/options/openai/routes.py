"""The routes of this option, and their operations in the OpenAPI file."""

from __future__ import annotations

from typing import Any

from assistant.options.openai.chat import CHAT_PATH, MODELS_PATH, ChatRequest, complete_chat, list_models
from assistant.service import errors, wire
from assistant.service.app import KEY, REFUSED_QUESTIONS, RawRoute, answer_links, described, json_text

_CHUNKS = (
    "One of the server-sent events, which have `data` only: chunks (x-chunk), then `[DONE]`. The first "
    "has the role, the last choice the finish reason and the annotations. A stream that breaks off ends "
    "with an error (x-error) and without `[DONE]`. When nothing flows for 10 s the comment `: alive` "
    "comes."
)


def describe_chat() -> dict[str, Any]:
    """Return the operation of the chat route in the OpenAPI file. ``service.app`` calls it once."""
    events = ("ChatCompletionChunk", "ChatError")
    stream = {
        "schema": {
            "description": _CHUNKS,
            "type": "object",
            "required": ["data"],
            "properties": {"data": {"anyOf": [{"const": "[DONE]"}, *map(json_text, events)]}},
        },
        "x-chunk": errors.reference("ChatCompletionChunk"),
        "x-error": errors.reference("ChatError"),
    }
    whole, refused = ({"schema": errors.reference(model)} for model in ("ChatCompletion", "ChatError"))
    success = {
        "description": "The answer; its sentences' citations are annotations of type url_citation",
        "headers": {
            "X-Answer-Id": {"$ref": "#/components/headers/AnswerId"},
            "Warning": {"description": "What was ignored of the request", "schema": {"type": "string"}},
        },
        "content": {"text/event-stream": stream, "application/json": whole},
        "links": answer_links("id", "answer/conversation_id"),
    }
    failures = errors.problems(*REFUSED_QUESTIONS, content={"application/json": refused})
    return {
        "summary": "Ask, in OpenAI's form",
        "operationId": "chat",
        "parameters": [KEY],
        **errors.body_of(ChatRequest),
        **described(complete_chat, success, failures),
    }


def describe_models() -> dict[str, Any]:
    """Return the operation of the models route in the OpenAPI file."""
    listed, refused = ({"schema": errors.reference(model)} for model in ("ChatModels", "ChatError"))
    success = {"description": "The models", "content": {"application/json": listed}}
    failures = errors.problems(401, 403, 429, 503, content={"application/json": refused})
    return {
        "summary": "List the models, in OpenAI's form",
        "operationId": "list_models",
        **described(list_models, success, failures),
    }


ROUTES = (
    RawRoute("POST", CHAT_PATH, complete_chat, describe_chat),
    RawRoute("GET", MODELS_PATH, list_models, describe_models),
)
REQUEST_BODIES = (ChatRequest,)
# Models of responses, whose schemas the OpenAPI file has.
WRITTEN = (wire.ChatCompletion, wire.ChatCompletionChunk, wire.ChatModels, wire.ChatError)
