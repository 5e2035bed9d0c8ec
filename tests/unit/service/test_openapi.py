from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.service.application import build_routes
from assistant.service.openapi import EVENTS, openapi_document, rendered

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return orjson.loads(rendered(openapi_document(build_routes())))


def test_the_committed_file_is_what_the_code_says(document: dict[str, Any]) -> None:
    assert orjson.loads(COMMITTED.read_bytes()) == document, "run: python -m assistant.service.openapi"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_every_event_has_its_schema(document: dict[str, Any], event: Any) -> None:
    stream = document["paths"]["/v1/answers"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    name = stream["x-events"][event.event]["$ref"].rpartition("/")[2]
    assert document["components"]["schemas"][name]["type"] == "object"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= schemas


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)
