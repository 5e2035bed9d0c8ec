"""``python -m tools.systems orders|stores``: serves one sample system until SIGTERM, and prints a ready line.

``openapi`` writes their OpenAPI files. ``SYSTEM_TOKEN_FILES`` names files with one token each (joined as in
``PATH``).

``with_controls`` adds, on a machine of one's own: ``PUT /control/fault`` sets what later requests get:
``status=N``, a problem body with that status; ``delay=S``, the response S seconds late; an empty body ends
it. ``GET /control/requests`` lists what came.
"""
# Docstrings of models are descriptions in the OpenAPI files (tenants/connectors), which a
# test compares: after a change run ``python -m tools.systems openapi``. A request: GET /v1/orders/4471-2208,
# with the headers ``authorization: Bearer <token>`` and, for the stores' orders, ``x-assistant-agent:
# amira``.

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
from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from assistant.process.http import open_socket, run, serve
from assistant.process.telemetry import configure_logging

AGENT_HEADER = "x-assistant-agent"
_PROCEDURES = Path(__file__).parents[1] / "knowledge" / "pharmacy"
_NOT_FOUND = "Not found."
_MOST_SEEN = 1_000
"""Requests that ``GET /control/requests`` lists."""
T = TypeVar("T")
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


def system_application(
    *, title: str, version: str, description: str, token_files: tuple[Path, ...]
) -> FastAPI:
    """Return an application behind a ``Front``, without controls and routes for data."""
    app = FastAPI(title=title, version=version, description=description, openapi_url=None)
    app.state.front = front = Front(token_files)
    app.add_exception_handler(HTTPException, _refusal)
    app.middleware("http")(front.respond)
    return app


def with_controls(app: FastAPI) -> FastAPI:
    """Return a system's application with its controls, which need no token."""
    app.put("/control/fault", include_in_schema=False)(app.state.front.set_fault)
    app.get("/control/requests", include_in_schema=False)(app.state.front.requests)
    return app


async def _refusal(_request: Request, error: Exception) -> Response:
    """Return a raised HTTPException as a problem body."""
    if not isinstance(error, HTTPException):
        raise error
    return _problem(error.status_code, str(error.detail))


def _problem(status: int, detail: str) -> Response:
    body = {"title": "Not served", "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def only(matches: Iterable[T]) -> T:
    """Return the first item. Raises HTTPException 404 where there is none."""
    for match in matches:
        return match
    raise HTTPException(404, _NOT_FOUND)


def require_agent(request: Request) -> None:
    """Raise HTTPException 400 where the caller does not say for which agent it asks."""
    if not request.headers.get(AGENT_HEADER):
        raise HTTPException(400, f"Pass the agent's identity on in {AGENT_HEADER}.")


# --- orders ------------------------------------------------------------------------------------------------
# The pharmacy's order system: prescriptions, refills, orders and their delivery, read-only.
#
# Its data are ``orders.json`` beside this module, with its dates made anew. They hold no name, and fit
# together: a delayed order is past its promised date, a refill that is too soon has a next fill date after
# today. Dates are days from today in the file, and times are pairs of a day and a time of it. The ten
# customers were drawn by a seed on 2026-11-20, so that each status is there.

DEMO_CUSTOMER = "PT-204417"
DEMO_ORDER = "4471-2208"
DEMO_PRESCRIPTION = "7301842-04417"
"""What demo and pages ask for. Of this customer's prescriptions and orders one order is late, one refill is
too soon, and one waits for the prescriber."""
# Fields of the file that hold days from today, and pairs of such a day and a time: [-1, "14:05"].
_DATES = frozenset({"last_fill_date", "next_fill_date", "placed_on", "promised_on"})
_TIMES = frozenset({"last_scan_at", "delivered_at"})

RefillStatus = Literal[
    "ready",
    "in_process",
    "shipped",
    "refillable",
    "too_soon",
    "waiting_for_prescriber",
    "no_refills",
    "out_of_stock",
    "on_hold",
]
OrderStatus = Literal["processing", "shipped", "out_for_delivery", "delivered", "delayed", "cancelled"]
Method = Literal["standard", "expedited"]
Schedule = Literal["", "C-II", "C-III", "C-IV", "C-V"]
"""Of the Controlled Substances Act; empty for what is not controlled."""

CustomerId = Annotated[str, Field(pattern=r"^PT-\d{6}$", examples=[DEMO_CUSTOMER])]
OrderId = Annotated[str, Field(pattern=r"^\d{4}-\d{4}$", examples=[DEMO_ORDER])]
PrescriptionId = Annotated[str, Field(pattern=r"^\d{7}-\d{5}$", examples=[DEMO_PRESCRIPTION])]
"""Number of the prescription, and of the store that filled it first."""
Npi = Annotated[str, Field(pattern=r"^[12]\d{9}$")]
_Text = Annotated[str, Field(max_length=120)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Prescription(_Body):
    """A prescription and its refill."""

    prescription_id: PrescriptionId
    customer_id: CustomerId
    medicine: _Text
    schedule: Schedule
    refill_status: RefillStatus
    refills_left: int = Field(ge=0, le=11)
    days_supply: int = Field(ge=1, le=100)
    last_fill_date: date
    next_fill_date: date | None
    """First day that the plan pays for; null where no refill is left."""
    automatic_refill: bool
    prescriber_npi: Npi
    store: str = Field(pattern=r"^\d{5}$")


class OrderLine(_Body):
    prescription_id: PrescriptionId
    medicine: _Text
    days_supply: int = Field(ge=1, le=100)


class Order(_Body):
    """A mail order."""

    order_id: OrderId
    customer_id: CustomerId
    status: OrderStatus
    placed_on: date
    promised_on: date
    method: Method
    refrigerated: bool
    signature_required: bool
    lines: list[OrderLine] = Field(max_length=20)


class Delivery(_Body):
    """Where an order's parcel is. Carrier and scans are null until it is shipped."""

    order_id: OrderId
    customer_id: CustomerId
    status: OrderStatus
    carrier: Literal["USPS", "UPS", "FedEx"] | None
    tracking_number: Annotated[str, Field(pattern=r"^[0-9A-Z]{10,34}$")] | None
    tracking_url: Annotated[str, Field(max_length=200, json_schema_extra={"format": "uri"})] | None
    last_scan: _Text | None
    last_scan_at: datetime | None
    promised_on: date
    delivered_at: datetime | None


class Prescriber(_Body):
    """How a prescriber's office takes requests for refills; nobody's data."""

    npi: Npi
    dea_number: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{7}$")] | None
    electronic_requests: bool
    usual_reply_days: int = Field(ge=0, le=30)


class OrderData(_Body):
    """What the system knows."""

    prescribers: tuple[Prescriber, ...]
    prescriptions: tuple[Prescription, ...]
    orders: tuple[Order, ...]
    """Of a customer, the newest first."""
    deliveries: tuple[Delivery, ...]


def read_order_data(*, today: date) -> OrderData:
    """Return the data for a day: the file's, with real dates. The same day gives the same data."""
    known = orjson.loads(Path(__file__).with_name("orders.json").read_bytes())
    rows = {kind: [_dated(row, today) for row in listed] for kind, listed in known.items()}
    return OrderData.model_validate(rows)


def _dated(row: Mapping[str, Any], today: date) -> dict[str, Any]:
    """Return a row with dates and times (in UTC) in place of days from today."""
    dated = dict(row)
    for name in _DATES & row.keys():
        if row[name] is not None:
            dated[name] = today + timedelta(days=row[name])
    for name in _TIMES & row.keys():
        if row[name] is not None:
            days, time_of_day = row[name]
            dated[name] = datetime.combine(today + timedelta(days=days), time.fromisoformat(time_of_day), UTC)
    return dated


class Prescriptions(_Body):
    customer_id: CustomerId
    prescriptions: list[Prescription] = Field(max_length=50)


class Orders(_Body):
    customer_id: CustomerId
    orders: list[Order] = Field(max_length=50)


def order_application(data: OrderData, *, token_files: tuple[Path, ...]) -> FastAPI:
    """Return the system's application. It returns any row by its id: a caller checks itself that
    ``customer_id`` is that of the customer it talks to."""
    app = system_application(
        title="Order system of a pharmacy",
        version="2026-11",
        description="Prescriptions, refills, orders and deliveries. Dates are ISO 8601; no name is returned.",
        token_files=token_files,
    )
    _add_of_one(app, data)
    _add_of_customer(app, data)
    return app


def add_originals(app: FastAPI, *, at: str, publisher: str) -> None:
    """Add the pages to which the addresses of the pharmacy's sample documents lead: each file as it is, and
    for any other name the list of them. Their scripts do not run, as anybody may have written them.

    ``at``: the path of the pages. ``publisher``: begin of the addresses in the documents.
    """

    @app.get(at + "{name:path}", include_in_schema=False)
    async def original(name: str) -> Response:
        files = {file.stem: file for file in sorted(_PROCEDURES.iterdir())}
        if (file := files.get(name)) is None:
            return HTMLResponse("".join(f'<p><a href="{at}{stem}">{stem}</a>' for stem in files))
        text = file.read_text(encoding="utf-8").replace(publisher, at)
        page = HTMLResponse if file.suffix == ".html" else PlainTextResponse
        return page(text, headers={"content-security-policy": "sandbox"})


def _add_of_one(app: FastAPI, data: OrderData) -> None:
    """Add the routes that read one thing by its id."""

    @app.get("/v1/orders/{order_id}", operation_id="getOrder", summary="An order and its lines")
    async def get_order(order_id: OrderId) -> Order:
        return only(order for order in data.orders if order.order_id == order_id)

    @app.get("/v1/orders/{order_id}/delivery", operation_id="getDelivery", summary="Where its parcel is")
    async def get_delivery(order_id: OrderId) -> Delivery:
        return only(delivery for delivery in data.deliveries if delivery.order_id == order_id)

    @app.get(
        "/v1/prescriptions/{prescription_id}",
        operation_id="getPrescription",
        summary="A prescription, its refill status and next fill date",
    )
    async def get_prescription(prescription_id: PrescriptionId) -> Prescription:
        return only(row for row in data.prescriptions if row.prescription_id == prescription_id)

    @app.get("/v1/prescribers/{npi}", operation_id="getPrescriber", summary="How an office takes requests")
    async def get_prescriber(npi: Npi) -> Prescriber:
        return only(prescriber for prescriber in data.prescribers if prescriber.npi == npi)


def _add_of_customer(app: FastAPI, data: OrderData) -> None:
    """Add the routes that list the things of a customer; an unknown customer, who has no prescription, is a
    404."""

    @app.get(
        "/v1/customers/{customer_id}/prescriptions",
        operation_id="listPrescriptions",
        summary="The prescriptions of a customer",
    )
    async def list_prescriptions(customer_id: CustomerId) -> Prescriptions:
        prescriptions = [row for row in data.prescriptions if row.customer_id == customer_id]
        only(prescriptions)  # 404 for an unknown customer
        return Prescriptions(customer_id=customer_id, prescriptions=prescriptions)

    @app.get(
        "/v1/customers/{customer_id}/orders", operation_id="listOrders", summary="The orders of a customer"
    )
    async def list_orders(customer_id: CustomerId, status: OrderStatus | None = None) -> Orders:
        only(row for row in data.prescriptions if row.customer_id == customer_id)  # 404, as above
        orders = [order for order in data.orders if order.customer_id == customer_id]
        return Orders(
            customer_id=customer_id, orders=[order for order in orders if status in (None, order.status)]
        )


# --- stores ------------------------------------------------------------------------------------------------
# The API of the shop's stores: an item's price and stock, and a customer's order, read-only.
#
# Its data are in ``stores.json`` beside this module: the items have the ids of the shop's catalogue.

ItemId = Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{4,6}$", examples=["HU-1000"])]
ShopOrderId = Annotated[str, Field(pattern=r"^\d{4}-\d{4}$")]
ShopCustomerId = Annotated[str, Field(pattern=r"^C-\d{4,6}$")]
_Name = Annotated[str, Field(max_length=120)]
_Amount = Annotated[float, Field(ge=0, le=100_000)]
_Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Price(_Body):
    item_id: ItemId
    name: _Name
    price: _Amount
    currency: _Currency


class StoreStock(_Body):
    store_id: str = Field(pattern=r"^[a-z]{2,20}$")
    name: _Name
    units: int = Field(ge=0, le=100_000)


class Stock(_Body):
    """What each store has of an item. ``restock_date`` is null unless it is out of stock."""

    item_id: ItemId
    name: _Name
    state: Literal["in_stock", "out_of_stock", "discontinued"]
    units: int = Field(ge=0, le=1_000_000)
    """Of all stores."""
    restock_date: date | None
    stores: list[StoreStock] = Field(max_length=50)


class ShopOrderLine(_Body):
    item_id: ItemId
    name: _Name
    quantity: int = Field(ge=1, le=1_000)
    price: _Amount


class ShopOrder(_Body):
    """A customer's order. ``delivery_date`` is past or expected; ``expected_date`` is of a backorder."""

    order_id: ShopOrderId
    customer_id: ShopCustomerId
    placed_on: date
    status: Literal["placed", "packed", "shipped", "delivered", "returned", "cancelled", "backordered"]
    total: _Amount
    currency: _Currency
    delivery_date: date | None
    expected_date: date | None
    lines: list[ShopOrderLine] = Field(max_length=50)


@dataclass(frozen=True, slots=True)
class StoreData:
    """``stores.json``, by id: names of stores, items, orders. An item: ``{"name": "…", "price": 24.9,
    "currency": "EUR", "state": "in_stock", "stock": {"berlin": 3}, "restock_date": null}``."""

    names: Mapping[str, str]
    items: Mapping[str, Mapping[str, Any]]
    orders: Mapping[str, ShopOrder]


def read_store_data() -> StoreData:
    """Return the stores' data of the demo."""
    known = orjson.loads(Path(__file__).with_name("stores.json").read_bytes())
    orders = [ShopOrder.model_validate(order) for order in known["orders"]]
    return StoreData(known["stores"], known["items"], {order.order_id: order for order in orders})


def store_application(data: StoreData, *, token_files: tuple[Path, ...]) -> FastAPI:
    """Return the system's application. An order is read only with an agent's name in the header; any agent
    may read all."""
    app = system_application(
        title="Stores of a shop",
        version="2026-11",
        description="Prices, stock and orders of the shop's items. Amounts are in the currency beside them.",
        token_files=token_files,
    )

    @app.get("/v1/items/{item_id}/price", operation_id="getPrice", summary="What an item costs today")
    async def get_price(item_id: ItemId) -> Price:
        item = only([data.items[item_id]] if item_id in data.items else [])
        return Price(item_id=item_id, name=item["name"], price=item["price"], currency=item["currency"])

    @app.get("/v1/items/{item_id}/stock", operation_id="getStock", summary="Where an item is in stock")
    async def get_stock(item_id: ItemId) -> Stock:
        item = only([data.items[item_id]] if item_id in data.items else [])
        units: Mapping[str, int] = item["stock"]
        return Stock(
            item_id=item_id,
            name=item["name"],
            state=item["state"],
            units=sum(units.values()),
            restock_date=item["restock_date"],
            stores=[
                StoreStock(store_id=key, name=data.names[key], units=count) for key, count in units.items()
            ],
        )

    @app.get("/v1/orders/{order_id}", operation_id="getOrder", summary="A customer's order")
    async def get_order(request: Request, order_id: ShopOrderId) -> ShopOrder:
        require_agent(request)
        return only([data.orders[order_id]] if order_id in data.orders else [])

    return app


FOLDER = Path(__file__).parents[1] / "tenants" / "connectors"
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
    parser.add_argument("system", choices=(*SYSTEMS, "openapi"))
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parsed = parser.parse_args(arguments)
    if parsed.system == "openapi":
        for name in SYSTEMS:
            (FOLDER / f"{name}.openapi.json").write_bytes(document_of(name))
        return
    configure_logging()
    files = filter(None, os.environ.get("SYSTEM_TOKEN_FILES", "").split(os.pathsep))
    app = with_controls(SYSTEMS[parsed.system](tuple(map(Path, files))))
    run(serve(app, open_socket(_HOST, parsed.port), shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S))


def document_of(system: str) -> bytes:
    """Return the OpenAPI file of a system."""
    document = SYSTEMS[system](()).openapi()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    main()
