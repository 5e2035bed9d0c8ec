"""What agents and knowledge owners ask of the service, and what they see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.fakes.running_service import events_of, eventually
from tests.fakes.tokens import claims, token
from tests.faults.scene import TENANT, ServiceProcess

QUESTION = "How long is the wait?"
_READ_LIMIT_S = 60.0


@dataclass
class Answered:
    """A response, and the events that came in it."""

    status: int
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    text: str = ""

    @property
    def answer_id(self) -> str:
        return str(self.events[0][1]["answer_id"])

    @property
    def written(self) -> str:
        return "".join(data["text"] for name, data in self.events if name == "token").strip()

    def told(self) -> str:
        """Return in a few words what a client acts on."""
        if not self.events:
            return _problem(str(self.status), self.body) if "code" in self.body else str(self.status)
        name, data = self.events[-1]
        if name == "error":
            return _problem("`error`", data)
        if name != "done":
            return f"cut off after `{name}`"
        reason = f", reason `{data['reason']}`" if data["reason"] else ""
        quoted = f", `{data['mode']}`, `fallback` `{data['fallback']}`" if data["fallback"] else ""
        recorded = "" if data["recorded"] else ", `recorded` false"
        return f"`done` `{data['finish_reason']}`{reason}{quoted}{recorded}"


def _problem(what: str, body: dict[str, Any]) -> str:
    return f"{what} `{body['code']}`, {'retryable' if body['retryable'] else 'not retryable'}"


def headers(
    agent: str = "ann",
    *,
    roles: Sequence[str] = ("agent", "knowledge_owner"),
    key: str | None = None,
    **more: Any,
) -> dict[str, str]:
    """``more`` are claims of the token that differ."""
    payload = claims(datetime.now(UTC), sub=agent, tenant=TENANT, roles=list(roles), **more)
    made = {"authorization": f"Bearer {token(payload)}", "accept": "text/event-stream"}
    return made | ({"idempotency-key": key} if key else {})


async def asked(service: ServiceProcess, *, key: str | None = None, who: Any = None, **body: Any) -> Answered:
    """Ask, and read to the end."""
    async with asking(service, key=key, who=who, **body) as stream:
        return await stream.rest()


@dataclass
class Stream:
    response: httpx.Response
    answered: Answered
    _parts: Any = None

    async def until(self, name: str, *, count: int = 1) -> Answered:
        """Read until so many events of a name have come."""
        async with asyncio.timeout(_READ_LIMIT_S):
            while sum(found == name for found, _ in self.answered.events) < count:
                part = await anext(self._parts, None)
                assert part is not None, f"the stream ended: {self.answered.told()}"
                self._take(part)
        return self.answered

    async def rest(self) -> Answered:
        if self.answered.status != 200:
            await self.response.aread()
            self.answered.body = self.response.json()
            return self.answered
        async with asyncio.timeout(_READ_LIMIT_S):
            async for part in self._parts:
                self._take(part)
        return self.answered

    def _take(self, part: str) -> None:
        self.answered.text += part
        whole = self.answered.text[: self.answered.text.rfind("\n\n") + 2]
        self.answered.events = events_of(whole)


@asynccontextmanager
async def asking(
    service: ServiceProcess, *, key: str | None = None, who: Any = None, **body: Any
) -> AsyncGenerator[Stream]:
    """Ask for a stream; leaving the context cuts the connection."""
    question = {"question": QUESTION} | body
    async with service.client.stream(
        "POST", "/v1/answers", json=question, headers=who or headers(key=key)
    ) as response:
        yield Stream(response, Answered(response.status_code), response.aiter_text())


async def came_back(service: ServiceProcess, answer_id: str, *, after: int = 0, who: Any = None) -> Answered:
    """Read the answer's events after a sequence, to the end."""
    made = (who or headers()) | ({"last-event-id": f"{answer_id}:{after}"} if after else {})
    async with service.client.stream("GET", f"/v1/answers/{answer_id}/events", headers=made) as response:
        stream = Stream(response, Answered(response.status_code), response.aiter_text())
        return await stream.rest()


async def called(service: ServiceProcess, method: str, path: str, **arguments: Any) -> Answered:
    """Make any other call."""
    response = await service.client.request(method, path, headers=headers(), **arguments)
    return Answered(response.status_code, response.json() if response.content else {})


async def warmed_up(service: ServiceProcess) -> None:
    """The first search of a node, and the first call of each client, may take longer than their limits."""
    for _ in range(20):
        if (await asked(service, resume_window_s=1)).status == 200:
            return
    raise AssertionError("the service never answered")


async def idle(service: ServiceProcess) -> None:
    """Wait until no answer is being written."""

    async def nothing_active() -> bool:
        return not any(
            value
            for name, value in (await service.figures()).items()
            if name.startswith("assistant_active_streams")
        )

    await eventually(nothing_active, within_s=_READ_LIMIT_S)
