"""The published schema is what the reader takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from assistant.knowledge.front_matter import read_front_matter
from tools.front_matter_schema import PATH, front_matter_schema, schema_bytes

KNOWLEDGE = Path(__file__).resolve().parents[3] / "knowledge" / "pharmacy"


def is_valid(meta: Any) -> bool:
    return jsonschema.Draft202012Validator(front_matter_schema()).is_valid(meta)


def test_the_published_schema_is_up_to_date() -> None:
    assert PATH.read_bytes() == schema_bytes(), "run python -m tools.front_matter_schema"


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
        {"Labels": ["hr"]},
        {"label": "hr"},
        {"labels": {"hr": "true"}},
        {"labels": [["hr"]]},
        {"labels": None},
        {"labels": ""},
        {"labels": [""]},
        {"id": "wiki:pay"},
        {"withdrawn": "yes"},
        {"layout": "page"},
        {"item": "kettle"},
        {"item": {"brand": "Aurelo"}},
        {"item": {"item_id": "k2", "stars": "5"}},
        {"item": {"item_id": "k2", "rating": "6"}},
    ],
)
def test_front_matter_that_the_reader_refuses_is_invalid(meta: dict[str, object]) -> None:
    assert not is_valid(meta)
