"""``python -m tools.openapi_document`` writes docs/openapi.json from the code."""

from __future__ import annotations

from pathlib import Path

from assistant.api.app import build_routes, openapi_document, rendered

PAGE = Path(__file__).parents[1] / "docs" / "openapi.json"


def main() -> None:
    PAGE.write_bytes(rendered(openapi_document(build_routes())))


if __name__ == "__main__":
    main()
