"""``python -m tools.schemas`` writes docs/openapi.json, and the schemas of options, from the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from assistant.option import Place
from assistant.service.app import build_routes, openapi_document, rendered

DOCS = Path(__file__).parents[1] / "docs"
SCHEMAS = Place[Mapping[str, Callable[[], bytes]]]("schemas of docs")
"""File of the docs = what makes it."""

if __name__ == "__main__":
    (DOCS / "openapi.json").write_bytes(rendered(openapi_document(build_routes())))
    for schemas in SCHEMAS.joined():
        for name, schema in schemas.items():
            (DOCS / name).write_bytes(schema())
