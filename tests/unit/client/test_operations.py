"""The client and the API's document: no hole on either side."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import orjson

from assistant.client import AssistantClient

DOCUMENT = orjson.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_bytes())
OF_PAGES = {"desk", "notes", "panel", "recall", "suggestions"}
"""Tags of options whose routes a page of the console calls, or a helpdesk's server."""
OPERATIONS = {
    operation["operationId"]
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
    if OF_PAGES.isdisjoint(operation["tags"])
}
OF_OUR_OWN = {"stream", "read_original", "get", "post", "close"}
"""``stream`` reads ``ask`` as events; ``read_original`` is ``read_document`` in its other form; ``get`` and
``post`` take a path."""


def methods(client: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")}


def test_every_operation_of_the_document_is_a_method_and_no_other() -> None:
    assert methods(AssistantClient) - OF_OUR_OWN == OPERATIONS


def test_the_client_loads_without_the_service_s_packages() -> None:
    code = "import sys, assistant.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    loaded = {"fastapi", "starlette", "uvicorn", "aiobotocore", "opentelemetry", "typer"} & {
        *done.stdout.split()
    }
    assert loaded == set()
