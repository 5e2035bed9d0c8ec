from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from openapi_spec_validator import validate

from assistant.answer.events import AnswerEvent
from assistant.service.app import EVENTS, build_routes, openapi_document, rendered

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return orjson.loads(rendered(openapi_document(build_routes())))


def test_the_committed_file_is_what_the_code_says(document: dict[str, Any]) -> None:
    assert orjson.loads(COMMITTED.read_bytes()) == document, "run: python -m tools.pages schemas"


def test_the_events_are_those_that_are_sent() -> None:
    assert set(EVENTS) == set(get_args(AnswerEvent))


@pytest.mark.parametrize(
    ("path", "method"), [("/v1/answers", "post"), ("/v1/answers/{answer_id}/events", "get")], ids=str
)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_every_event_has_its_schema(document: dict[str, Any], event: Any, path: str, method: str) -> None:
    stream = document["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]
    name = stream["x-events"][event.event]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert schema["type"] == "object"
    assert set(schema["properties"]) == {field for field in event.__annotations__ if field != "event"} | set(
        getattr(event, "model_fields", {})
    )


def test_it_is_openapi(document: dict[str, Any]) -> None:
    validate(document)
