"""Writes docs/feedback.schema.json: ``python -m tools.feedback_schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from assistant.domain.feedback import FEEDBACK_VERSION, FeedbackEvent

PATH = Path(__file__).resolve().parents[1] / "docs" / "feedback.schema.json"


def feedback_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one line of ``events/dt=YYYY-MM-DD/*.jsonl``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **FeedbackEvent.model_json_schema(mode="serialization"),
        "title": f"Feedback event, schema version {FEEDBACK_VERSION}",
    }


def schema_bytes() -> bytes:
    return orjson.dumps(feedback_schema(), option=orjson.OPT_INDENT_2) + b"\n"


if __name__ == "__main__":
    PATH.write_bytes(schema_bytes())
