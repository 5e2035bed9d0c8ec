"""Writes docs/front-matter.schema.json: ``python -m tools.front_matter_schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from assistant.domain.documents import Document, ItemFacts
from assistant.knowledge.front_matter import KEYS, LABEL_PATTERN, LONGEST_CHARACTERS

PATH = Path(__file__).resolve().parents[1] / "docs" / "front-matter.schema.json"
_SAID = {
    "id": "The document's id within its source: no white space, none of : / ? #. By default the file's path.",
    "title": "By default the first heading of the highest level.",
    "source": "Its origin, as agents see it. Not the [[sources]] entry that it belongs to.",
    "type": "What kind of document it is; agents may filter by it.",
    "url": "The address of the original.",
    "owner": "The person or team that is responsible for it.",
    "effective_date": "YYYY-MM-DD.",
    "labels": "Access labels of the tenant's vocabulary: an agent needs one of them. [] is for every agent; "
    "without the key the source's default_labels count.",
    "questions": "Questions that it answers; searched beside the title.",
    "withdrawn": "true removes the document from the answers and deletes its text.",
    "item": "Of a document of a shop: the item that it is about, and what it says of it in fields.",
}


def front_matter_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of front matter. All values are texts."""
    fields = Document.model_json_schema()["properties"]
    label = {"type": "string", "pattern": LABEL_PATTERN}
    labels = {"type": "array", "items": label, "maxItems": 200}
    question = {"type": "string", "minLength": 1, "maxLength": 500}
    kinds: dict[str, dict[str, Any]] = {
        "id": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[^\s:/?#\x00-\x1f]+$"},
        "title": {"type": "string", "maxLength": fields["title"]["maxLength"]},
        "source": {"type": "string", "maxLength": fields["source"]["maxLength"]},
        "type": {"type": "string", "maxLength": fields["type"]["maxLength"]},
        "url": {"type": "string", "pattern": r"^https?://\S+$", "maxLength": 2000},
        "owner": {"type": "string", "maxLength": 200},
        "effective_date": {"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
        "labels": {"anyOf": [labels, {"type": "string", "minLength": 1}]},
        "questions": {"anyOf": [{"type": "array", "items": question, "maxItems": 50}, question]},
        "withdrawn": {"enum": ["true", "false"]},
        "item": _item_schema(),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Front matter of a Markdown document",
        "description": f"At most {LONGEST_CHARACTERS:,} characters; all values are texts, without aliases. "
        "Whether a label is in the vocabulary is decided by the tenant file.",
        "type": "object",
        "additionalProperties": False,
        "properties": {key: {"description": _SAID[key], **kinds[key]} for key in KEYS},
    }


def _item_schema() -> dict[str, Any]:
    """Return the schema of an item whose values are texts: numbers by their patterns."""
    fields = ItemFacts.model_json_schema()["properties"]
    decimal = {"type": "string", "pattern": r"^\d{1,10}(\.\d{1,2})?$"}
    count = {"type": "string", "pattern": r"^\d+$"}
    names, values = fields["properties"]["propertyNames"], fields["properties"]["additionalProperties"]
    kinds: dict[str, dict[str, Any]] = {
        "item_id": {"type": "string", "pattern": fields["item_id"]["pattern"]},
        "category": {"type": "string", "maxLength": fields["category"]["maxLength"]},
        "brand": {"type": "string", "maxLength": fields["brand"]["maxLength"]},
        "price": decimal,
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "properties": {
            "type": "object",
            "propertyNames": {key: value for key, value in names.items() if key != "type"},
            "additionalProperties": values,
            "maxProperties": fields["properties"]["maxProperties"],
        },
        "rating": {"type": "string", "pattern": r"^([1-4](\.\d+)?|5(\.0+)?)$"},
        "ratings": count,
        "helpful_votes": count,
        "verified": {"enum": ["true", "false"]},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["item_id"],
        "properties": {name: kinds[name] for name in fields},
    }


def schema_bytes() -> bytes:
    return orjson.dumps(front_matter_schema(), option=orjson.OPT_INDENT_2) + b"\n"


if __name__ == "__main__":
    PATH.write_bytes(schema_bytes())
