"""The API of the shop's stores: an item's price and stock, and a customer's order, read-only.

Its data are in ``stores.json`` beside this module: the items have the ids of the shop's catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from tools.systems.front import only, require_agent, system_application

ItemId = Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{4,6}$", examples=["HU-1000"])]
ShopOrderId = Annotated[str, Field(pattern=r"^\d{4}-\d{4}$")]
CustomerId = Annotated[str, Field(pattern=r"^C-\d{4,6}$")]
_Name = Annotated[str, Field(max_length=120)]
_Amount = Annotated[float, Field(ge=0, le=100_000)]
_Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    customer_id: CustomerId
    placed_on: date
    status: Literal["placed", "packed", "shipped", "delivered", "returned", "cancelled", "backordered"]
    total: _Amount
    currency: _Currency
    delivery_date: date | None
    expected_date: date | None
    lines: list[ShopOrderLine] = Field(max_length=50)


@dataclass(frozen=True, slots=True)
class StoreData:
    """What the stores know, by id."""

    names: Mapping[str, str]
    items: Mapping[str, Mapping[str, Any]]
    orders: Mapping[str, ShopOrder]


def read_store_data() -> StoreData:
    """Return the stores' data of the demo."""
    known = orjson.loads(Path(__file__).with_name("stores.json").read_bytes())
    orders = [ShopOrder.model_validate(order) for order in known["orders"]]
    return StoreData(known["stores"], known["items"], {order.order_id: order for order in orders})


def application(data: StoreData, *, token_files: tuple[Path, ...]) -> FastAPI:
    """Return the system's application. An order is read for a named agent; any agent may read all."""
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
