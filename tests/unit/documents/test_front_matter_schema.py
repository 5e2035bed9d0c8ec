"""The published schema is what the reader takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from assistant.documents.front_matter import KEYS, LABEL_PATTERN, LONGEST_CHARACTERS, read_front_matter
from assistant.domain.documents import Document, ItemFacts

ROOT = Path(__file__).resolve().parents[3]
KNOWLEDGE = ROOT / "knowledge" / "pharmacy"
SCHEMA: dict[str, Any] = orjson.loads((ROOT / "docs" / "front-matter.schema.json").read_bytes())


def is_valid(meta: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(meta)


def test_the_published_schema_has_the_keys_and_bounds_of_the_reader() -> None:
    fields = SCHEMA["properties"]
    assert tuple(fields) == tuple(KEYS)
    assert fields["labels"]["anyOf"][0]["items"]["pattern"] == LABEL_PATTERN
    assert f"At most {LONGEST_CHARACTERS:,} characters" in SCHEMA["description"]
    document = Document.model_json_schema()["properties"]
    assert all(fields[key]["maxLength"] == document[key]["maxLength"] for key in ("title", "source", "type"))


def test_the_published_schema_has_the_fields_and_bounds_of_an_item() -> None:
    item, facts = SCHEMA["properties"]["item"]["properties"], ItemFacts.model_json_schema()["properties"]
    assert tuple(item) == tuple(facts)
    assert item["item_id"]["pattern"] == facts["item_id"]["pattern"]
    assert all(item[key]["maxLength"] == facts[key]["maxLength"] for key in ("category", "brand"))
    names, values = item["properties"]["propertyNames"], item["properties"]["additionalProperties"]
    assert names.items() <= facts["properties"]["propertyNames"].items()
    assert values == facts["properties"]["additionalProperties"]
    assert item["properties"]["maxProperties"] == facts["properties"]["maxProperties"]


@pytest.mark.parametrize("path", sorted(KNOWLEDGE.glob("*.md")), ids=lambda path: path.stem)
def test_the_shipped_documents_are_valid(path: Path) -> None:
    assert is_valid(dict(read_front_matter(path.read_text(encoding="utf-8")).meta))


def test_an_item_with_all_its_fields_is_valid() -> None:
    number = {"rating": "4.3", "ratings": "7", "price": "49.90", "currency": "EUR", "helpful_votes": "0"}
    texts = {"item_id": "k2", "category": "Kettles", "brand": "Aurelo", "verified": "true"}
    assert is_valid({"item": number | texts | {"properties": {"Power": "2 kW"}}})


@pytest.mark.parametrize(
    "meta",
    [
        {"labels": {"hr": "true"}},
        {"labels": [["hr"]]},
        {"labels": None},
        {"labels": ""},
        {"labels": [""]},
        {"id": "wiki:pay"},
        {"withdrawn": "yes"},
        {"item": "kettle"},
        {"item": {"brand": "Aurelo"}},
        {"item": {"item_id": "k2", "stars": "5"}},
        {"item": {"item_id": "k2", "rating": "6"}},
    ],
)
def test_front_matter_that_the_reader_refuses_is_invalid(meta: dict[str, object]) -> None:
    assert not is_valid(meta)
