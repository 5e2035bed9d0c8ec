"""How the load generator reads and judges what a service sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tools.load.generator import Answer, Generator, judged, parse_events
from tools.load.workload import LoadPlan, expected_text

NUMBER, TOKENS = 7, 20
TEXT = expected_text(NUMBER, tokens=TOKENS)
PLAN = LoadPlan(urls=[], bearers=["token"], first_question=NUMBER, streams=1, tokens=TOKENS, timeout_s=5.0)


def event(place: int, name: str, **data: object) -> bytes:
    return b"id: a1:%d\nevent: %s\ndata: %s\n\n" % (place, name.encode(), orjson.dumps(data))


def stream(text: str = TEXT) -> list[bytes]:
    """Return the events of an answer: it begins, its text in two parts, it ends."""
    half = len(text) // 2
    return [
        event(1, "started", answer_id="a1"),
        event(2, "token", text=text[:half]),
        event(3, "token", text=text[half:]),
        event(4, "done", finish_reason="stop"),
    ]


def answer(*bodies: bytes, whole: bool = True) -> Answer:
    return Answer(NUMBER, bodies=list(map(bytearray, bodies)), whole=whole, asked_s=1.0, first_text_s=1.2)


def fault(*bodies: bytes, whole: bool = True) -> str:
    return answer(*bodies, whole=whole).fault(tokens=TOKENS)


def test_a_whole_answer_is_right():
    assert fault(b"".join(stream())) == ""


def test_a_resumed_answer_is_right_when_its_events_go_on():
    events = stream()
    assert fault(b"".join(events[:2]) + events[2][:9], b"".join(events[2:])) == ""


@pytest.mark.parametrize(
    "order", [(0, 1, 3), (0, 1, 1, 2, 3), (0, 2, 1, 3)], ids=["missing", "twice", "out of order"]
)
def test_events_must_follow_each_other(order: tuple[int, ...]):
    events = stream()
    assert fault(b"".join(events[place] for place in order)) == "events are missing, twice or out of order"


def test_another_text_is_wrong():
    assert fault(b"".join(stream(TEXT.replace(".", "!")))) == "another text"


def test_an_answer_without_its_end_broke_off():
    assert fault(b"".join(stream()[:3]), whole=False) == "broke off"
    assert fault(b"".join(stream()[:3])) == "ended with token"


def test_an_error_is_named_by_its_code():
    assert fault(stream()[0] + event(2, "error", code="interrupted")) == "ended with interrupted"


def test_a_comment_is_no_event():
    assert parse_events(b": alive\n\n" + stream()[0]) == parse_events(stream()[0])


@given(st.integers(0, 600))
def test_a_cut_event_is_no_event(length: int):
    body = b"".join(stream())
    events = parse_events(body[:length])
    assert events == parse_events(body)[: len(events)]
    assert len(events) == body[:length].count(b"\n\n")


def test_an_outcome_counts_right_answers_and_names_the_others():
    wrong = answer(stream()[0])
    first = replace(answer(b"".join(stream())), counts=False)
    outcome = judged([answer(b"".join(stream())), wrong, first], plan=PLAN, wall_s=2.0, cpu_s=0.5)
    assert (outcome.answers, outcome.errors) == (2, {"ended with started": 1})
    assert outcome.first_text_ms == [pytest.approx(200.0)]


class Service:
    """Sends the events of one answer, one every few milliseconds, and keeps them for who comes back."""

    def __init__(self, *, status: int = 200) -> None:
        self.status = status
        self.asked: list[str] = []
        self.resumed_after: list[str] = []

    async def ask(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers["authorization"])
        if self.status != 200:
            return web.json_response({"code": "busy"}, status=self.status, dumps=_compact)
        return await self._send(request, after=0)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        self.resumed_after.append(request.headers["last-event-id"])
        return await self._send(request, after=int(self.resumed_after[-1].rpartition(":")[2]))

    async def _send(self, request: web.Request, *, after: int) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in stream()[after:]:
            await response.write(part)
            await asyncio.sleep(0.05)
        return response


def _compact(data: object) -> str:
    return orjson.dumps(data).decode()


@asynccontextmanager
async def generator(service: Service, plan: LoadPlan) -> AsyncIterator[Generator]:
    app = web.Application()
    app.router.add_post("/v1/answers", service.ask)
    app.router.add_get("/v1/answers/a1/events", service.resume)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Generator(replace(plan, urls=[site.name]), session)
    finally:
        await runner.cleanup()


@pytest.mark.loopback
async def test_each_stream_asks_its_questions_one_after_the_other():
    service = Service()
    async with generator(service, replace(PLAN, answers=2)) as load:
        first, second = await load.run()
    assert (first.number, second.number, first.counts, second.counts) == (7, 8, False, True)
    assert service.asked == ["Bearer token"] * 2
    assert first.fault(tokens=TOKENS) == ""
    assert second.fault(tokens=TOKENS) == "another text"
    assert first.asked_s < (first.first_text_s or 0) < second.asked_s


@pytest.mark.loopback
async def test_a_refusal_is_named_by_status_and_code():
    async with generator(Service(status=429), PLAN) as load:
        (refused,) = await load.run()
    assert refused.fault(tokens=TOKENS) == "status 429 busy"


@pytest.mark.loopback
async def test_a_cut_answer_is_resumed_after_its_last_whole_event(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tools.load.generator._FIRST_CUT_S", (0.06, 0.14))  # the answer takes 0.2 s
    service = Service()
    async with generator(service, replace(PLAN, cut=True)) as load:
        (cut,) = await load.run()
    assert cut.fault(tokens=TOKENS) == ""
    assert len(cut.bodies) == 1 + len(service.resumed_after)
    assert service.resumed_after
    assert service.resumed_after[0] in {"a1:1", "a1:2", "a1:3"}
