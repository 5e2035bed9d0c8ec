"""The API of the pharmacy's order system: prescriptions, refills, orders and their delivery, read-only."""

from __future__ import annotations

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from tools.systems import order_data
from tools.systems.front import ReadScope, Shape, only, system_application
from tools.systems.order_data import (
    CustomerId,
    Delivery,
    Npi,
    Order,
    OrderData,
    OrderId,
    Prescriber,
    Prescription,
    PrescriptionId,
)

SHAPE = Shape(
    free_text=frozenset({"medicine", "last_scan"}),
    old_names={
        "status": "state",
        "refill_status": "refillState",
        "promised_on": "promiseDate",
        "next_fill_date": "nextFill",
        "customer_id": "patientId",
    },
    other_customer="PT-999999",
)


class Prescriptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    customer_id: CustomerId
    prescriptions: list[Prescription] = Field(max_length=50)


class Orders(BaseModel):
    model_config = ConfigDict(extra="forbid")

    customer_id: CustomerId
    orders: list[Order] = Field(max_length=50)


def application(data: OrderData, *, scope: ReadScope) -> FastAPI:
    """Return the system's application, without authorization and faults."""
    app = system_application(
        title="Order system of a pharmacy",
        version="2026-11",
        description="Prescriptions, refills, orders and deliveries. Dates are ISO 8601; no name is returned.",
    )
    _add_of_one(app, data, scope)
    _add_of_customer(app, data, scope)
    return app


def _add_of_one(app: FastAPI, data: OrderData, scope: ReadScope) -> None:
    @app.get("/v1/orders/{order_id}", operation_id="getOrder", summary="An order and its lines")
    async def get_order(request: Request, order_id: OrderId) -> Order:
        order = only([each for each in data.orders if each.order_id == order_id])
        scope.check(request, order.customer_id)
        return order

    @app.get("/v1/orders/{order_id}/delivery", operation_id="getDelivery", summary="Where its parcel is")
    async def get_delivery(request: Request, order_id: OrderId) -> Delivery:
        delivery = only([each for each in data.deliveries if each.order_id == order_id])
        scope.check(request, delivery.customer_id)
        return delivery

    @app.get(
        "/v1/prescriptions/{prescription_id}",
        operation_id="getPrescription",
        summary="A prescription, its refill status and next fill date",
    )
    async def get_prescription(request: Request, prescription_id: PrescriptionId) -> Prescription:
        prescription = only([each for each in data.prescriptions if each.prescription_id == prescription_id])
        scope.check(request, prescription.customer_id)
        return prescription

    @app.get("/v1/prescribers/{npi}", operation_id="getPrescriber", summary="How an office takes requests")
    async def get_prescriber(npi: Npi) -> Prescriber:
        return only([each for each in data.prescribers if each.npi == npi])


def _add_of_customer(app: FastAPI, data: OrderData, scope: ReadScope) -> None:
    @app.get(
        "/v1/customers/{customer_id}/prescriptions",
        operation_id="listPrescriptions",
        summary="The prescriptions of a customer",
    )
    async def list_prescriptions(request: Request, customer_id: CustomerId) -> Prescriptions:
        scope.check(request, customer_id)
        found = [each for each in data.prescriptions if each.customer_id == customer_id]
        only(found)
        return Prescriptions(customer_id=customer_id, prescriptions=found)

    @app.get(
        "/v1/customers/{customer_id}/orders", operation_id="listOrders", summary="The orders of a customer"
    )
    async def list_orders(
        request: Request,
        customer_id: CustomerId,
        status: order_data.OrderStatus | None = None,
    ) -> Orders:
        scope.check(request, customer_id)
        only([each for each in data.prescriptions if each.customer_id == customer_id])
        found = [each for each in data.orders if each.customer_id == customer_id]
        return Orders(
            customer_id=customer_id, orders=[each for each in found if status in (None, each.status)]
        )
