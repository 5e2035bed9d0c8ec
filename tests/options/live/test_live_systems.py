"""A live system that misbehaves, and callers who want what is not theirs: typed, and never shown.

Each test begins with the owner, who gets the data from the same system.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from assistant.domain.errors import ConfigurationError
from assistant.domain.live import ElementKind, ElementProblem
from assistant.options.live.systems import HttpSystems, SystemAccess, checked_address
from assistant.process.aws import GetSigner, StoredSecret, open_client
from tests.options.live.live_scene import (
    CUSTOMER,
    FLOOD_BYTES,
    HOSTILE,
    INVALID,
    JSON,
    LATE,
    ORDER,
    UNAVAILABLE,
    WRONG,
    Drip,
    FirstWell,
    Flood,
    LiveScene,
    Respond,
    answers_well,
    body,
    connector,
    context,
    html,
    identity,
    live_scene,
    order,
    raw,
)
from tests.stage.aws_server import REGION
from tests.stage.servers import Authority, Exchange, tls_front


async def shown_to_the_owner(scene: LiveScene) -> None:
    filled = await scene.fill()
    assert [(value.label, value.text, value.tone) for value in filled.data.values] == [
        ("Status", "Shipped", "good")
    ]
    assert filled.about == f"order {ORDER}"


@asynccontextmanager
async def then(respond: Respond, **how: Any) -> AsyncGenerator[LiveScene]:
    """Open a scene whose system answered the owner well, and answers so from then on."""
    script = FirstWell()
    async with live_scene(script, **how) as scene:
        await shown_to_the_owner(scene)
        script.then = respond
        yield scene


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_response_is_typed_and_never_shown(name: str) -> None:
    respond, problem = WRONG[name]
    async with then(respond) as scene:
        error = await scene.refused()
        assert error.problem is problem, error.message
        assert error.about == f"order {ORDER}"
        assert scene.outcomes == ["ready", problem.value]
        assert not [word for word in ("hunter2", "C-9", "9999", "Maintenance") if word in error.message]


@pytest.mark.parametrize("says_its_length", [True, False])
async def test_two_hundred_megabytes_are_neither_read_nor_held(says_its_length: bool) -> None:
    flood = Flood(says_its_length=says_its_length)
    async with then(flood) as scene:
        tracemalloc.start()
        error = await scene.refused()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert error.problem is INVALID
        assert "larger than 65536 bytes" in error.message
        assert peak < 20_000_000
        assert flood.sent_bytes < FLOOD_BYTES / 4


async def test_a_system_that_drips_is_late_by_its_deadline() -> None:
    drip = Drip()
    async with then(drip, deadline_s=2.0) as scene:
        assert (await scene.refused()).problem is LATE
        assert scene.outcomes == ["ready", "system_late"]
        assert drip.drops < 200  # of the fifty seconds it would take


async def test_after_five_failures_the_system_is_not_called_for_a_while() -> None:
    async with then(raw(500)) as scene:
        for _ in range(5):
            await scene.refused()
        before = len(scene.server.exchanges)
        error = await scene.refused()
        assert error.problem is UNAVAILABLE
        assert "several times in a row" in error.message
        assert len(scene.server.exchanges) == before


async def test_cookies_of_a_system_are_not_sent_back() -> None:
    async def cookie(exchange: Exchange) -> None:
        await exchange.respond(200, orjson.dumps(order()), Set_Cookie="session=stolen; Path=/", **JSON)

    async with live_scene(cookie) as scene:
        await shown_to_the_owner(scene)
        await shown_to_the_owner(scene)
        assert not any("cookie" in exchange.headers for exchange in scene.server.exchanges)


# --- text of a system is text ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_text_is_shown_as_plain_text(name: str) -> None:
    async with then(body(items=[{"name": HOSTILE[name], "count": 1}])) as scene:
        filled = await scene.fill("orders.items")
        (row,) = filled.data.rows
        assert "rin" in row.title
        forbidden = ("<", "](", "javascript", "http", "\u202e", "\x00", "\x1b", "\u200b", "\n", "\r")
        assert [mark for mark in forbidden if mark in row.title] == []


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/parcels/1",
        "https://track.example.com.evil.example/parcels/1",
        "https://track.example.com/parcels/../admin",
        "https://track.example.com/parcels/%2e%2e/admin",
        "https://track.example.com@evil.example/parcels/1",
        "http://track.example.com/parcels/1",
        "javascript:alert(1)//https://track.example.com/parcels/",
        "https://track.example.com/parcels/\u202e1",
        'https://track.example.com/parcels/"onclick="x',
        "https://track.example.com/parcels/ 1",
        "https://track.example.com\\@evil.example/parcels/1",
        "https://track.example.com/parcels/" + "a" * 3_000,
    ],
)
async def test_a_link_leads_only_where_the_connector_allows(url: str) -> None:
    script = FirstWell()
    async with live_scene(script) as scene:
        filled = await scene.fill("orders.track")
        assert filled.data.url == "https://track.example.com/parcels/1Z999"
        script.then = body(tracking={"url": url})
        assert (await scene.refused("orders.track")).problem is INVALID
        await shown_to_the_owner(scene)  # the other elements of the response are unharmed


# --- TLS ---------------------------------------------------------------------------------------------------
async def test_a_certificate_of_another_name_or_authority_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority.make(), Authority.make()
    cases = [
        ("localhost", ours, None, None),
        ("orders.corp.example", ours, "orders.corp.example", None),
        ("other.corp.example", ours, "orders.corp.example", INVALID),
        ("other.corp.example", ours, None, INVALID),
        ("localhost", theirs, None, INVALID),
    ]
    async with live_scene() as plain:
        for number, (host, authority, expected_name, problem) in enumerate(cases):
            folder = tmp_path / str(number)
            folder.mkdir()
            async with (
                tls_front(plain.server.url, folder, authority=authority, host=host) as url,
                live_scene(url=url, ca_pem=ours.pem, host_name=expected_name) as scene,
            ):
                if problem is None:
                    await shown_to_the_owner(scene)
                else:
                    assert (await scene.refused()).problem is problem


@pytest.mark.parametrize(
    "url",
    [
        "http://orders.corp.example",
        "http://169.254.169.254",
        "https://169.254.169.254",
        "https://[fe80::1]",
        "https://0.0.0.0",
        "https://user:pass@orders.corp.example",  # pragma: allowlist secret
        "https://orders.corp.example/base",
        "ftp://orders.corp.example",
        "https://",
    ],
)
def test_an_address_that_is_no_private_system_is_refused(url: str) -> None:
    assert (
        checked_address("orders", "https://orders.corp.example:8443/") == "https://orders.corp.example:8443"
    )
    with pytest.raises(ConfigurationError, match="address of the system orders"):
        checked_address("orders", url)


# --- who, and whose ----------------------------------------------------------------------------------------
async def test_an_agent_without_the_label_is_refused() -> None:
    file = connector(labels='roles = ["agent"] -> labels = ["controlled"]')
    async with live_scene(file=file) as scene:
        assert (await scene.fill(by=identity("ann", labels=["controlled", "staff"]))).data.values
        assert (
            await scene.refused(by=identity("ann", labels=["staff"]))
        ).problem is ElementProblem.NOT_ALLOWED


async def test_an_id_of_the_context_that_would_change_the_path_is_no_id() -> None:
    free = connector(
        pattern=r'"type": "string", "pattern": "^\\d{4}-\\d{4}$" -> "type": "string"',
        question='words = "order number" -> question = false\nwords = "order number"',
    )
    async with live_scene(file=free) as scene:
        await shown_to_the_owner(scene)
        for hostile in ("..", ".", "../admin", "a/../../admin", "x?view=all", "x#y", "%2e%2e", "x;y=1"):
            await scene.refused(of=context(order=(hostile,)))
        targets = {exchange.target for exchange in scene.server.exchanges}
        assert all(target.startswith("/v1/orders/") and target.endswith("?view=care") for target in targets)
        segments = {part for target in targets for part in target.partition("?")[0].split("/")}
        assert not segments & {"..", ".", "admin", "%2e%2e"}


async def test_the_agent_s_identity_is_passed_on_where_the_system_decides() -> None:
    seen: list[str | None] = []

    async def by_agent(exchange: Exchange) -> None:
        seen.append(exchange.headers.get("x-assistant-agent"))
        if seen[-1] == "ann":
            await answers_well(exchange)
        else:
            await exchange.respond(403, b"", **JSON)

    async with live_scene(by_agent, whose="agent") as scene:
        how: dict[str, Any] = {"without_context": True, "question": f"Where is {ORDER}?"}
        assert (await scene.fill(**how)).data.values
        assert (await scene.refused(by=identity("bob"), **how)).problem is ElementProblem.NOT_ALLOWED
        await scene.refused(by=identity("eve\r\nX-Assistant-Agent: ann"), **how)
        assert seen == ["ann", "bob", "eve%0D%0AX-Assistant-Agent:%20ann"]


async def test_where_the_context_decides_only_a_get_without_an_identity_leaves() -> None:
    async with live_scene() as scene:
        await shown_to_the_owner(scene)
        [exchange] = scene.server.exchanges
        assert (exchange.method, "x-assistant-agent" in exchange.headers) == ("GET", False)


# --- one call, caches, switches, records -------------------------------------------------------------------
async def test_elements_of_one_operation_in_one_answer_cause_one_call() -> None:
    async with live_scene() as scene:
        names = ("orders.status", "orders.refill", "orders.items", "orders.track")
        filled = await asyncio.gather(*(scene.fill(name, answer_id="a1") for name in names))
        assert len(scene.server.exchanges) == 1
        assert scene.outcomes == ["ready"]
        assert [value.text for value in filled[1].data.values] == ["Shipped", "Nov 24, 2026", "$12.50"]
        assert [row.title for row in filled[2].data.rows] == ["Lisinopril 10 mg", "Metformin 500 mg"]
        assert scene.elements.types()["orders.items"].kind is ElementKind.TABLE
        await scene.fill(answer_id="a2")
        assert len(scene.server.exchanges) == 2


async def test_another_customer_or_agent_never_shares_a_personal_reading() -> None:
    async def whose(exchange: Exchange) -> None:
        number = exchange.target.split("/")[3].partition("?")[0]
        customer = {ORDER: CUSTOMER, "5000-0001": "C-2"}[number]
        await exchange.respond(
            200, orjson.dumps(order(id=number, customer={"id": customer}, status="delayed")), **JSON
        )

    async with live_scene(whose) as scene:
        first = await scene.fill(answer_id="a1")
        assert first.about == f"order {ORDER}"
        error = await scene.refused(of=context("C-2"), answer_id="a1")  # the same order, another customer
        assert error.problem is ElementProblem.NOT_ALLOWED
        second = await scene.fill(of=context("C-2", order=("5000-0001",)), answer_id="a1")
        assert second.about == "order 5000-0001"
        await scene.fill(by=identity("bob"), of=context(agent="bob"), answer_id="a1")
        assert len(scene.server.exchanges) == 4
        assert {read.subject for read in scene.reads.reads} == {"p-6", "p-3"}


async def test_a_failed_call_is_made_again_when_it_is_asked_for_again() -> None:
    script = FirstWell()
    script.then = html
    async with live_scene(script) as scene:
        await scene.refused(answer_id="a1")
        script.then = None
        assert (await scene.fill(answer_id="a1")).data.values


async def test_a_system_that_is_switched_off_is_not_called() -> None:
    async with live_scene() as scene:
        await shown_to_the_owner(scene)
        scene.switches.off.add("orders")
        assert (await scene.refused()).problem is ElementProblem.SWITCHED_OFF
        assert (len(scene.server.exchanges), scene.outcomes) == (1, ["ready", "switched_off"])


async def test_what_is_not_recorded_is_not_shown() -> None:
    async with live_scene() as scene:
        await shown_to_the_owner(scene)
        scene.reads.is_down = True
        error = await scene.refused()
        assert error.problem is UNAVAILABLE
        assert "recorded" in error.message


async def test_a_record_names_who_whose_when_and_what_and_no_value() -> None:
    async with live_scene() as scene:
        await scene.fill(answer_id="a1")
        (read,) = scene.reads.reads
        assert (read.agent, read.system, read.operation) == ("ann", "orders", "orders.get_order")
        assert (read.subject, read.answer_id, read.outcome) == ("p-6", "a1", "ready")
        said = read.model_dump_json()
        assert not [value for value in (ORDER, CUSTOMER, "shipped", "Lisinopril") if value in said]


async def test_a_system_without_an_address_is_unavailable() -> None:
    async with live_scene() as scene:
        nowhere = HttpSystems({}, clock=scene.clock)
        scene.elements.calls = nowhere
        assert (await scene.refused()).problem is UNAVAILABLE
        await nowhere.close()


# --- credentials -------------------------------------------------------------------------------------------


async def test_a_token_with_a_line_break_is_never_sent() -> None:
    async def secret() -> bytes:
        return b"good\r\nX-Admin: yes"

    async with live_scene(auth="token", secret=secret) as scene:
        assert (await scene.refused()).problem is UNAVAILABLE
        assert scene.server.exchanges == []


def oauth(token_response: Respond) -> Respond:
    async def serve(exchange: Exchange) -> None:
        if exchange.method == "POST":
            assert b"client_secret=s3cret" in exchange.body
            await token_response(exchange)
        elif exchange.headers.get("authorization") == "Bearer issued":
            await answers_well(exchange)
        else:
            await exchange.respond(401, b"", **JSON)

    return serve


async def client_secret() -> bytes:
    return b'{"client_id": "assistant", "client_secret": "s3cret"}'


@pytest.mark.parametrize(
    "response",
    [
        raw(302, b"", Location="http://169.254.169.254/"),
        raw(200, b"<html>"),
        raw(200, b"{}"),
        raw(200, b'{"access_token": "a b\\r\\nX: y"}'),
        raw(200, b'{"access_token": "issued", "token_type": "mac"}'),
        raw(200, b'{"access_token": "' + b"a" * 100_000 + b'"}'),
        raw(400, b'{"error": "invalid_client"}'),
    ],
)
async def test_a_wrong_token_response_is_typed(response: Respond) -> None:
    async with live_scene(oauth(response), auth="oauth", secret=client_secret) as scene:
        error = await scene.refused()
        assert error.problem in (UNAVAILABLE, INVALID)
        assert "s3cret" not in error.message
        assert all(exchange.method == "POST" for exchange in scene.server.exchanges)


def test_a_system_access_never_shows_a_secret_in_its_text() -> None:
    assert "s3cret" not in repr(SystemAccess("orders", "https://orders.corp.example", secret=client_secret))


@pytest.fixture
async def secrets(aws_server_url: str) -> AsyncIterator[Any]:
    async with open_client("secretsmanager", region=REGION, endpoint_url=aws_server_url) as client:
        yield client


async def test_a_secret_is_read_in_its_newest_version(secrets: Any) -> None:
    name = "assistant/pharmacy/reach/orders"
    await secrets.create_secret(Name=name, SecretString="old\n")
    assert await StoredSecret(secrets, name=name)() == b"old"
    await secrets.put_secret_value(SecretId=name, SecretString="new")
    assert await StoredSecret(secrets, name=name)() == b"new"


async def test_a_missing_or_empty_secret_names_what_to_do(secrets: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no/such cannot be read \(ResourceNotFoundException\)"):
        await StoredSecret(secrets, name="no/such")()
    await secrets.create_secret(Name="empty", SecretString="  ")
    with pytest.raises(ConfigurationError, match="empty is empty"):
        await StoredSecret(secrets, name="empty")()


async def test_a_live_read_is_signed_so_that_the_system_can_verify_it(secrets: Any) -> None:
    sign = GetSigner(secrets, service="vpc-lattice-svcs", region=REGION)
    async with live_scene(auth="sigv4", sign=sign) as scene:
        await scene.fill()
        (exchange,) = scene.server.exchanges
        sent = exchange.headers
        key = await secrets._request_signer._credentials.get_frozen_credentials()
        again = AWSRequest(
            "GET",
            f"{scene.server.url}{exchange.target}",
            headers={
                name: sent[name.lower()]
                for name in ("Accept", "Accept-Encoding", "Host", "X-Amz-Content-SHA256")
            },
        )
        again.context["timestamp"] = sent["x-amz-date"]
        signer = SigV4Auth(
            ReadOnlyCredentials(key.access_key, key.secret_key, key.token), "vpc-lattice-svcs", REGION
        )
        again.headers["X-Amz-Date"] = sent["x-amz-date"]
        canonical = signer.canonical_request(again)
        expected = signer.signature(signer.string_to_sign(again, canonical), again)
        assert sent["authorization"].endswith(f"Signature={expected}")
        assert sent["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "vpc-lattice-svcs/aws4_request" in sent["authorization"]
