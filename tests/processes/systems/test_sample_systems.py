"""The sample systems: their data fit together, they serve what their OpenAPI files say, and a fault comes on
request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import httpx
import orjson
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from assistant.cli.demo import LIVE_CASE
from assistant.laptop.layout import ORIGINALS, SAMPLE_PUBLISHER
from tools.systems import (
    DEMO_CUSTOMER,
    DEMO_ORDER,
    DEMO_PRESCRIPTION,
    FOLDER,
    SYSTEMS,
    OrderData,
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


def test_the_demo_asks_about_a_customer_that_there_is() -> None:
    assert LIVE_CASE.customer == DEMO_CUSTOMER
    assert LIVE_CASE.ids == {"order": (DEMO_ORDER,), "prescription": (DEMO_PRESCRIPTION,)}


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
