"""The guard before *Send* talked out by the request or the judging model: MACs, spans, ids, contexts."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from assistant.answer.live_macs import COUNTS_FOR, LiveMacs
from assistant.text.language import split_sentences
from tests.options.live.live_scene import SOURCES, Site, opened, orders
from tests.stage.answering import verdicts
from tests.stage.running_service import RunningService, Scene, running_service
from tests.stage.sagemaker_runtime import SageMakerSocket
from tests.stage.servers import Exchange
from tests.stage.tenant_stores import SteppedClock
from tests.stage.tokens import FORGED, context_claims, token

FLAGS = """[[red_flags]]
name = "poison"
examples = ["she swallowed pills", "took too many pills", "drank bleach", "ate a battery", "overdose"]
text = "Possible poisoning: dial 911 now. Do not give her 50 mg of charcoal. Never leave them alone there."
call = "911"
"""
STEP = "The wait is two days. Do not stop the tablets on your own."
RIGHT, WRONG = "The wait is two days.", "The wait is two days. Take 400 mg."


@dataclass
class Desk:
    """An answer of ann, with the context of its question, and replies that go to the care application."""

    site: Site
    answer_id: str
    context: str

    @property
    def service(self) -> RunningService:
        return self.site.service

    def mac(
        self, value: str = "400 mg", name: str = "e1", *, of: str = "", agent: str = "ann", **more: Any
    ) -> str:
        """Return the service's code of a value: of another ``tenant``, or so long ``ago``."""
        services = self.service.tenants[more.get("tenant", "clinic")].answering
        clock = SteppedClock(datetime.now(UTC) - more.get("ago", timedelta()))
        return LiveMacs(replace(services, clock=clock), of or self.answer_id, agent).signed(name, value).mac

    async def send(self, text: str, agent: str = "ann", answer_id: str = "", **more: Any) -> httpx.Response:
        return await self.service.send(answer_id or self.answer_id, text, agent=agent, more=more)

    async def refusal(self, text: str, **more: Any) -> tuple[int, str]:
        """Return status and code of a text that must not go out; "" where it was sent."""
        response = await self.send(text, **more)
        return response.status_code, "" if response.is_success else response.json()["code"]

    async def found(self, text: str, agent: str = "ann", answer_id: str = "") -> list[str]:
        """Return the ids of what is found in a text."""
        response = await self.send(text, agent, answer_id)
        return [one["id"] for one in response.json().get("findings", ())]

    @property
    def posted(self) -> list[str]:
        return [orjson.loads(one.body)["text"] for one in self.site.system.exchanges if one.method == "POST"]

    async def another(self, agent: str = "ann", **body: Any) -> str:
        return (await self.service.answered(agent=agent, body=body))["answer_id"]


async def takes(exchange: Exchange) -> None:
    await (exchange.respond(202, b"{}") if exchange.method == "POST" else orders(exchange))


@pytest.fixture(params=["seen"])
async def desk(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    more = f'{SOURCES}[review]\nguard = "{request.param}"\n{FLAGS}'
    async with opened(tmp_path, script=takes, replies="/v1/replies", sources=more) as site:
        for tenant in ("clinic", "pharmacy"):
            await site.service.know("wait", STEP, tenant=tenant)
        context = site.context()
        answer = await site.service.answered(agent="ann", body={"context": context})
        await site.service.idle()
        yield Desk(site, answer["answer_id"], context)


def guarded(guard: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("desk", [guard], indirect=True)


CODES: dict[str, Callable[[str, str], str]] = {  # of the end and the MAC of a right one
    "none": lambda until, mac: "",
    "prolonged": lambda until, mac: f"{int(until) + 999_999}.{mac}",
    "with zeros before its end": lambda until, mac: f"0{until}.{mac}",
    "of other digits": lambda until, mac: f"{until.translate({48 + n: 0x660 + n for n in range(10)})}.{mac}",
    "with a sign": lambda until, mac: f"+{until}.{mac}",
    "cut by one": lambda until, mac: f"{until}.{mac[:-1]}",
    "its end alone": lambda until, mac: f"{until}.",
    "in other capitals": lambda until, mac: f"{until}.{mac.swapcase()}",
    "padded": lambda until, mac: f"{until}.{mac}==",
    "with a blank": lambda until, mac: f"{until}.{mac} ",
}


async def test_a_value_with_a_code_that_is_of_something_else_is_no_evidence(desk: Desk) -> None:
    good, other, bobs = desk.mac(), await desk.another(), await desk.another("bob")
    over = desk.mac(ago=COUNTS_FOR + timedelta(seconds=1))
    tried = {name: ("400 mg", change(*good.split("."))) for name, change in CODES.items()} | {
        "of another amount": ("400 mg", desk.mac("40 mg")),
        "of another element": ("400 mg", desk.mac(name="e2")),
        "of another answer": ("400 mg", desk.mac(of=other)),
        "of another agent's answer": ("400 mg", desk.mac(of=bobs, agent="bob")),
        "of this answer for another agent": ("400 mg", desk.mac(agent="bob")),
        "of another tenant": ("400 mg", desk.mac(tenant="pharmacy")),
        "that is over": ("400 mg", over),
        "that is over, prolonged": ("400 mg", CODES["prolonged"](*over.split("."))),
    }
    for value in ("400 mg ", "400\u00a0mg", "400 MG", "\u200b400 mg", "Take 400 mg.", WRONG, "4oo mg"):
        tried[f"of {value!r}"] = value, good
    whole = {"element_id": "e1", "value": "400 mg", "mac": good}
    path, who = f"/v1/answers/{desk.answer_id}/reply/check", desk.service.headers()
    for name, (value, mac) in tried.items():
        forged = [whole | {"value": value, "mac": mac}, whole | {"element_id": "e2"}]
        assert (name, await desk.refusal(WRONG, shown=forged)) == (name, (409, "reply_findings"))
        checked = {"text": WRONG, "by_model": False, "live": forged}
        found = await desk.service.client.post(path, json=checked, headers=who)
        assert (name, [one["values"] for one in found.json()["checks"]]) == (name, [["400 mg"]])
    for agent, answer_id in (("bob", bobs), ("ann", other)):
        assert (await desk.send(WRONG, agent, answer_id, shown=[whole])).status_code == 409
    assert desk.posted == []
    assert (await desk.send(WRONG, shown=[whole])).status_code == 200, "the owner may"


TEXT = "The wait is two days. It is Shipped now. Take 400 mg."
SPANS = "46-53 27-34 28-36 22-40 0-53 28-35,28-35 28-35,30-35 28-35,46-52 46-52,28-35 28-60 28-28 35-28"
"""Places in the text that get one right code: it is of "Shipped", at 28-35."""


async def test_a_span_holds_its_own_value_and_no_other_word(desk: Desk) -> None:
    mac = desk.mac("Shipped")
    tried = [[("e1", *map(int, one.split("-"))) for one in spans.split(",")] for spans in SPANS.split()]
    for spans in (*tried, [("e9", 28, 35)], [("e2", 28, 35)], [("e1", -7, 35)]):
        live = [{"element_id": one, "start": start, "end": end, "mac": mac} for one, start, end in spans]
        assert (spans, (await desk.refusal(TEXT, live=live))[0]) == (spans, 422)
    right = [{"element_id": "e1", "start": 28, "end": 35, "mac": mac}]
    of_utf_16 = [right[0] | {"start": 31, "end": 38}]
    assert (await desk.refusal(f"\U0001f48a {TEXT}", live=of_utf_16))[0] == 422
    refused = await desk.send(TEXT, live=right)
    assert [value for one in refused.json()["findings"] for value in one["values"]] == ["400 mg"]
    assert desk.posted == []
    assert (await desk.send(TEXT.partition(" Take")[0], live=right)).status_code == 200, "the owner may"


async def test_only_the_findings_of_this_text_are_confirmed(desk: Desk) -> None:
    text = "The wait is nine days. Take 400 mg."
    first, second, *_ = ids = await desk.found(text)
    of_another = await desk.found("The wait is nine days. Take 500 mg.")
    more = {"reason": "Seen.", "began_with": "approved", "lines": [0, 1, 199]}
    anything = ["*", "", "0", "1", "all", "true", "null", "not_held"]
    for confirmed in (
        [],
        anything,
        [first],
        [second] * 2,
        of_another,
        [first[:-1], second[:-1]],
        [first[::-1]],
    ):
        assert await desk.refusal(text, confirmed=confirmed, **more) == (409, "reply_findings"), confirmed
    assert desk.posted == []
    assert (await desk.send(text, confirmed=ids)).status_code == 200


UNHELD = {
    "in full width": "The wait is \uff19 days.",
    "in Arabic digits": "The wait is \u0669 days.",
    "with a blank of no width": "The wait is 9\u200b days.",
    "beside the right one": "The wait is two days, or 9 days.",
    "with the emergency's number": f"{RIGHT} Call 911 and take 400 mg.",
    "a dose of the emergency's number": f"{RIGHT} Take 911 mg.",
    "a flag's line without its not": f"{RIGHT} Give her 50 mg of charcoal.",
    "a flag's line without its never": "Leave them alone there. You wait 9 days.",
}


async def test_a_wrong_value_in_other_clothes_is_found(desk: Desk) -> None:
    for name, text in UNHELD.items():
        assert (name, await desk.refusal(text)) == (name, (409, "reply_findings"))
    assert desk.posted == []
    assert (await desk.send(RIGHT)).status_code == 200


@guarded("reason")
async def test_a_reason_of_nothing_is_none(desk: Desk) -> None:
    ids = await desk.found(WRONG)
    for reason in (" ", "\u200b", "\u2060\ufeff", "\t\n", "\u00ad", "\u00a0", "--", "\u200e"):
        got = await desk.refusal(WRONG, confirmed=ids, reason=reason)
        assert (ascii(reason), got) == (ascii(reason), (409, "reply_findings"))
    assert (await desk.send(WRONG, confirmed=ids, reason="The doctor said so.")).status_code == 200


@guarded("second_person")
async def test_what_a_second_person_confirmed_is_one_text_of_one_answer(desk: Desk) -> None:
    service, other = desk.service, await desk.another()
    seen: dict[str, Any] = {"confirmed": await desk.found(WRONG)}

    async def confirm(
        agent: str, contents: str | None = None, *, of: str = "", text: str = WRONG, **who: Any
    ) -> httpx.Response:
        path, body = f"/v1/answers/{of or desk.answer_id}/sent/confirm", {"text": text, "contents": contents}
        return await service.client.post(path, json=body, headers=service.headers(agent, **who))

    assert (await confirm("bob")).status_code == 404, "nobody asked"
    for _ in range(3):
        assert await desk.refusal(WRONG, **seen) == (409, "reply_findings")
    digest = (await confirm("bob")).json()["detail"].partition("contents ")[2][:64]
    everything = ("agent", "reviewer", "auditor", "knowledge_owner", "manager")
    tried = (
        await confirm("ann", digest),
        await confirm("ann", digest, roles=everything, labels=("hr",)),
        await confirm("bob", digest, roles=("reviewer", "auditor", "manager")),
        await confirm("bob", digest, tenant="pharmacy"),
        await confirm("bob", digest, of=other),
        await confirm("bob", digest, text=f"{WRONG} "),
        await confirm("bob", digest[::-1]),
        await confirm("bob"),
    )
    assert [one.status_code for one in tried] == [409, 409, 403, 404, 409, 409, 409, 409]
    assert await desk.refusal(WRONG, **seen) == (409, "reply_findings")
    assert (await confirm("bob", digest)).status_code == 204
    for text in (f"{WRONG} ", WRONG.replace("400", "400\u200b"), f"{WRONG} Take 500 mg.", f"{WRONG[:-3]}g."):
        assert await desk.refusal(text, confirmed=await desk.found(text)) == (409, "reply_findings"), text
    for answer_id, agent in ((other, "ann"), (desk.answer_id, "bob")):
        found = await desk.found(WRONG, agent, answer_id)
        assert not (await desk.send(WRONG, agent, answer_id, confirmed=found)).is_success
    assert await desk.refusal(WRONG) == (409, "reply_findings"), "the findings are confirmed by ann too"
    assert desk.posted == []
    assert (await desk.send(WRONG, **seen)).status_code == 200


@guarded("second_person")
async def test_a_second_person_lacks_no_label_of_the_answer(desk: Desk) -> None:
    answer_id = (await desk.service.answered(agent="ann", labels=("hr", "desk")))["answer_id"]
    await desk.service.idle()
    await desk.send(WRONG, answer_id=answer_id, confirmed=await desk.found(WRONG, answer_id=answer_id))
    path, got = f"/v1/answers/{answer_id}/sent/confirm", list[int]()
    for labels in ((), ("hr",), ("desk", "board"), ("hr", "desk")):
        who = desk.service.headers("bob", labels=labels, roles=("agent", "auditor"))
        got.append((await desk.service.client.post(path, json={"text": WRONG}, headers=who)).status_code)
    assert got == [404, 404, 404, 409], "with all labels: what to look at"


async def test_a_send_id_is_of_one_text_with_one_context(desk: Desk) -> None:
    mac, other = desk.mac("two days"), await desk.another()
    span = {"element_id": "e1", "start": 12, "end": 20, "mac": mac}
    first = await desk.send(RIGHT, live=[span], context=desk.context)
    assert (first.status_code, desk.posted) == (200, [RIGHT])
    own: dict[str, Any] = {"live": [span], "context": desk.context}
    tried = (
        await desk.refusal(f"{RIGHT} Bye.", **own),
        await desk.refusal(WRONG, **own),
        await desk.refusal(RIGHT, context=desk.context),
        await desk.refusal(RIGHT, **own, lines=[1]),
        await desk.refusal(RIGHT, **own, began_with="nothing"),
        await desk.refusal(RIGHT, **own | {"context": desk.site.context()}),
        await desk.refusal(RIGHT, **own, reply_id=other),
        await desk.refusal(RIGHT, answer_id=other),
        await desk.refusal(WRONG, answer_id=other),
    )
    assert [status for status, _ in tried] == [409, 409, 409, 409, 409, 422, 422, 409, 409]
    assert desk.posted == [RIGHT]
    assert (await desk.send(RIGHT, **own)).status_code == 200
    texts = [f"{RIGHT}{more}" for more in ("", " Bye.", " Thanks.", " Regards.")]
    raced = await asyncio.gather(*(desk.send(text, send_id="s2") for text in texts))
    assert sorted(one.status_code for one in raced) == [200, 409, 409, 409]


async def test_a_reply_is_passed_on_with_the_context_of_its_question_alone(desk: Desk) -> None:
    clock, bob = desk.site.clock, await desk.another("bob", context=desk.site.context(agent="bob"))
    body = desk.context.split(".")[1]
    own = orjson.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    contexts = {name: make(clock) for name, make in FORGED.items()}
    contexts |= {
        "of another chat": desk.site.context(),
        "of the same id for another customer": token(own | {"customer": "C-2"}),
        "of the same id for another chat": token(own | {"ids": {"chat": ["another"]}}),
        "of the same id for another agent": token(own | {"agent": "bob"}),
        "of the same id for another tenant": token(own | {"tenant": "pharmacy"}),
        "with a blank": f"{desk.context} ",
        "twice": f"{desk.context}.{desk.context}",
        "without an id": token(context_claims(clock, jti=None)),
    }
    got = {name: (await desk.refusal(RIGHT, context=one))[0] for name, one in contexts.items()}
    assert {name: status for name, status in got.items() if status not in (413, 422)} == {}
    assert (await desk.send(RIGHT, "bob", bob, context=desk.context)).status_code == 422
    used = await desk.service.ask(body={"context": desk.context})
    assert (used.status_code, used.json()["code"]) == (409, "context_used")
    assert desk.posted == []
    assert (await desk.send(RIGHT, context=desk.context)).status_code == 200, "the owner may"


JUDGED = (
    "You wait nine days.",
    "YOU WAIT 9 DAYS.",
    "You wait two days. Take 400 mg.",
    "Dr. Brandt says that you wait two days.",
)


async def test_a_model_that_holds_all_clears_nothing_that_code_found(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene()) as service:
        await service.know("wait", "The wait is two days.")
        service.sagemaker.texts = ("The wait is two days [1.1].",)
        held = [verdicts(*((n, "held", 1, "") for n in range(1, more))) for more in (2, 3)]
        ids = [(await service.answered(agent=one))["answer_id"] for one in ("ann", "ann", "bob")]
        await service.idle()
        for text in JUDGED:
            service.sagemaker.of_check = SageMakerSocket(texts=(held[len(split_sentences(text)) - 1],))
            check = {"text": text, "by_model": True}
            path = f"/v1/answers/{ids[0]}/reply/check"
            read = await service.client.post(path, json=check, headers=service.headers("ann"))
            assert (read.status_code, read.json()["degraded"]) == (200, []), "the model holds all of it"
            for answer_id, agent in zip(ids, ("ann", "ann", "bob"), strict=True):
                refused = await service.send(answer_id, text, agent=agent)
                assert (refused.status_code, refused.json()["code"]) == (409, "reply_findings"), text
        service.sagemaker.of_check = SageMakerSocket(texts=(held[0],))
        assert (await service.send(ids[0], "You wait two days.", agent="ann")).status_code == 200
