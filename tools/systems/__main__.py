"""``python -m tools.systems orders|stores``: serves one sample system until SIGTERM, and prints a ready line.

``openapi`` writes their OpenAPI files. Credentials come from the environment: ``SYSTEM_TOKEN``, or files
with one token each in ``SYSTEM_TOKEN_FILES`` (joined as in ``PATH``); ``SYSTEM_CLIENT_ID`` and
``SYSTEM_CLIENT_SECRET`` for OAuth.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import orjson
from fastapi import FastAPI

from assistant.http_process import open_socket, run, serve
from assistant.telemetry import configure_logging
from tools.systems import orders, stores
from tools.systems.front import Credentials, Front, ReadScope
from tools.systems.order_data import read_order_data

FOLDER = Path(__file__).parents[2] / "tenants" / "connectors"
_HOST = "127.0.0.1"
_SHUTDOWN_TIMEOUT_S = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    if asked.system == "openapi":
        write_documents(FOLDER)
        return
    configure_logging()
    front = _front(asked)
    listener = open_socket(_HOST, asked.port)
    run(serve(front, listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.systems", description=__doc__)
    parser.add_argument("system", choices=("orders", "stores", "openapi"))
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--today", type=date.fromisoformat, help="day of the data; the present one by default"
    )
    parser.add_argument("--scope", choices=("id", "agent"), default="id", help="whose data a call may read")
    parser.add_argument(
        "--case", action="append", default=[], metavar="AGENT=CUSTOMER", help="an agent's open case"
    )
    parser.add_argument("--fault", default="", help="faults of requests without X-Fault")
    return parser


def _front(asked: argparse.Namespace) -> Front:
    credentials = Credentials(
        token=os.environ.get("SYSTEM_TOKEN", ""),
        token_files=tuple(
            map(Path, filter(None, os.environ.get("SYSTEM_TOKEN_FILES", "").split(os.pathsep)))
        ),
        client_id=os.environ.get("SYSTEM_CLIENT_ID", ""),
        client_secret=os.environ.get("SYSTEM_CLIENT_SECRET", ""),
    )
    cases: dict[str, set[str]] = defaultdict(set)
    for case in asked.case:
        agent, _, customer = case.partition("=")
        cases[agent].add(customer)
    scope = ReadScope(by=asked.scope, cases={agent: frozenset(known) for agent, known in cases.items()})
    if asked.system == "stores":
        return Front(
            stores.application(stores.read_store_data(), scope=scope), credentials, stores.SHAPE, asked.fault
        )
    data = read_order_data(today=asked.today or datetime.now(UTC).date())
    return Front(orders.application(data, scope=scope), credentials, orders.SHAPE, asked.fault)


def _orders() -> FastAPI:
    return orders.application(read_order_data(today=date(2026, 11, 20)), scope=ReadScope())


def _stores() -> FastAPI:
    return stores.application(stores.StoreData({}, {}, {}), scope=ReadScope())


DOCUMENTS: dict[str, Callable[[], FastAPI]] = {"orders.openapi.json": _orders, "stores.openapi.json": _stores}


def document_of(app: FastAPI) -> bytes:
    """Return the OpenAPI file of a system."""
    return orjson.dumps(app.openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_documents(folder: Path) -> None:
    for name, make in DOCUMENTS.items():
        (folder / name).write_bytes(document_of(make()))


if __name__ == "__main__":
    main()
