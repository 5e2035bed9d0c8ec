"""The sample systems: their data fit together, they serve what their OpenAPI files say, and a fault comes on
request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import httpx
import orjson
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from assistant.cli.demo import LIVE_CASE
from assistant.laptop.layout import ORIGINALS, SAMPLE_PUBLISHER
from assistant.options.live.connector import load_connector
from assistant.options.live.results import ResponseReader, element_data
from assistant.text.values import is_dea_number, is_npi
from tools.systems import (
    DEMO_CUSTOMER,
    DEMO_ORDER,
    DEMO_PRESCRIPTION,
    FOLDER,
    SYSTEMS,
    OrderData,
    OrderStatus,
    RefillStatus,
    add_originals,
    document_of,
    order_application,
    read_order_data,
    read_store_data,
    store_application,
    with_controls,
)

TODAY = date(2026, 11, 20)
TOKEN = "token-of-the-order-system"
ORDER = f"/v1/orders/{DEMO_ORDER}"
DELIVERY = f"{ORDER}/delivery"
PRESCRIPTION = f"/v1/prescriptions/{DEMO_PRESCRIPTION}"


@pytest.fixture(scope="module")
def database() -> OrderData:
    return read_order_data(today=TODAY)


def client_of(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://system", headers=headers)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    (tmp_path / "reach").write_text(f"{TOKEN}\n")
    return tmp_path / "reach"


@pytest.fixture
async def system(database: OrderData, token_file: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = with_controls(order_application(database, token_files=(token_file,)))
    async with client_of(app) as client:
        yield client


# --- data -------------------------------------------------------------------------------------------------
def test_the_same_day_gives_the_same_data(database: OrderData) -> None:
    later = read_order_data(today=TODAY + timedelta(days=1))

    assert read_order_data(today=TODAY) == database
    assert later.deliveries != database.deliveries


def test_refill_status_and_dates_fit_together(database: OrderData) -> None:
    for one in database.prescriptions:
        assert one.last_fill_date <= TODAY
        assert (one.next_fill_date is None) == (one.refills_left == 0)
        if one.refill_status == "too_soon":
            assert one.next_fill_date is not None
            assert one.next_fill_date > TODAY
        if one.refill_status in ("refillable", "ready", "in_process") and one.next_fill_date:
            open_order = one.last_fill_date > TODAY - timedelta(days=5)
            assert one.next_fill_date <= TODAY or open_order
        if one.schedule:
            assert not one.automatic_refill
        if one.schedule == "C-II":
            assert one.refills_left == 0


def test_orders_and_deliveries_fit_together(database: OrderData) -> None:
    deliveries = {each.order_id: each for each in database.deliveries}
    prescriptions = {each.prescription_id: each for each in database.prescriptions}
    for order in database.orders:
        delivery, lines = (
            deliveries[order.order_id],
            [prescriptions[one.prescription_id] for one in order.lines],
        )
        assert (delivery.status, delivery.promised_on) == (order.status, order.promised_on)
        assert lines
        assert {line.customer_id for line in lines} == {order.customer_id} == {delivery.customer_id}
        assert (order.status == "delayed") <= (order.promised_on < TODAY)
        assert (delivery.delivered_at is not None) == (order.status == "delivered")
        assert (delivery.tracking_url is None) == (order.status in ("processing", "cancelled"))
        assert order.refrigerated <= (order.method == "expedited")
        assert order.signature_required == any(line.schedule for line in lines)


def test_each_status_is_there(database: OrderData) -> None:
    assert {each.status for each in database.orders} == set(get_args(OrderStatus))
    assert {each.refill_status for each in database.prescriptions} == set(get_args(RefillStatus))


def test_the_demo_asks_about_a_customer_that_there_is() -> None:
    assert LIVE_CASE.customer == DEMO_CUSTOMER
    assert LIVE_CASE.ids == {"order": (DEMO_ORDER,), "prescription": (DEMO_PRESCRIPTION,)}


def test_prescribers_numbers_have_their_check_digits(database: OrderData) -> None:
    numbers = {each.npi for each in database.prescribers}

    assert numbers == {each.prescriber_npi for each in database.prescriptions}
    assert all(map(is_npi, numbers))
    assert all(is_dea_number(each.dea_number) for each in database.prescribers if each.dea_number)


# --- the API ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_committed_openapi_file_is_the_systems(name: str) -> None:
    committed = (FOLDER / f"{name}.openapi.json").read_bytes()

    validate(orjson.loads(committed))
    assert document_of(name) == committed, "run: python -m tools.systems openapi"


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        (ORDER, "Order"),
        (DELIVERY, "Delivery"),
        (PRESCRIPTION, "Prescription"),
        (f"/v1/customers/{DEMO_CUSTOMER}/prescriptions", "Prescriptions"),
        (f"/v1/customers/{DEMO_CUSTOMER}/orders?status=delayed", "Orders"),
    ],
)
async def test_responses_are_as_the_openapi_file_says(
    system: httpx.AsyncClient, path: str, schema: str
) -> None:
    document = orjson.loads((FOLDER / "orders.openapi.json").read_bytes())
    found = await system.get(path)

    assert found.status_code == 200
    body = found.json()
    Draft202012Validator({**document, "$ref": f"#/components/schemas/{schema}"}).validate(body)
    assert body["customer_id"] == DEMO_CUSTOMER


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/orders/0000-0000", 404), ("/v1/orders/4471", 422), (f"/v1/customers/{DEMO_ORDER}/orders", 422)],
)
async def test_unknown_and_malformed_ids_are_refused(
    system: httpx.AsyncClient, path: str, status: int
) -> None:
    assert (await system.get(path)).status_code == status


async def test_a_token_may_be_in_a_file_that_is_made_later(database: OrderData, tmp_path: Path) -> None:
    file = tmp_path / "reach-orders"
    async with client_of(order_application(database, token_files=(tmp_path / "other", file))) as client:
        before = await client.get(ORDER)
        file.write_text(f"{TOKEN}\n")
        (tmp_path / "other").write_text("")
        refused = [
            await client.get(ORDER, headers={"Authorization": sent}) for sent in ("Bearer ", TOKEN, "")
        ]
        after = await client.get(ORDER)

    assert (before.status_code, after.status_code) == (401, 200)
    assert [each.status_code for each in refused] == [401, 401, 401]


async def test_a_fault_holds_until_it_is_taken_back(system: httpx.AsyncClient) -> None:
    await system.put("/control/fault", content="status=503")
    down = await system.get(ORDER)
    await system.put("/control/fault", content="delay=0.2")
    slow = await system.get(ORDER)
    await system.put("/control/fault", content="")
    well = await system.get(ORDER)
    seen = (await system.get("/control/requests")).json()

    assert (down.status_code, down.headers["content-type"]) == (503, "application/problem+json")
    assert slow.json() == well.json()
    assert slow.elapsed >= timedelta(seconds=0.2)
    assert [each["path"] for each in seen] == [ORDER] * 3


# --- the stores of the shop -------------------------------------------------------------------------------
async def test_every_address_that_a_sample_document_names_is_served(database: OrderData) -> None:
    files = [path.read_text() for path in (FOLDER.parents[1] / "knowledge" / "pharmacy").iterdir()]
    named = {
        url
        for text in files
        for url in re.findall(rf"(?:url: |canonical.*){SAMPLE_PUBLISHER}(\S+?)[\"\s]", text)
    }
    assert len(named) == len(files)
    app = order_application(database, token_files=())
    add_originals(app, at=ORIGINALS, publisher=SAMPLE_PUBLISHER)
    async with client_of(app) as client:
        for name in named:
            page = await client.get(ORIGINALS + name)
            assert page.headers["content-security-policy"] == "sandbox", name
            assert SAMPLE_PUBLISHER not in page.text, name


async def test_the_stores_serve_what_the_shop_has(token_file: Path) -> None:
    data = read_store_data()
    document = orjson.loads((FOLDER / "stores.openapi.json").read_bytes())
    app = store_application(data, token_files=(token_file,))
    async with client_of(app, **{"X-Assistant-Agent": "amira"}) as client:
        paths = {
            "Price": [f"/v1/items/{one}/price" for one in data.items],
            "Stock": [f"/v1/items/{one}/stock" for one in data.items],
            "ShopOrder": [f"/v1/orders/{one}" for one in data.orders],
        }
        for schema, asked in paths.items():
            validator = Draft202012Validator({**document, "$ref": f"#/components/schemas/{schema}"})
            for path in asked:
                validator.validate((await client.get(path)).json())
        unknown = await client.get("/v1/items/ZZ-1000/price")
        nobodys = await client.get(paths["ShopOrder"][0], headers={"X-Assistant-Agent": ""})

    assert unknown.status_code == 404
    assert nobodys.status_code == 400


async def test_the_items_of_an_order_are_shown_with_quantity_and_price(token_file: Path) -> None:
    data = read_store_data()
    connector = load_connector(FOLDER / "stores.toml")
    operation = next(one for one in connector.operations if one.name == "order")
    element = next(one for one in connector.elements if one.name == "items")
    order_id = next(iter(data.orders))
    app = store_application(data, token_files=(token_file,))
    async with client_of(app, **{"X-Assistant-Agent": "amira"}) as client:
        response = await client.get(f"/v1/orders/{order_id}")

    reader = ResponseReader(connector, operation, asked={"order_id": order_id}, context=None)
    reading = reader.read(response.content, as_of=datetime(2026, 11, 20, tzinfo=UTC))
    shown = element_data(element, operation=operation, reading=reading)
    assert shown is not None
    lines = response.json()["lines"]
    assert [(row.title, *(value.text for value in row.values)) for row in shown.rows] == [
        (line["name"], "1", f"${line['price']:.2f}") for line in lines
    ]
    assert [column.label for column in shown.columns] == ["Quantity", "Price"]
