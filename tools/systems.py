"""``python -m tools.systems orders|stores``: serves one sample system until SIGTERM, and prints a ready line.

``tenants/connectors/*.openapi.json`` say what they serve. ``SYSTEM_TOKEN_FILES`` names files with one token
each (joined as in ``PATH``). A request: GET /v1/orders/4471-2208, with the headers ``authorization: Bearer
<token>`` and, for the stores' orders, ``x-assistant-agent: amira``.

``with_controls`` adds, on a machine of one's own: ``PUT /control/fault`` sets what later requests get:
``status=N``, a problem body with that status; ``delay=S``, the response S seconds late; an empty body ends
it. ``GET /control/requests`` lists what came.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from assistant.process.http import open_socket, run, serve
from assistant.process.telemetry import configure_logging

AGENT_HEADER = "x-assistant-agent"
_PROCEDURES = Path(__file__).parents[1] / "knowledge" / "pharmacy"
_MOST_SEEN = 1_000
"""Requests that ``GET /control/requests`` lists."""
Row = Mapping[str, Any]
"""A row of a system's data, as JSON."""
Next = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Front:
    """Middleware: answers requests for data (``/v1/``) without a known token, and those that a fault was set
    for; passes all others on."""

    token_files: tuple[Path, ...]
    """Files with one token each, read at each request: a file may be made after the start."""
    _fault: str = ""
    """``status=N``, ``delay=S``, or empty."""
    _seen: deque[dict[str, str | None]] = field(default_factory=lambda: deque(maxlen=_MOST_SEEN))

    async def respond(self, request: Request, call_next: Next) -> Response:
        """Return the response to a request. Paths other than ``/v1/`` need no token and have no faults."""
        path = request.url.path
        if not path.startswith("/v1/"):
            return await call_next(request)
        self._seen.append({"path": path, "agent": request.headers.get(AGENT_HEADER)})
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self._knows(token):
            return _problem(401, "Send a bearer token that this system knows.")
        name, _, value = self._fault.partition("=")
        if name == "status":
            return _problem(int(value), "A fault was asked for.")
        if name == "delay":
            await asyncio.sleep(float(value))
        return await call_next(request)

    async def set_fault(self, request: Request) -> Response:
        """Set the fault of later requests."""
        self._fault = (await request.body()).decode().strip()
        return Response(status_code=204)

    async def requests(self) -> list[dict[str, str | None]]:
        """Return path and agent of each request, the latest thousand."""
        return list(self._seen)

    def _knows(self, token: str) -> bool:
        """Return whether a file has this token; files that do not exist are skipped."""
        known: list[bytes] = []
        for file in self.token_files:
            with suppress(FileNotFoundError):
                known.append(file.read_bytes().strip())
        return any(
            known_token and secrets.compare_digest(token.encode(), known_token) for known_token in known
        )


def system_application(token_files: tuple[Path, ...]) -> FastAPI:
    """Return an application behind a ``Front``, without controls and routes for data."""
    app = FastAPI(openapi_url=None)
    app.state.front = front = Front(token_files)
    app.add_exception_handler(HTTPException, _refusal)
    app.middleware("http")(front.respond)
    return app


def with_controls(app: FastAPI) -> FastAPI:
    """Return a system's application with its controls, which need no token."""
    app.put("/control/fault")(app.state.front.set_fault)
    app.get("/control/requests")(app.state.front.requests)
    return app


async def _refusal(_request: Request, error: Exception) -> Response:
    """Return a raised HTTPException as a problem body."""
    if not isinstance(error, HTTPException):
        raise error
    return _problem(error.status_code, str(error.detail))


def _problem(status: int, detail: str) -> Response:
    body = {"title": "Not served", "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def _rows_of(rows: Iterable[Row], names: Mapping[str, Any]) -> list[Row]:
    """Return the rows with these values: ``{"order_id": "4471-2208"}``. Raises HTTPException 404 where none
    has them."""
    if found := [row for row in rows if names.items() <= row.items()]:
        return found
    raise HTTPException(404, "Not found.")


def _read(name: str) -> Any:
    return orjson.loads(Path(__file__).with_name(f"{name}.json").read_bytes())


# --- orders ------------------------------------------------------------------------------------------------
# The pharmacy's order system: prescriptions, refills, orders and their delivery, read-only.
#
# Its data are ``orders.json`` beside this module, with its dates made anew. They hold no name, and fit
# together: a delayed order is past its promised date, a refill that is too soon has a next fill date after
# today. Dates are days from today in the file, and times are pairs of a day and a time of it. The ten
# customers were drawn by a seed on 2026-11-20, so that each status is there.

# Fields of the file that hold days from today, and pairs of such a day and a time: [-1, "14:05"].
_DATES = frozenset({"last_fill_date", "next_fill_date", "placed_on", "promised_on"})
_TIMES = frozenset({"last_scan_at", "delivered_at"})


def read_order_data(*, today: date) -> dict[str, list[Row]]:
    """Return the rows for a day by their kind: ``prescriptions``, ``orders`` (of a customer, the newest
    first), ``deliveries``, ``prescribers``. Dates are those of the day; the same day gives the same rows."""
    return {kind: [_dated(row, today) for row in listed] for kind, listed in _read("orders").items()}


def _dated(row: Row, today: date) -> Row:
    """Return a row with dates and times (in UTC) in place of days from today."""
    dated = dict(row)
    for name in _DATES & row.keys():
        if row[name] is not None:
            dated[name] = (today + timedelta(days=row[name])).isoformat()
    for name in _TIMES & row.keys():
        if row[name] is not None:
            days, time_of_day = row[name]
            at = datetime.combine(today + timedelta(days=days), time.fromisoformat(time_of_day))
            dated[name] = f"{at.isoformat()}Z"
    return dated


def order_application(data: Mapping[str, Sequence[Row]], *, token_files: tuple[Path, ...]) -> FastAPI:
    """Return the system's application. It returns any row by its id: a caller checks itself that
    ``customer_id`` is that of the customer it talks to."""
    app = system_application(token_files)
    for path, kind in {
        "/v1/orders/{order_id}": "orders",
        "/v1/orders/{order_id}/delivery": "deliveries",
        "/v1/prescriptions/{prescription_id}": "prescriptions",
        "/v1/prescribers/{npi}": "prescribers",
    }.items():
        _add_row(app, path, data[kind])

    @app.get("/v1/customers/{customer_id}/prescriptions")
    async def list_prescriptions(customer_id: str) -> Row:
        customer = {"customer_id": customer_id}
        return {**customer, "prescriptions": _rows_of(data["prescriptions"], customer)}

    @app.get("/v1/customers/{customer_id}/orders")
    async def list_orders(customer_id: str, status: str | None = None) -> Row:
        customer = {"customer_id": customer_id}
        _rows_of(data["prescriptions"], customer)  # 404 for an unknown customer: each has a prescription
        wanted = (customer | ({} if status is None else {"status": status})).items()
        return {**customer, "orders": [order for order in data["orders"] if wanted <= order.items()]}

    return app


def _add_row(app: FastAPI, path: str, rows: Sequence[Row]) -> None:
    """Add the route that reads a row by the id in its path."""

    @app.get(path)
    async def read_row(request: Request) -> Row:
        return _rows_of(rows, request.path_params)[0]


def add_originals(app: FastAPI, *, at: str, publisher: str) -> None:
    """Add the pages to which the addresses of the pharmacy's sample documents lead: each file as it is, and
    for any other name the list of them. Their scripts do not run, as anybody may have written them.

    ``at``: the path of the pages. ``publisher``: begin of the addresses in the documents.
    """

    @app.get(at + "{name:path}")
    async def original(name: str) -> Response:
        files = {file.stem: file for file in sorted(_PROCEDURES.iterdir())}
        if (file := files.get(name)) is None:
            return HTMLResponse("".join(f'<p><a href="{at}{stem}">{stem}</a>' for stem in files))
        text = file.read_text(encoding="utf-8").replace(publisher, at)
        page = HTMLResponse if file.suffix == ".html" else PlainTextResponse
        return page(text, headers={"content-security-policy": "sandbox"})


# --- stores ------------------------------------------------------------------------------------------------
# The API of the shop's stores: an item's price and stock, and a customer's order, read-only. Its data are in
# ``stores.json`` beside this module: the items have the ids of the shop's catalogue.


def read_store_data() -> dict[str, Any]:
    """Return the stores' data: ``stores`` (names), ``items`` (both by id) and ``orders``. An item:
    ``{"name": "…", "price": 24.9, "currency": "EUR", "state": "in_stock", "stock": {"berlin": 3},
    "restock_date": null}``."""
    return _read("stores")


def store_application(data: Mapping[str, Any], *, token_files: tuple[Path, ...]) -> FastAPI:
    """Return the system's application. An order is read only with an agent's name in the header; any agent
    may read all."""
    app = system_application(token_files)
    items = [{"item_id": item_id, **item} for item_id, item in data["items"].items()]

    @app.get("/v1/items/{item_id}/price")
    async def get_price(item_id: str) -> Row:
        [item] = _rows_of(items, {"item_id": item_id})
        return {name: item[name] for name in ("item_id", "name", "price", "currency")}

    @app.get("/v1/items/{item_id}/stock")
    async def get_stock(item_id: str) -> Row:
        [item] = _rows_of(items, {"item_id": item_id})
        units: Mapping[str, int] = item["stock"]
        stores = [
            {"store_id": key, "name": data["stores"][key], "units": count} for key, count in units.items()
        ]
        known = {name: item[name] for name in ("item_id", "name", "state", "restock_date")}
        return {**known, "units": sum(units.values()), "stores": stores}

    @app.get("/v1/orders/{order_id}")
    async def get_order(request: Request, order_id: str) -> Row:
        if not request.headers.get(AGENT_HEADER):
            raise HTTPException(400, f"Pass the agent's identity on in {AGENT_HEADER}.")
        return _rows_of(data["orders"], {"order_id": order_id})[0]

    return app


_HOST = "127.0.0.1"
_SHUTDOWN_TIMEOUT_S = 1.0
Tokens = tuple[Path, ...]
"""Files with one token each."""
SYSTEMS: Mapping[str, Callable[[Tokens], FastAPI]] = {
    "orders": lambda tokens: order_application(
        read_order_data(today=datetime.now(UTC).date()), token_files=tokens
    ),
    "stores": lambda tokens: store_application(read_store_data(), token_files=tokens),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.systems", description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parsed = parser.parse_args(arguments)
    configure_logging()
    files = filter(None, os.environ.get("SYSTEM_TOKEN_FILES", "").split(os.pathsep))
    app = with_controls(SYSTEMS[parsed.system](tuple(map(Path, files))))
    run(serve(app, open_socket(_HOST, parsed.port), shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S))


if __name__ == "__main__":
    main()
