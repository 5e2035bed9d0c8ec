"""A question with a signed context over HTTP, a connector, and an order system on a socket: who gets what."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.options.live.live_scene import CUSTOMER, ORDER
from tests.options.live.live_site import OTHER_CUSTOMER, Site, opened

STEP = "The wait is two days; the order is {{orders.status}} now."
ANSWERS = "/v1/answers"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as site:
        await site.service.know("wait", STEP)
        yield site


async def element_of(site: Site, context: str | None, *, agent: str = "ann") -> dict[str, Any]:
    body = {} if context is None else {"context": context}
    answer = await site.service.answered(agent=agent, body=body)
    assert "two days" in answer["text"]
    elements = [each for each in answer["elements"] if each["name"] == "orders.status"]
    return elements[0]


async def test_the_agent_of_a_conversation_sees_its_customer_s_order(site: Site) -> None:
    element = await element_of(site, site.context())
    assert element["state"] == "ready"
    assert element["data"]["values"][0]["text"] == "Shipped"
    assert (element["source"], element["about"]) == ("orders", f"order {ORDER}")


async def test_the_agent_s_own_token_is_no_context_and_a_context_no_token(site: Site) -> None:
    assert (await element_of(site, site.context()))["state"] == "ready"
    bearer = site.service.headers()["authorization"].removeprefix("Bearer ")
    assert (await site.service.ask(body={"context": bearer})).status_code == 422
    stolen = {"authorization": f"Bearer {site.context(sub='ann', roles=['agent'])}"}
    response = await site.service.client.post(ANSWERS, json={"question": "x"}, headers=stolen)
    assert response.status_code == 401


async def test_an_auditor_lists_reads_of_the_tenant_alone(site: Site) -> None:
    await element_of(site, site.context())
    await element_of(site, None)
    auditor = site.service.headers("ada", roles=["auditor"])
    found = (await site.service.client.get("/v1/live-reads", headers=auditor)).json()["reads"]
    outcomes = [read["outcome"] for read in found]
    assert (outcomes[0], set(outcomes[1:])) == ("ready", {"not_allowed"})  # one call for all its elements
    assert {(read["agent"], read["operation"]) for read in found} == {("ann", "orders.get_order")}
    assert found[0]["subject"] is not None
    assert not [value for value in (ORDER, CUSTOMER, "Shipped") if value in orjson.dumps(found).decode()]
    for asked, count in (
        ({"customer": CUSTOMER}, 1),
        ({"customer": OTHER_CUSTOMER}, 0),
        ({"agent": "bob"}, 0),
    ):
        page = await site.service.client.get("/v1/live-reads", params=asked, headers=auditor)
        assert len(page.json()["reads"]) == count
    stranger = site.service.headers("eva", tenant="pharmacy", roles=["auditor"])
    assert (await site.service.client.get("/v1/live-reads", headers=stranger)).json()["reads"] == []
    agent = await site.service.client.get("/v1/live-reads", headers=site.service.headers())
    assert agent.status_code == 403
    audits = await site.service.client.get("/v1/audit", params={"agent": "ada"}, headers=auditor)
    assert {entry["subject_id"].split()[0] for entry in audits.json()["entries"]} >= {"live-reads"}


async def test_a_key_is_bound_to_what_was_signed_and_not_to_the_token(site: Site) -> None:
    headers = site.service.headers() | {"idempotency-key": "k-1"}

    async def asked(context: str | None) -> httpx.Response:
        body = {"question": "How long is the wait?", "context": context}
        return await site.service.client.post(ANSWERS, json=body, headers=headers)

    first = await asked(site.context())
    assert first.status_code == 200
    later = int(datetime.now(UTC).timestamp()) + 30
    again = await asked(site.context(exp=later))
    assert (again.status_code, again.json()["answer_id"]) == (200, first.json()["answer_id"])
    for other in (
        site.context(customer="C-2"),
        site.context(ids={"order": ["5000-0001"]}),
        site.context(ids={"prescription": [ORDER]}),
        None,
    ):
        assert (await asked(other)).status_code == 409


async def test_a_context_counts_for_one_answer_and_a_repeat_under_its_key_joins_it(site: Site) -> None:
    context = site.context()
    body = {"question": "How long is the wait?", "context": context}

    async def asked(key: str | None, path: str = ANSWERS, asked: dict[str, Any] = body) -> httpx.Response:
        headers = site.service.headers() | ({} if key is None else {"idempotency-key": key})
        return await site.service.client.post(path, json=asked, headers=headers)

    first = await asked("k-1")
    assert first.status_code == 200
    calls = len(site.system.exchanges)
    for key in ("k-2", first.json()["answer_id"], None):
        replayed = await asked(key)
        assert (replayed.status_code, replayed.json()["code"]) == (409, "context_used")
    chat = {"model": "default", "messages": [{"role": "user", "content": "How long?"}], "context": context}
    refused = await asked(None, "/v1/chat/completions", chat)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "context_used")
    assert len(site.system.exchanges) == calls  # nobody's data were read for a replay
    again = await asked("k-1")
    assert (again.status_code, again.json()["answer_id"]) == (200, first.json()["answer_id"])
    assert (await asked(None, asked=body | {"context": site.context()})).status_code == 200


async def test_a_context_without_an_id_is_named_by_what_was_signed(site: Site) -> None:
    context = site.context(jti=None)
    body = {"question": "How long is the wait?", "context": context}
    head, _, signature = context.rpartition(".")
    number = int.from_bytes(urlsafe_b64decode(signature + "=="))
    r, s = divmod(number, 1 << 256)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = urlsafe_b64encode(((r << 256) + order - s).to_bytes(64)).rstrip(b"=").decode()
    assert (await site.service.ask(body=body)).status_code == 200
    for replayed in (context, f"{head}.{other}"):  # both verify
        response = await site.service.ask(body=body | {"context": replayed})
        assert (response.status_code, response.json()["code"]) == (409, "context_used")


@pytest.mark.parametrize("key", [{}, {"idempotency-key": "k-1"}], ids=["no key", "key"])
async def test_an_answer_that_never_began_leaves_its_context_unused(site: Site, key: dict[str, str]) -> None:
    body = {"question": "How long is the wait?", "context": site.context()}

    async def asked(**more: str) -> int:
        headers = site.service.headers() | key
        response = await site.service.client.post(ANSWERS, json=body | more, headers=headers)
        return response.status_code

    assert await asked(conversation_id="of-nobody") == 404
    assert await asked() == 200
    key = {"idempotency-key": "k-2"}
    assert await asked() == 409
