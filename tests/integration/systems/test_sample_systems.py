"""The sample systems on real sockets: their data fit together, they serve what their OpenAPI files say, and
each fault that tests ask for comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import httpx
import orjson
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from assistant.cli.demo import LIVE_CASE
from assistant.live.results import ResponseReader, element_data
from assistant.settings.connector import load_connector
from assistant.text.check_digits import is_dea_number, is_npi
from tests.fakes.asgi_server import asgi_server
from tools.systems import orders, stores
from tools.systems.__main__ import DOCUMENTS, FOLDER, document_of
from tools.systems.front import Credentials, Front, ReadScope
from tools.systems.order_data import (
    DEMO_CUSTOMER,
    DEMO_ORDER,
    DEMO_PRESCRIPTION,
    OrderData,
    OrderStatus,
    RefillStatus,
    read_order_data,
)

TODAY = date(2026, 11, 20)
TOKEN = "token-of-the-order-system"
ORDER = f"/v1/orders/{DEMO_ORDER}"
DELIVERY = f"{ORDER}/delivery"
PRESCRIPTION = f"/v1/prescriptions/{DEMO_PRESCRIPTION}"
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 "
    "Credential=AKIDEXAMPLE/20261120/us-east-1/vpc-lattice-svcs/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'a' * 64}",
    "X-Amz-Date": "20261120T093000Z",
}


@pytest.fixture(scope="module")
def database() -> OrderData:
    return read_order_data(today=TODAY)


def front(database: OrderData, scope: ReadScope | None = None) -> Front:
    app = orders.application(database, scope=scope or ReadScope())
    return Front(app, Credentials(TOKEN, client_id="assistant", client_secret="secret"), orders.SHAPE)


@pytest.fixture
async def system(database: OrderData) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        asgi_server(front(database)) as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client,
    ):
        yield client


async def faulty(system: httpx.AsyncClient, fault: str, path: str = DELIVERY) -> httpx.Response:
    return await system.get(path, headers={"X-Fault": fault})


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
@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_committed_openapi_file_is_the_systems(name: str) -> None:
    committed = (FOLDER / name).read_bytes()

    validate(orjson.loads(committed))
    assert document_of(DOCUMENTS[name]()) == committed, "run: python -m tools.systems openapi"


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


async def test_only_a_known_token_or_a_well_formed_signature_is_served(system: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=system.base_url, trust_env=False) as other:

        async def status(headers: dict[str, str]) -> int:
            return (await other.get(ORDER, headers=headers)).status_code

        assert await status({}) == 401
        assert await status({"Authorization": "Bearer another"}) == 401
        assert await status(SIGNED) == 200
        assert await status({**SIGNED, "X-Amz-Date": "today"}) == 403
        assert (
            await status(
                {**SIGNED, "Authorization": SIGNED["Authorization"].replace("vpc-lattice-svcs", "s3")}
            )
            == 403
        )


async def test_a_token_may_be_in_a_file_that_is_made_later(database: OrderData, tmp_path: Path) -> None:
    app = orders.application(database, scope=ReadScope())
    file = tmp_path / "reach-orders"
    transport = httpx.ASGITransport(Front(app, Credentials(token_files=(file,)), orders.SHAPE))
    headers = {"Authorization": "Bearer made-later"}
    async with httpx.AsyncClient(transport=transport, base_url="http://orders", headers=headers) as client:
        before = await client.get(ORDER)
        file.write_text("made-later\n")
        after = await client.get(ORDER)
        empty = await client.get(ORDER, headers={"Authorization": "Bearer "})

    assert (before.status_code, after.status_code, empty.status_code) == (401, 200, 401)


async def test_client_credentials_give_a_token_that_is_served(system: httpx.AsyncClient) -> None:
    asked = {"grant_type": "client_credentials", "client_id": "assistant", "client_secret": "secret"}
    issued = (await system.post("/oauth/token", data=asked)).json()
    refused = await system.post("/oauth/token", data={**asked, "client_secret": "guess"})
    found = await system.get(ORDER, headers={"Authorization": f"Bearer {issued['access_token']}"})

    assert (issued["token_type"], found.status_code) == ("Bearer", 200)
    assert refused.status_code == 401


async def test_by_agent_the_system_decides_whose_data_are_read(database: OrderData) -> None:
    scope = ReadScope(by="agent", cases={"amira": frozenset({DEMO_CUSTOMER})})
    transport = httpx.ASGITransport(front(database, scope))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://orders", headers=headers) as client:
        statuses = [
            (
                await client.get(ORDER, headers={} if agent is None else {"X-Assistant-Agent": agent})
            ).status_code
            for agent in ("amira", "noor", None)
        ]

    assert statuses == [200, 404, 400]


# --- faults -----------------------------------------------------------------------------------------------
async def test_faults_in_place_of_a_response(system: httpx.AsyncClient) -> None:
    page = await faulty(system, "html")
    redirect = await faulty(system, "redirect=http://127.0.0.1:9/elsewhere")
    huge = await faulty(system, "huge=3")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (redirect.status_code, redirect.headers["location"]) == (302, "http://127.0.0.1:9/elsewhere")
    assert (await faulty(system, "status=503")).status_code == 503
    assert len(huge.content) > 2_900_000
    assert len((await faulty(system, "bomb=3")).content) > 2_900_000
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads((await faulty(system, "not-json")).content)
    assert (await faulty(system, "deep=2000")).content.count(b"[") == 2000


async def test_faults_that_change_the_response(system: httpx.AsyncClient) -> None:
    right = (await system.get(DELIVERY)).json()
    other = (await faulty(system, "other-customer")).json()
    old = (await faulty(system, "old-schema")).json()
    told = (await faulty(system, "instructions")).json()
    named = await faulty(system, "content-type=text/plain")

    assert other == {**right, "customer_id": orders.SHAPE.other_customer} != right
    assert (old["state"], old["promiseDate"]) == (
        "delayed",
        date.fromisoformat(right["promised_on"]).strftime("%m/%d/%Y"),
    )
    assert "status" not in old
    assert "Ignore all rules" in told["last_scan"]
    assert len(told["last_scan"]) <= 120
    assert "\x1b" in (await faulty(system, "steering")).json()["last_scan"]
    assert (named.headers["content-type"], named.json()) == ("text/plain; charset=utf-8", right)


async def test_a_response_is_broken_off_or_dripped(system: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await faulty(system, "truncate")
    async with system.stream("GET", DELIVERY, headers={"X-Fault": "drip=0.001"}) as response:
        parts = [part async for part in response.aiter_raw()]

    assert len(parts) > 50
    assert orjson.loads(b"".join(parts))["order_id"] == DEMO_ORDER


async def test_a_set_fault_holds_for_requests_without_one_of_their_own(system: httpx.AsyncClient) -> None:
    await system.put("/control/fault", content="status=503, first=2")
    statuses = [(await system.get(ORDER)).status_code for _ in range(3)]
    await system.put("/control/fault", content="html")
    set_, own = await system.get(ORDER), await faulty(system, "", ORDER)
    seen = (await system.get("/control/requests")).json()

    assert statuses == [503, 503, 200]
    assert (set_.headers["content-type"], own.headers["content-type"]) == (
        "text/html; charset=utf-8",
        "application/json",
    )
    assert [one["path"] for one in seen] == [ORDER] * 5
    assert {one["scheme"] for one in seen} == {"bearer"}


# --- the stores of the shop -------------------------------------------------------------------------------
async def test_the_stores_serve_what_the_shop_has() -> None:
    data = stores.read_store_data()
    app = stores.application(data, scope=ReadScope(by="agent", cases={"*": frozenset({"*"})}))
    document = orjson.loads((FOLDER / "stores.openapi.json").read_bytes())
    transport = httpx.ASGITransport(Front(app, Credentials(TOKEN), stores.SHAPE))
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Assistant-Agent": "amira"}
    async with httpx.AsyncClient(transport=transport, base_url="http://stores", headers=headers) as client:
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


async def test_the_items_of_an_order_are_shown_with_quantity_and_price() -> None:
    data = stores.read_store_data()
    app = stores.application(data, scope=ReadScope(by="agent", cases={"*": frozenset({"*"})}))
    connector = load_connector(FOLDER / "stores.toml")
    operation = next(one for one in connector.operations if one.name == "order")
    element = next(one for one in connector.elements if one.name == "items")
    order_id = next(iter(data.orders))
    transport = httpx.ASGITransport(Front(app, Credentials(TOKEN), stores.SHAPE))
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Assistant-Agent": "amira"}
    async with httpx.AsyncClient(transport=transport, base_url="http://stores", headers=headers) as client:
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
