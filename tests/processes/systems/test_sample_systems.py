"""The sample systems: their data fit together, they serve what their OpenAPI files say, and a fault comes on
request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from assistant.cli.demo import LIVE_CASE
from assistant.laptop.layout import ORIGINALS, SAMPLE_PUBLISHER
from tools.systems import (
    Row,
    add_originals,
    order_application,
    read_order_data,
    read_store_data,
    store_application,
    with_controls,
)

Data = Mapping[str, Sequence[Row]]
FOLDER = Path("tenants/connectors").resolve()
TODAY = date(2026, 11, 20)
TOKEN = "token-of-the-order-system"
[DEMO_ORDER], [DEMO_PRESCRIPTION] = LIVE_CASE.ids["order"], LIVE_CASE.ids["prescription"]
ORDER = f"/v1/orders/{DEMO_ORDER}"


@pytest.fixture(scope="module")
def database() -> Data:
    return read_order_data(today=TODAY)


def document_of(name: str) -> dict[str, Any]:
    return orjson.loads((FOLDER / f"{name}.openapi.json").read_bytes())


def validator_of(name: str, schema: str) -> Draft202012Validator:
    return Draft202012Validator({**document_of(name), "$ref": f"#/components/schemas/{schema}"})


def client_of(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://system", headers=headers)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    (tmp_path / "reach").write_text(f"{TOKEN}\n")
    return tmp_path / "reach"


@pytest.fixture
async def system(database: Data, token_file: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = with_controls(order_application(database, token_files=(token_file,)))
    async with client_of(app) as client:
        yield client


# --- data -------------------------------------------------------------------------------------------------
# --- the API ----------------------------------------------------------------------------------------------


async def test_responses_are_as_the_openapi_file_says(system: httpx.AsyncClient, database: Data) -> None:
    customers = {row["customer_id"] for row in database["prescriptions"]}
    asked = {
        "Order": [f"/v1/orders/{row['order_id']}" for row in database["orders"]],
        "Delivery": [f"/v1/orders/{row['order_id']}/delivery" for row in database["orders"]],
        "Prescription": [f"/v1/prescriptions/{row['prescription_id']}" for row in database["prescriptions"]],
        "Prescriber": [f"/v1/prescribers/{row['npi']}" for row in database["prescribers"]],
        "Prescriptions": [f"/v1/customers/{customer}/prescriptions" for customer in customers],
        "Orders": [f"/v1/customers/{customer}/orders?status=delayed" for customer in customers],
    }
    for schema, paths in asked.items():
        validator = validator_of("orders", schema)
        for path in paths:
            validator.validate((await system.get(path)).json())
    demo = await system.get(f"/v1/customers/{LIVE_CASE.customer}/orders")
    assert DEMO_ORDER in {order["order_id"] for order in demo.json()["orders"]}
    assert (await system.get(f"/v1/prescriptions/{DEMO_PRESCRIPTION}")).status_code == 200
    for unknown in ("/v1/orders/0000-0000", "/v1/customers/PT-000000/orders"):
        assert (await system.get(unknown)).status_code == 404


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
async def test_every_address_that_a_sample_document_names_is_served(
    database: Data,
) -> None:
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
    app = store_application(data, token_files=(token_file,))
    async with client_of(app, **{"X-Assistant-Agent": "amira"}) as client:
        paths = {
            "Price": [f"/v1/items/{item_id}/price" for item_id in data["items"]],
            "Stock": [f"/v1/items/{item_id}/stock" for item_id in data["items"]],
            "ShopOrder": [f"/v1/orders/{order['order_id']}" for order in data["orders"]],
        }
        for schema, asked in paths.items():
            validator = validator_of("stores", schema)
            for path in asked:
                validator.validate((await client.get(path)).json())
        unknown = await client.get("/v1/items/ZZ-1000/price")
        nobodys = await client.get(paths["ShopOrder"][0], headers={"X-Assistant-Agent": ""})

    assert unknown.status_code == 404
    assert nobodys.status_code == 400
