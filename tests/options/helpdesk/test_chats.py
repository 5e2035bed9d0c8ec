"""The helpdesk's chats over real HTTP, and its simulated patients on a moved clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from assistant.domain.errors import ConflictError, OverloadedError
from assistant.laptop.layout import Layout
from assistant.options.helpdesk.app import DeskConfig, Helpdesk, ids_of
from assistant.options.helpdesk.chats import Changes, Chat, StoredChats
from assistant.options.helpdesk.laptop import helpdesk_tenant
from assistant.options.helpdesk.patients import SimulatedPatients, Story
from assistant.options.live.contexts import CareContexts
from assistant.process.http import open_socket, serving
from assistant.process.settings import LocalSettings
from assistant.stores.sqlite_table import SqliteTable
from assistant.tenant.deployment import CareContextSection
from assistant.tenant.tenant import load_tenant
from tests.stage.tenant_stores import SteppedClock
from tests.stage.tokens import CARE, EC_KEY, StaticKeys, context_claims, token, unsigned
from tools.systems import order_application, read_order_data

REPOSITORY = Path(__file__).parents[3]
SECRET = "of-the-assistant"
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
STORIES = (
    Story(name="one", customer="PT-366623", lines=("first", "second")),
    Story(name="two", customer="PT-204417", lines=("only",)),
)


@dataclass
class Side:
    """``CareSide`` of one agent."""

    clock: SteppedClock

    def token(self) -> str:
        return "t"

    def context(self, chat: Chat) -> str:
        return self.signed(customer=chat.customer, ids=ids_of(chat))

    def signed(self, *, key: Any = EC_KEY, **changes: Any) -> str:
        return token(
            context_claims(self.clock, **{"agent": "dana", "customer": "PT-366623"} | changes), key=key
        )


@dataclass
class Scene:
    desk: Helpdesk
    client: httpx.AsyncClient
    clock: SteppedClock

    async def begin(self, text: str = "hello") -> Chat:
        response = await self.client.post("/helpdesk/chats", json={"text": text})
        assert response.status_code == 201, response.text
        return await self.desk.chats.get(response.json()["chat_id"])

    async def reply(
        self, context: str | None, *, send_id: str = "s1", text: str = "hi", secret: str = SECRET
    ) -> int:
        body = {"send_id": send_id, "answer_id": "a", "conversation_id": "a", "agent": "dana"}
        body |= {"at": AT.isoformat(), "text": text, "context": context}
        headers = {"authorization": f"Bearer {secret}", "x-assistant-agent": "dana"}
        return (await self.client.post("/v1/replies", json=body, headers=headers)).status_code

    async def texts(self, chat: Chat) -> list[str]:
        return [one.text for one in (await self.desk.chats.get(chat.chat_id)).messages]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock = SteppedClock()
    table = SqliteTable(tmp_path / "helpdesk.sqlite", clock=clock)
    chats = StoredChats(table, clock=clock)
    (tmp_path / "token").write_text(SECRET)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(table.close)
        app = order_application(read_order_data(today=AT.date()), token_files=(tmp_path / "token",))
        listener = open_socket("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        config = DeskConfig(service="https://assistant.example", tenant="Mail & <Pharmacy>")
        contexts = CareContexts({"clinic": CareContextSection(issuer=CARE)}, {"clinic": StaticKeys()}, clock)
        side = Side(clock)
        desk = Helpdesk(chats, SimulatedPatients(chats, STORIES), side, config, contexts, url, http)
        desk.add_to(app)
        await stack.enter_async_context(serving({listener: app}, shutdown_timeout_s=1.0))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=10))
        yield Scene(desk, client, clock)


async def changes(scene: Scene, path: str, after: int = 0) -> Changes:
    response = await scene.client.get(f"/helpdesk/{path}", params={"after": after})
    assert response.status_code == 200
    body = response.json()
    return Changes.model_validate(body | {"chats": [{"customer": "hidden"} | chat for chat in body["chats"]]})


async def test_a_sent_reply_stands_in_its_chat_once(scene: Scene) -> None:
    chat = await scene.begin()
    context = scene.desk.side.context(chat)
    assert [await scene.reply(context) for _ in range(2)] == [204, 204]
    assert await scene.texts(chat) == ["hello", "hi"]
    assert await scene.reply(context, send_id="s2", text="and more") == 204
    assert await scene.texts(chat) == ["hello", "hi", "and more"]


async def test_a_reply_reaches_the_chat_that_this_desk_signed_for_its_agent_alone(scene: Scene) -> None:
    chat, other = await scene.begin(), await scene.begin()
    ids, side = ids_of(chat), Side(scene.clock)
    own = side.signed(ids=ids)
    head, body, _ = own.split(".")
    refused = {
        "none": None,
        "empty": "",
        "unreadable": "a.b.c",
        "no chat": side.signed(),
        "no chat's id": side.signed(ids={"chat": []}),
        "two chats": side.signed(ids={"chat": [chat.chat_id, other.chat_id]}),
        "algorithm none": unsigned(context_claims(scene.clock, agent="dana", customer="PT-366623", ids=ids)),
        "no signature": f"{head}.{body}.",
        "another's signature": f"{head}.{body}.{side.signed(ids=ids_of(other)).split('.')[2]}",
        "another's key": side.signed(ids=ids, key=ECKey.generate_key("P-256", {"kid": "ec"})),
        "another agent": side.signed(ids=ids, agent="bob"),
        "another tenant": side.signed(ids=ids, tenant="pharmacy"),
        "another issuer": side.signed(ids=ids, iss="https://care.evil"),
        "another customer": side.signed(ids=ids, customer="PT-204417"),
    }
    for name, context in refused.items():
        assert (name, await scene.reply(context)) == (name, 422)
    assert await scene.texts(chat) == await scene.texts(other) == ["hello"]
    scene.clock.step(3_600)  # the agent wrote for an hour
    assert await scene.reply(own) == 204
    assert await scene.texts(chat) == ["hello", "hi"]


async def test_a_reply_of_anybody_else_or_for_an_unknown_or_ended_chat_is_refused(scene: Scene) -> None:
    chat = await scene.begin()
    context = scene.desk.side.context(chat)
    assert await scene.reply(context) == 204
    assert await scene.reply(context, send_id="s2", secret="of-nobody") == 401
    unknown = Side(scene.clock).signed(ids={"chat": ["0" * 32]})
    assert await scene.reply(unknown, send_id="s3") == 404
    assert (await scene.client.post(f"/helpdesk/desk/{chat.chat_id}/close")).status_code == 204
    assert await scene.reply(context, send_id="s4") == 409
    assert await scene.texts(chat) == ["hello", "hi"]


async def test_a_patient_sees_the_own_chat_and_a_desk_all(scene: Scene) -> None:
    own, other = await scene.begin("mine"), await scene.begin("another")
    body = {"message_id": "m1", "text": "take it cold"}
    for _ in range(2):
        assert (await scene.client.post(f"/helpdesk/desk/{own.chat_id}/messages", json=body)).is_success
    assert await scene.texts(own) == ["mine", "take it cold"]
    (seen,) = (await changes(scene, f"chats/{own.chat_id}")).chats
    assert ([one.who for one in seen.messages], seen.customer) == (["patient", "agent"], "hidden")
    begun = await scene.client.post("/helpdesk/chats", json={"text": "third", "customer": 1})
    for one in (begun, await scene.client.get(f"/helpdesk/chats/{own.chat_id}")):
        assert not any(word in one.text for word in ("PT-", "customer", "ids")), "the page needs neither"
    await scene.desk.chats.close(begun.json()["chat_id"])
    both = [chat for chat in (await changes(scene, "desk")).chats if chat.closed_at is None]
    assert {one.chat_id for one in both} == {own.chat_id, other.chat_id}


@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "DELETE"])
async def test_nobody_sets_a_fault_of_the_order_system_or_lists_what_came(scene: Scene, method: str) -> None:
    chat = await scene.begin()
    paths = ("/control/fault", "/control/requests", "/control/fault/", "//control/fault", "/CONTROL/fault")
    paths += ("/helpdesk/../control/fault", "/%63ontrol/fault", "/control%2Ffault", "/v1/control/fault")
    secret = {"authorization": f"Bearer {SECRET}"}
    for path in paths:
        url = scene.client.base_url.copy_with(raw_path=path.encode())
        for headers in ({}, secret):
            response = await scene.client.request(method, url, json="status=503", headers=headers)
            assert (path, response.status_code in (401, 404, 405)) == (path, True)
    assert await scene.reply(scene.desk.side.context(chat)) == 204
    order = await scene.client.get("/v1/orders/4471-2208", headers=secret | {"x-assistant-agent": "dana"})
    assert order.status_code == 200, "its owner reads"


async def test_a_patient_is_no_agent_and_takes_no_reply_s_place(scene: Scene) -> None:
    chat = await scene.begin()
    path = f"/helpdesk/chats/{chat.chat_id}/messages"
    own = {"message_id": "m1", "text": "hello?"}
    for body in (
        own | {"who": "agent"},
        own | {"message_id": ""},
        own | {"message_id": "a b"},
        own | {"at": 1},
    ):
        assert (await scene.client.post(path, json=body)).status_code == 422
    assert (await scene.client.post(path, json=own | {"message_id": "s1"})).is_success
    assert await scene.reply(scene.desk.side.context(chat)) == 409, "not taken for sent"
    assert await scene.reply(scene.desk.side.context(chat), send_id="s2") == 204
    assert await scene.reply(scene.desk.side.context(chat), send_id="s2", text="other") == 409
    for _ in range(49):
        await scene.begin()
    assert (await scene.client.post("/helpdesk/chats", json={"text": "x"})).status_code == 429
    assert (await scene.client.get("/helpdesk/desk")).status_code == 200, "the agents' page goes on"
    assert await scene.reply(scene.desk.side.context(chat), send_id="s3", text="bye") == 204
    assert await scene.texts(chat) == ["hello", "hello?", "hi", "bye"]


async def test_pages_say_that_it_is_a_reference_and_hold_the_assistant_alone(scene: Scene) -> None:
    for path in ("/", "/patient"):
        page = await scene.client.get(path)
        assert "A reference, not a helpdesk" in page.text
        assert "Tenant: Mail &amp; &lt;Pharmacy&gt;." in page.text
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cross-origin-opener-policy"] == "same-origin-allow-popups"
        assert "frame-src https://assistant.example;" in page.headers["content-security-policy"]
    assert (await scene.client.get("/v1/orders/4471-2208")).status_code == 401


@pytest.mark.parametrize(("named", "found"), [("pharmacy", "pharmacy"), ("mine", "mine"), ("none", "mine")])
def test_a_copy_of_a_tenant_does_not_take_the_helpdesk_over(tmp_path: Path, named: str, found: str) -> None:
    folder = REPOSITORY / "tenants"
    pharmacy = load_tenant(folder / "pharmacy.toml")
    tenants = {"mine": pharmacy.model_copy(update={"name": "mine"}), "pharmacy": pharmacy}
    layout = Layout(folder, tmp_path, tenants, LocalSettings(helpdesk=named), checkout=REPOSITORY)
    tenant = helpdesk_tenant(layout)
    assert tenant is not None
    assert tenant.name == found


async def test_simulated_patients_write_where_a_desk_is_open_and_nobody_else_writes(scene: Scene) -> None:
    patients, chats, clock = scene.desk.patients, scene.desk.chats, scene.clock

    async def kept() -> list[tuple[str | None, int, bool]]:
        return [(one.story, len(one.messages), one.closed_at is not None) for one in await chats.list()]

    await patients.step()
    assert await kept() == []
    patients.open_until = AT + timedelta(days=9_999)
    await scene.begin()
    await patients.step()
    assert await kept() == [(None, 1, False)]
    clock.step(31)
    await patients.step()
    await patients.step()
    assert await kept() == [(None, 1, False), ("one", 1, False)]
    for _ in range(4):
        clock.step(9)
        await patients.step()
    assert [story for story, _, _ in await kept()] == [None, "one", "two", "one"]
    first = (await chats.list())[1]
    await chats.add(first.chat_id, "agent", "hi", message_id="a1")
    await patients.step()
    assert await scene.texts(first) == ["first", "hi"]
    clock.step(4)
    await patients.step()
    assert await scene.texts(first) == ["first", "hi", "second"]
    await chats.add(first.chat_id, "agent", "bye", message_id="a2")
    clock.step(4)
    await patients.step()
    assert (await chats.get(first.chat_id)).closed_at is not None
    clock.step(1_300)
    await patients.step()
    assert [is_closed for story, _, is_closed in (await kept())[2:4] if story] == [True, True]


async def test_chats_and_their_messages_are_bounded(scene: Scene) -> None:
    chat = await scene.begin()
    for number in range(99):
        await scene.desk.chats.add(chat.chat_id, "patient", "x", message_id=f"m{number}")
    with pytest.raises(ConflictError, match="has ended"):
        await scene.desk.chats.add(chat.chat_id, "patient", "x", message_id="m99")
    for _ in range(49):
        await scene.begin()
    with pytest.raises(OverloadedError, match="Too many chats"):
        await scene.desk.chats.open("PT-204417", {}, text="x")
    await scene.desk.chats.close(chat.chat_id)
    await scene.begin()
