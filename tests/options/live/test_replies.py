"""A reply that an agent sends, over HTTP to a care application on a socket: delivered once, or told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from assistant.domain.clock import SystemClock
from assistant.domain.errors import ReplyNotDeliveredError
from assistant.domain.live import Reply
from assistant.options.live.replies import PostedReplies
from assistant.options.live.systems import HttpSystems, SystemAccess
from assistant.tenant.deployment import ReachEntry
from tests.options.live.live_scene import BEARER, Site, Switches, opened, orders
from tests.stage.servers import Exchange, Script, scripted_http

PATH = "/v1/replies"
TEXT = "The wait is two days."


def of_statuses(*statuses: int) -> Script:
    """Return a care application that answers POSTs with these statuses in turn, the last one from then on."""
    left = list(statuses)

    async def script(exchange: Exchange) -> None:
        if exchange.method != "POST":
            await orders(exchange)
            return
        status = left.pop(0) if len(left) > 1 else left[0]
        await exchange.respond(status, b"{}", Content_Type="application/json")

    return script


async def answered(site: Site, **body: Any) -> str:
    await site.service.know("wait", TEXT)
    return (await site.service.answered(agent="ann", body=body))["answer_id"]


async def send(site: Site, answer_id: str, *, agent: str = "ann", **more: Any) -> httpx.Response:
    sent = {"send_id": "s1", "text": TEXT} | more
    path = f"/v1/answers/{answer_id}/sent"
    return await site.service.client.post(path, json=sent, headers=site.service.headers(agent=agent))


def posted(site: Site) -> Sequence[Exchange]:
    return [exchange for exchange in site.system.exchanges if exchange.method == "POST"]


async def kept(site: Site, answer_id: str) -> list[str]:
    headers = site.service.headers(agent="ann")
    read = await site.service.client.get(f"/v1/answers/{answer_id}", headers=headers)
    return [one["sent"]["text"] for one in read.json()["sent"]]


async def test_a_sent_reply_is_recorded_and_posted_with_its_context(tmp_path: Path) -> None:
    async with opened(tmp_path, script=of_statuses(202), replies=PATH) as site:
        context = site.context()
        answer_id = await answered(site, context=context)
        response = await send(site, answer_id, context=context)
        assert response.status_code == 200
        [exchange] = posted(site)
        assert exchange.target == PATH
        assert exchange.headers["authorization"] == f"Bearer {BEARER}"
        assert (exchange.headers["idempotency-key"], exchange.headers["content-type"]) == (
            "s1",
            "application/json",
        )
        body = orjson.loads(exchange.body)
        assert {name: body[name] for name in ("send_id", "answer_id", "agent", "text", "context")} == {
            "send_id": "s1",
            "answer_id": answer_id,
            "agent": "ann",
            "text": TEXT,
            "context": context,
        }
        assert body["at"] == response.json()["at"]
        assert await kept(site, answer_id) == [TEXT]
        assert context not in response.text


async def test_one_failure_of_the_care_application_is_tried_again_under_the_same_key(tmp_path: Path) -> None:
    async with opened(tmp_path, script=of_statuses(503, 200), replies=PATH) as site:
        assert (await send(site, await answered(site))).status_code == 200
        assert [exchange.headers["idempotency-key"] for exchange in posted(site)] == ["s1", "s1"]


@pytest.mark.parametrize("status", [302, 401, 422, 500])
async def test_what_is_not_taken_is_told_and_kept_and_may_be_sent_again(tmp_path: Path, status: int) -> None:
    async with opened(tmp_path, script=of_statuses(status, status, 200), replies=PATH) as site:
        answer_id = await answered(site)
        refused = await send(site, answer_id)
        while len(posted(site)) < 2:
            refused = await send(site, answer_id)
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (503, "reply_not_delivered")
        assert (problem["retryable"], "is recorded" in problem["detail"]) == (False, True)
        assert await kept(site, answer_id) == [TEXT]
        assert (await send(site, answer_id)).status_code == 200
        assert await kept(site, answer_id) == [TEXT]


async def test_a_care_application_that_does_not_answer_is_told_in_time(tmp_path: Path) -> None:
    async def silent(exchange: Exchange) -> None:
        if exchange.method != "POST":
            await orders(exchange)

    async with opened(tmp_path, script=silent, replies=PATH) as site:
        refused = await send(site, await answered(site))
        assert (refused.status_code, refused.json()["code"]) == (503, "reply_not_delivered")
        assert "did not answer in time" in refused.json()["detail"]


async def test_a_system_that_is_switched_off_gets_no_reply() -> None:
    reply = Reply(
        send_id="s1",
        answer_id="a1",
        conversation_id="c1",
        agent="ann",
        at=datetime.now(UTC),
        text=TEXT,
        context=None,
    )
    clock, switches = SystemClock(), Switches()
    async with scripted_http(of_statuses(200)) as system:
        calls = HttpSystems({"care": SystemAccess("care", system.url)}, clock=clock)
        replies = PostedReplies(ReachEntry(name="care", port=443), PATH, calls, switches, clock)
        await replies.deliver(reply)
        switches.off.add("care")
        with pytest.raises(ReplyNotDeliveredError, match="switched off"):
            await replies.deliver(reply)
        await calls.close()
        assert len(system.exchanges) == 1


async def test_another_agent_s_answer_is_neither_recorded_nor_posted(tmp_path: Path) -> None:
    async with opened(tmp_path, script=of_statuses(200), replies=PATH) as site:
        answer_id = await answered(site)
        assert (await send(site, answer_id)).status_code == 200
        assert (await send(site, answer_id, agent="bob", send_id="s2")).status_code == 404
        assert len(posted(site)) == 1


async def test_without_a_taker_it_is_recorded_and_the_console_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "none", script=of_statuses(200)) as site:
        answer_id = await answered(site)
        assert (await send(site, answer_id)).status_code == 200
        assert await kept(site, answer_id) == [TEXT]
        assert posted(site) == []
        assert (await site.service.client.get("/config.json")).json()["delivers"] == []
    async with opened(tmp_path / "one", script=of_statuses(200), replies=PATH) as site:
        assert (await site.service.client.get("/config.json")).json()["delivers"] == ["clinic", "pharmacy"]
