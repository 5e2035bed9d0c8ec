"""A tenant's service of one release beside that of another, on one state, behind one address.

As on AWS, where a deployment starts the new tasks, waits until they are ready, sends new connections to them
only, and then ends the old ones. Agents ask all the time; each question has a key, with which it is repeated.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson

from tests.fakes.running_service import events_of, eventually
from tests.fakes.socket_server import pass_on

HOST = "127.0.0.1"
_LIMIT_S = 120.0


@dataclass(frozen=True)
class ServiceProcess:
    """One release's service."""

    process: asyncio.subprocess.Process
    port: int

    @classmethod
    async def begin(cls, python: Path, source: Path, environment: Mapping[str, str]) -> ServiceProcess:
        """Start it, and return when it passes the check of load balancers."""
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-P", "-m", "assistant.api"),
            cwd=source,
            env={**environment, "PYTHONPATH": str(source)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _LIMIT_S)
        assert line, "the service ended while it started"
        service = cls(process, int(orjson.loads(line)["port"]))
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{service.port}") as client:
            (await client.get("/healthz")).raise_for_status()
        return service

    async def end(self) -> None:
        """Ask it to end, as ECS does, and wait until it has."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.communicate(), _LIMIT_S)


@dataclass
class Balancer:
    """Passes each new connection to the service of the moment. Open connections stay where they are."""

    to_port: int
    passed: Counter[int] = field(default_factory=Counter[int])

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a connection of ``socket_server``."""
        port = self.to_port
        await pass_on(reader, writer, host=HOST, port=port)
        self.passed[port] += 1


@dataclass
class Agents:
    """Ask until they are stopped."""

    url: str
    tokens: Sequence[str]
    """Of each agent. They take turns, for each has a rate."""
    questions: Sequence[str]
    asked: int = 0
    answered: list[str] = field(default_factory=list[str])
    """Ids of whole answers."""
    retried: int = 0
    failed: list[str] = field(default_factory=list[str])
    """Responses to second tries that were no whole answer."""
    conversations: dict[str, str] = field(default_factory=dict[str, str])
    """Each agent's, by token: an answer of either release is read for the next question."""

    @asynccontextmanager
    async def at_work(self, *, at_once: int) -> AsyncGenerator[None]:
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(self._ask(stopping))
            try:
                yield
            finally:
                stopping.set()

    async def more(self, count: int) -> None:
        """Wait until so many more questions were asked and answered."""
        until = self._ended + count
        await eventually(lambda: self._ended >= until, within_s=_LIMIT_S)

    @property
    def _ended(self) -> int:
        return len(self.answered) + len(self.failed)

    async def _ask(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self.asked += 1
            number = self.asked
            if (told := await self._try(number)) is not None:
                self.retried += 1
                if (told := await self._try(number)) is not None:
                    self.failed.append(told)

    async def _try(self, number: int) -> str | None:
        """Return the response where it is no whole answer. Each try has a connection of its own."""
        question = self.questions[number % len(self.questions)]
        token = self.tokens[number % len(self.tokens)]
        who = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=_LIMIT_S) as client:
                response = await client.post(
                    "/v1/answers",
                    json={"question": question, "conversation_id": self.conversations.get(token)},
                    headers=who | {"idempotency-key": f"question-{number}"},
                )
        except httpx.TransportError as error:
            return repr(error)
        if response.status_code != 200:
            return response.text
        events = dict(events_of(response.text))
        if "done" not in events:
            return str(events.get("error", "a stream without an end"))
        self.answered.append(str(events["started"]["answer_id"]))
        self.conversations[token] = str(events["started"]["conversation_id"])
        return None
