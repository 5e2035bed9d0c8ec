"""The client and the API's document."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import orjson

from assistant.client import AssistantClient

DOCUMENT = orjson.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_bytes())
OPERATIONS = {
    operation["operationId"] for operations in DOCUMENT["paths"].values() for operation in operations.values()
}
OF_OUR_OWN = {"stream", "get", "post", "close"}
"""``stream`` reads ``ask`` as events; ``get`` and ``post`` take a path."""


def methods(client: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")}


def test_every_method_has_the_name_of_an_operation() -> None:
    assert methods(AssistantClient) - OF_OUR_OWN <= OPERATIONS


def test_the_client_loads_without_the_service_s_packages() -> None:
    code = "import sys, assistant.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    loaded = {"fastapi", "starlette", "uvicorn", "aiobotocore", "opentelemetry", "typer"} & {
        *done.stdout.split()
    }
    assert loaded == set()
