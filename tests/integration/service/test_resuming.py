"""Readers who are cut off and come back: on the same task, on another one, after its death; repeats under a
key; cancelling from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import httpx
import pytest

from assistant.service.running import POLL_S
from tests.stage.running_service import (
    TWO_SENTENCES,
    RunningService,
    Scene,
    events_of,
    service_on,
)

WINDOW = {"resume_window_s": 15}
STREAM = "text/event-stream"
WRITTEN = "".join(TWO_SENTENCES)
LEFT_WITHIN_S = 20.0
"""Before the deadline of 30 s, which would end the generation too."""


@pytest.fixture
def service(service: RunningService) -> RunningService:
    """Its model writes two sentences, so that a reader can be cut off between them."""
    service.sagemaker.texts = TWO_SENTENCES
    return service


@pytest.fixture
async def other(service: RunningService) -> AsyncIterator[RunningService]:
    """A second task of the service on the same stores."""
    assert service.settings is not None
    async with service_on(service.settings, Scene(), service.sagemaker) as made:
        yield made


@asynccontextmanager
async def asking(
    service: RunningService, *, key: str | None = None, resume_window_s: int = 0
) -> AsyncGenerator[httpx.Response]:
    """Ask for a stream; leaving the context cuts the connection."""
    headers = service.headers(accept=STREAM) | ({"idempotency-key": key} if key else {})
    question = {"question": "How long is the wait?", "resume_window_s": resume_window_s}
    async with service.client.stream("POST", "/v1/answers", json=question, headers=headers) as response:
        yield response


async def read_until(
    response: httpx.Response | AsyncIterator[str], name: str, *, count: int = 1
) -> list[tuple[str, Any]]:
    """Read until so many events of a name have come."""
    text, parts = "", response.aiter_text() if isinstance(response, httpx.Response) else response
    async with asyncio.timeout(60):
        async for part in parts:
            text += part
            whole = text[: text.rfind("\n\n") + 2]
            if sum(found == name for found, _ in events_of(whole)) >= count:
                break
    return events_of(text[: text.rfind("\n\n") + 2])


async def cut_in_mid_answer(
    service: RunningService, *, window_s: int = 15
) -> tuple[str, list[tuple[str, Any]]]:
    """Ask, read some text, and cut."""
    async with asking(service, resume_window_s=window_s) as response:
        seen = await read_until(response, "token")
    return seen[0][1]["answer_id"], seen


async def come_back(
    service: RunningService, answer_id: str, *, after: int | None = None, **who: Any
) -> httpx.Response:
    headers = service.headers(**who)
    if after is not None:
        headers["last-event-id"] = f"{answer_id}:{after}"
    return await service.client.get(f"/v1/answers/{answer_id}/events", headers=headers)


def text_of(events: Sequence[tuple[str, Any]]) -> str:
    return "".join(data["text"] for name, data in events if name == "token")


async def test_on_another_task_a_reader_waits_and_gets_the_whole_answer_from_its_record(
    service: RunningService, other: RunningService
) -> None:
    go_on = service.sagemaker.hold_after(2)
    async with asking(service, resume_window_s=15) as response:
        parts = response.aiter_text()
        seen = await read_until(parts, "token")
        answer_id = seen[0][1]["answer_id"]
        coming = asyncio.create_task(come_back(other, answer_id, after=len(seen)))
        done, _ = await asyncio.wait({coming}, timeout=2 * POLL_S)
        assert not done
        go_on.set()
        whole = seen + await read_until(parts, "done")
    again = await coming
    assert "\nid:" not in again.text
    events = events_of(again.text)
    assert [name for name, _ in events] == ["started", "sources", "token", "sentence", "sentence", "done"]
    assert text_of(events) == text_of(whole)
    started, sources, *_ = events
    assert started[1] == whole[0][1]
    assert [source["document_id"] for source in sources[1]["sources"]] == ["wait"]
    sentences = [data for name, data in events if name == "sentence"]
    assert sentences == [data for name, data in whole if name == "sentence"]
    done_again, done_first = events[-1][1], whole[-1][1]
    assert done_again | {"timings_ms": {}} == done_first | {"timings_ms": {}}
    assert (await other.client.get(sources[1]["sources"][0]["document_url"])).status_code == 200


async def test_an_answer_goes_on_for_its_window_and_then_ends(
    service: RunningService, other: RunningService
) -> None:
    service.sagemaker.stall_after = 2
    answer_id, _ = await cut_in_mid_answer(service, window_s=3)
    call = await service.sagemaker.generation()
    assert not call.left.is_set()
    await asyncio.wait_for(call.left.wait(), LEFT_WITHIN_S)
    events = events_of((await come_back(other, answer_id)).text)
    assert (events[-1][0], events[-1][1]["code"], events[-1][1]["retryable"]) == (
        "error",
        "interrupted",
        True,
    )
    record = await service.tenants["clinic"].answering.records.get_answer(answer_id)
    assert record is not None
    assert record.outcome.value == "disconnected"


async def test_a_reader_who_is_back_keeps_the_answer_alive_beyond_the_window(service: RunningService) -> None:
    go_on = service.sagemaker.hold_after(2)
    answer_id, seen = await cut_in_mid_answer(service, window_s=2)
    coming = asyncio.create_task(come_back(service, answer_id))
    call = await service.sagemaker.generation()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.left.wait(), 4)
    go_on.set()
    events = events_of((await coming).text)
    assert events[-1][0] == "done"
    assert events[: len(seen)] == seen


OTHERS: list[dict[str, Any]] = [
    {"agent": "bob"},
    {"tenant": "pharmacy"},
    {"roles": ("agent", "auditor"), "agent": "eve"},
]


@pytest.mark.parametrize("running", [True, False])
async def test_nobody_else_comes_back_to_an_answer(
    service: RunningService, other: RunningService, running: bool
) -> None:
    go_on = service.sagemaker.hold_after(2)
    answer_id, _ = await cut_in_mid_answer(service)
    if not running:
        go_on.set()
        await service.idle()
    own = asyncio.create_task(come_back(other, answer_id))  # the owner can, meanwhile
    for task, who in product((service, other), OTHERS):
        never = await come_back(task, "never", **who)
        refused = await come_back(task, answer_id, after=1, **who)
        assert (refused.status_code, refused.content) == (404, never.content)
    go_on.set()
    assert text_of(events_of((await own).text)).strip() == WRITTEN


async def test_an_event_id_that_is_not_of_this_answer_is_refused(service: RunningService) -> None:
    answer_id = (await service.answered(body=WINDOW))["answer_id"]
    for event_id in ("x:1", "{id}", "{id}:", "{id}:-1", "{id}:1a", "{id}:9999999999"):
        headers = service.headers() | {"last-event-id": event_id.format(id=answer_id)}
        response = await service.client.get(f"/v1/answers/{answer_id}/events", headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), event_id


@pytest.mark.parametrize("where", ["same", "other"])
async def test_a_reader_who_is_back_is_told_so_before_anything_else_comes(
    service: RunningService, other: RunningService, where: str
) -> None:
    go_on = service.sagemaker.hold_after(2)
    answer_id, seen = await cut_in_mid_answer(service)
    task = service if where == "same" else other
    headers = task.headers() | {"last-event-id": f"{answer_id}:{len(seen)}"}
    async with task.client.stream("GET", f"/v1/answers/{answer_id}/events", headers=headers) as response:
        async with asyncio.timeout(8):  # the next one comes after 10 s
            assert await anext(response.aiter_text()) == ": alive\n\n"
    go_on.set()


# --- the same request again ---


@pytest.mark.parametrize(("where", "accept"), [("same", STREAM), ("other", "application/json")])
async def test_a_repeat_under_a_key_joins_the_first_answer(
    service: RunningService, other: RunningService, where: str, accept: str
) -> None:
    go_on = service.sagemaker.hold_after(2)
    async with asking(service, key="k-1") as response:
        seen = await read_until(response, "token")
        task = service if where == "same" else other
        headers = task.headers(accept=accept) | {"idempotency-key": "k-1"}
        question = {"question": "How long is the wait?", "resume_window_s": 0}
        repeat = asyncio.create_task(task.client.post("/v1/answers", json=question, headers=headers))
        go_on.set()
        repeated = await repeat
    assert repeated.status_code == 200, repeated.text
    answer_id = seen[0][1]["answer_id"]
    if accept == STREAM:
        events = events_of(repeated.text)
        assert events[0][1]["answer_id"] == answer_id
        assert (text_of(events).strip(), events[-1][0]) == (WRITTEN, "done")
    else:
        assert repeated.json()["answer_id"] == answer_id
        assert repeated.json()["text"].strip() == WRITTEN
    assert len(service.sagemaker.generations) == 1
