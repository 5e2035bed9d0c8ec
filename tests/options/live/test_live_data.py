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
from joserfc.jwk import ECKey

from assistant.domain.errors import ContextRefusedError, DependencyError
from assistant.domain.identity import Identity, PlainContext, Role
from assistant.options.live.contexts import CareContexts
from assistant.service.errors import problem_of
from assistant.tenant.deployment import CareContextSection
from tests.options.live.live_scene import CUSTOMER, ORDER, OTHER_CUSTOMER, Site, opened
from tests.stage.tenant_stores import SteppedClock
from tests.stage.tokens import CARE, EC_KEY, FORGED, RSA_KEY, StaticKeys, context_claims, token

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


ANN = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset())
SECTION = CareContextSection(issuer=CARE)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def contexts(clock: SteppedClock) -> CareContexts:
    return CareContexts({"clinic": SECTION}, {"clinic": StaticKeys()}, clock)


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["ES256", "RS256"])
async def test_a_signed_context_says_whose_it_is(
    contexts: CareContexts, clock: SteppedClock, key: Any
) -> None:
    found = await contexts.verify(token(context_claims(clock), key=key), identity=ANN)
    assert found is not None
    assert (found.agent, found.customer) == ("ann", "C-1")
    assert found.ids == {"order": ("1-1", "1-2"), "customer": ("C-1",)}
    assert (found.expires_at - clock.now()).total_seconds() == 300


async def test_without_a_context_there_is_none(contexts: CareContexts) -> None:
    assert await contexts.verify(None, identity=ANN) is None


@pytest.mark.parametrize("name", FORGED)
async def test_a_context_that_does_not_verify_is_refused_with_one_error(
    contexts: CareContexts, clock: SteppedClock, name: str
) -> None:
    assert await contexts.verify(token(context_claims(clock)), identity=ANN) is not None
    with pytest.raises(ContextRefusedError) as refused:
        await contexts.verify(FORGED[name](clock), identity=ANN)
    assert refused.value.message == (
        "The context of the question is not valid. Ask again from the customer's conversation."
    )
    assert problem_of(refused.value).status == 422


async def test_a_context_expires_after_its_skew(contexts: CareContexts, clock: SteppedClock) -> None:
    signed = token(context_claims(clock))
    clock.step(300 + 59)
    assert await contexts.verify(signed, identity=ANN) is not None
    clock.step(2)
    with pytest.raises(ContextRefusedError):
        await contexts.verify(signed, identity=ANN)
    assert await contexts.verify(signed, identity=ANN, of_reply=True) is not None
    for name in FORGED.keys() - {"that has expired"}:
        with pytest.raises(ContextRefusedError):
            await contexts.verify(FORGED[name](clock), identity=ANN, of_reply=True)


async def test_an_agent_of_another_tenant_with_the_same_name_is_another(
    contexts: CareContexts, clock: SteppedClock
) -> None:
    twin = Identity("pharmacy", "ann", ANN.roles, ANN.labels)
    both = CareContexts(
        {"clinic": SECTION, "pharmacy": SECTION},
        {name: StaticKeys() for name in ("clinic", "pharmacy")},
        clock,
    )
    signed = token(context_claims(clock))
    assert await both.verify(signed, identity=ANN) is not None
    with pytest.raises(ContextRefusedError):
        await both.verify(signed, identity=twin)


async def test_a_key_that_is_bound_to_a_subject_signs_no_context(clock: SteppedClock) -> None:
    parameters: Any = {"kid": "ec", "assistant_subject": "ann"}
    bound = ECKey.generate_key("P-256", parameters)

    class BoundKeys(StaticKeys):
        async def key(self, kid: str) -> ECKey:
            return bound

    contexts = CareContexts({"clinic": SECTION}, {"clinic": BoundKeys()}, clock)
    with pytest.raises(ContextRefusedError):
        await contexts.verify(token(context_claims(clock), key=bound), identity=ANN)


async def test_keys_that_cannot_be_fetched_are_no_refusal(clock: SteppedClock) -> None:
    class NoKeys(StaticKeys):
        async def key(self, kid: str) -> ECKey:
            raise DependencyError("down")

    contexts = CareContexts({"clinic": SECTION}, {"clinic": NoKeys()}, clock)
    with pytest.raises(DependencyError):
        await contexts.verify(token(context_claims(clock)), identity=ANN)


async def test_plain_ids_count_only_where_the_tenant_file_says_so(clock: SteppedClock) -> None:
    plain = PlainContext(customer="C-1", ids={"order": ("1-1",), "customer": ("C-2",)})
    allowing = CareContexts({"clinic": CareContextSection(issuer=CARE, plain_ids=True)}, {}, clock)
    found = await allowing.verify(plain, identity=ANN)
    assert found is not None
    assert found.ids == {"order": ("1-1",), "customer": ("C-1",)}  # one customer, whatever the ids say
    for sections in ({}, {"clinic": SECTION}):
        with pytest.raises(ContextRefusedError):
            await CareContexts(sections, {}, clock).verify(plain, identity=ANN)


async def test_a_tenant_without_a_care_application_takes_no_context(clock: SteppedClock) -> None:
    with pytest.raises(ContextRefusedError):
        await CareContexts({}, {}, clock).verify(token(context_claims(clock)), identity=ANN)
