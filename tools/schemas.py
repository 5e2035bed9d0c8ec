"""``python -m tools.schemas`` writes docs/openapi.json and docs/feedback.schema.json from the code."""

from __future__ import annotations

from pathlib import Path

import orjson

from assistant.options.feedback.events import FEEDBACK_VERSION, FeedbackEvent
from assistant.service.app import build_routes, openapi_document, rendered

_DOCS = Path(__file__).parents[1] / "docs"
FEEDBACK_PAGE = _DOCS / "feedback.schema.json"


def feedback_schema() -> bytes:
    """Return the JSON Schema (2020-12) of one line of ``events/dt=YYYY-MM-DD/*.jsonl``."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **FeedbackEvent.model_json_schema(mode="serialization"),
        "title": f"Feedback event, schema version {FEEDBACK_VERSION}",
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


if __name__ == "__main__":
    (_DOCS / "openapi.json").write_bytes(rendered(openapi_document(build_routes())))
    FEEDBACK_PAGE.write_bytes(feedback_schema())
