"""``python -m tools.systems orders|stores``: serves one sample system until SIGTERM, and prints a ready line.

``openapi`` writes their OpenAPI files. ``SYSTEM_TOKEN_FILES`` names files with one token each (joined as in
``PATH``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
from fastapi import FastAPI

from assistant.process.http import open_socket, run, serve
from assistant.process.telemetry import configure_logging
from tools.systems import orders, stores

FOLDER = Path(__file__).parents[2] / "tenants" / "connectors"
_HOST = "127.0.0.1"
_SHUTDOWN_TIMEOUT_S = 1.0
Tokens = tuple[Path, ...]
SYSTEMS: Mapping[str, Callable[[Tokens], FastAPI]] = {
    "orders": lambda tokens: orders.application(
        orders.read_order_data(today=datetime.now(UTC).date()), token_files=tokens
    ),
    "stores": lambda tokens: stores.application(stores.read_store_data(), token_files=tokens),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.systems", description=__doc__)
    parser.add_argument("system", choices=(*SYSTEMS, "openapi"))
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    asked = parser.parse_args(arguments)
    if asked.system == "openapi":
        for name in SYSTEMS:
            (FOLDER / f"{name}.openapi.json").write_bytes(document_of(name))
        return
    configure_logging()
    files = filter(None, os.environ.get("SYSTEM_TOKEN_FILES", "").split(os.pathsep))
    app = SYSTEMS[asked.system](tuple(map(Path, files)))
    run(serve(app, open_socket(_HOST, asked.port), shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S))


def document_of(system: str) -> bytes:
    """Return the OpenAPI file of a system."""
    document = SYSTEMS[system](()).openapi()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    main()
