"""The pharmacy's order system: prescriptions, refills, orders and their delivery, read-only.

Its data are ``orders.json`` beside this module, with its dates made anew. They hold no name, and fit
together: a delayed order is past its promised date, a refill that is too soon has a next fill date after
today. Dates are days from today in the file, and times are pairs of a day and a time of it. The ten customers
were drawn by a seed on 2026-11-20, so that each status is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from tools.systems.front import only, system_application

DEMO_CUSTOMER = "PT-204417"
DEMO_ORDER = "4471-2208"
DEMO_PRESCRIPTION = "7301842-04417"
"""Asked for by demo and pages: one order is late, a refill is too soon, one waits for the prescriber."""
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
    """Return the data of a day. The same day, the same data."""
    known = orjson.loads(Path(__file__).with_name("orders.json").read_bytes())
    rows = {kind: [_dated(row, today) for row in listed] for kind, listed in known.items()}
    return OrderData.model_validate(rows)


def _dated(row: Mapping[str, Any], today: date) -> dict[str, Any]:
    dated = dict(row)
    for name in _DATES & row.keys():
        if row[name] is not None:
            dated[name] = today + timedelta(days=row[name])
    for name in _TIMES & row.keys():
        if row[name] is not None:
            days, at = row[name]
            dated[name] = datetime.combine(today + timedelta(days=days), time.fromisoformat(at), UTC)
    return dated


# --- the API --------------------------------------------------------------------------------------------
class Prescriptions(_Body):
    customer_id: CustomerId
    prescriptions: list[Prescription] = Field(max_length=50)


class Orders(_Body):
    customer_id: CustomerId
    orders: list[Order] = Field(max_length=50)


def application(data: OrderData, *, token_files: tuple[Path, ...]) -> FastAPI:
    """Return the system's application. Every caller reads by id, and compares ``customer_id`` itself."""
    app = system_application(
        title="Order system of a pharmacy",
        version="2026-11",
        description="Prescriptions, refills, orders and deliveries. Dates are ISO 8601; no name is returned.",
        token_files=token_files,
    )
    _add_of_one(app, data)
    _add_of_customer(app, data)
    return app


def _add_of_one(app: FastAPI, data: OrderData) -> None:
    @app.get("/v1/orders/{order_id}", operation_id="getOrder", summary="An order and its lines")
    async def get_order(order_id: OrderId) -> Order:
        return only([order for order in data.orders if order.order_id == order_id])

    @app.get("/v1/orders/{order_id}/delivery", operation_id="getDelivery", summary="Where its parcel is")
    async def get_delivery(order_id: OrderId) -> Delivery:
        return only([delivery for delivery in data.deliveries if delivery.order_id == order_id])

    @app.get(
        "/v1/prescriptions/{prescription_id}",
        operation_id="getPrescription",
        summary="A prescription, its refill status and next fill date",
    )
    async def get_prescription(prescription_id: PrescriptionId) -> Prescription:
        return only(
            [
                prescription
                for prescription in data.prescriptions
                if prescription.prescription_id == prescription_id
            ]
        )

    @app.get("/v1/prescribers/{npi}", operation_id="getPrescriber", summary="How an office takes requests")
    async def get_prescriber(npi: Npi) -> Prescriber:
        return only([prescriber for prescriber in data.prescribers if prescriber.npi == npi])


def _add_of_customer(app: FastAPI, data: OrderData) -> None:
    @app.get(
        "/v1/customers/{customer_id}/prescriptions",
        operation_id="listPrescriptions",
        summary="The prescriptions of a customer",
    )
    async def list_prescriptions(customer_id: CustomerId) -> Prescriptions:
        prescriptions = [
            prescription for prescription in data.prescriptions if prescription.customer_id == customer_id
        ]
        only(prescriptions)
        return Prescriptions(customer_id=customer_id, prescriptions=prescriptions)

    @app.get(
        "/v1/customers/{customer_id}/orders", operation_id="listOrders", summary="The orders of a customer"
    )
    async def list_orders(
        customer_id: CustomerId,
        status: OrderStatus | None = None,
    ) -> Orders:
        only([prescription for prescription in data.prescriptions if prescription.customer_id == customer_id])
        orders = [order for order in data.orders if order.customer_id == customer_id]
        return Orders(
            customer_id=customer_id, orders=[order for order in orders if status in (None, order.status)]
        )
