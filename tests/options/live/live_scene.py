"""An order system on a real socket, and a tenant's connector to it: its page's example."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import orjson

from assistant.domain.audit import LiveRead, LiveReadPage, LiveReadQuery
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import RecordsUnavailableError
from assistant.domain.identity import CareContext, Identity, Role
from assistant.domain.live import Caller, Filled, LiveReadError
from assistant.options.live.connected import ConnectedElements
from assistant.options.live.connector import Connector, load_connector
from assistant.options.live.section import AskedSystem
from assistant.options.live.stored import StoredLiveReads
from assistant.options.live.systems import HttpSystems, SystemAccess
from tests.fakes.scripted_http import Exchange, Script, ScriptedServer, scripted_http

PAGE = Path(__file__).parents[3] / "assistant/options/live/live.md"
ORDER, CUSTOMER, AGENT = "4471-2208", "C-1044", "ann"
QUESTION = "Where is her order?"


def order(**changes: Any) -> dict[str, Any]:
    """Return the system's good response; a change to None leaves the key out."""
    good: dict[str, Any] = {
        "id": ORDER,
        "customer": {"id": CUSTOMER},
        "status": "shipped",
        "refill": {"next_fill_date": "2026-11-24", "copay": 12.5},
        "items": [{"name": "Lisinopril 10 mg", "count": 30}, {"name": "Metformin 500 mg", "count": 60}],
        "tracking": {"url": "https://track.example.com/parcels/1Z999"},
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


async def answers_well(exchange: Exchange) -> None:
    await exchange.respond(200, orjson.dumps(order()), Content_Type="application/json")


@cache
def of_page() -> tuple[str, str, str]:
    """Return the page's part of a tenant file, its connector and the OpenAPI file of that."""
    page = PAGE.read_text(encoding="utf-8")
    tenant, file = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (openapi,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    return tenant, file, openapi


def write_connector(
    folder: Path, text: str | None = None, openapi: str | None = None, *, name: str = "orders"
) -> Path:
    """Write a connector with its OpenAPI file, by default the page's, and return its path."""
    _, file, document = of_page()
    folder.mkdir(exist_ok=True)
    (folder / "orders.openapi.json").write_text(openapi or document, encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(text or file, encoding="utf-8")
    return path


@cache
def connector(**changed: str) -> Connector:
    """Return the page's connector, with texts of both files replaced: ``old=new`` as pairs of values."""
    _, text, document = of_page()
    for pair in changed.values():
        old, new = pair.split(" -> ")
        assert old in text + document
        text, document = text.replace(old, new), document.replace(old, new)
    with TemporaryDirectory() as folder:
        return load_connector(write_connector(Path(folder), text, document))


@dataclass
class KeptReads(StoredLiveReads):
    """The record of live reads in memory."""

    reads: list[LiveRead] = field(default_factory=list[LiveRead])
    is_down: bool = False

    async def record(self, read: LiveRead) -> None:
        if self.is_down:
            raise RecordsUnavailableError("down")
        self.reads.append(read)

    async def list(self, query: LiveReadQuery) -> LiveReadPage:
        found = [read for read in self.reads if query.since <= read.at < query.until and query.wants(read)]
        return LiveReadPage(tuple(found[: query.limit]), None)


@dataclass
class Switches:
    """``SystemSwitches`` that a test turns."""

    off: set[str] = field(default_factory=set[str])

    async def is_on(self, system: str) -> bool:
        return system not in self.off


def context(customer: str = CUSTOMER, *, agent: str = AGENT, **ids: tuple[str, ...]) -> CareContext:
    known = {"order": (ORDER,)} | ids
    return CareContext(
        agent, customer, {**known, "customer": (customer,)}, datetime.now(UTC) + timedelta(minutes=5)
    )


def identity(agent: str = AGENT, *roles: Role, labels: Sequence[str] = ()) -> Identity:
    return Identity("pharmacy", agent, frozenset(roles or (Role.AGENT,)), frozenset(labels))


@dataclass
class LiveScene:
    """The tenant's elements over one system."""

    elements: ConnectedElements
    server: ScriptedServer
    reads: KeptReads
    switches: Switches
    clock: SystemClock = field(default_factory=SystemClock)

    async def fill(
        self,
        name: str = "orders.status",
        *,
        question: str = QUESTION,
        of: CareContext | None = None,
        by: Identity | None = None,
        answer_id: str | None = None,
        request_id: str | None = None,
        without_context: bool = False,
        within_s: float = 5.0,
    ) -> Filled:
        caller = Caller(by or identity(), None if without_context else of or context(), question, answer_id)
        if answer_id is not None:  # of one answer, as all its elements are
            caller = replace(caller, request_id=request_id or answer_id)
        return await self.elements.fill(name, caller, deadline=Deadline.after(within_s, clock=self.clock))

    async def refused(self, name: str = "orders.status", **how: Any) -> LiveReadError:
        """Return the error of a fill that must fail."""
        try:
            filled = await self.fill(name, **how)
        except LiveReadError as error:
            return error
        raise AssertionError(f"shown: {filled}")

    @property
    def outcomes(self) -> list[str]:
        return [read.outcome for read in self.reads.reads]


@asynccontextmanager
async def live_scene(
    script: Script = answers_well,
    *,
    file: Connector | None = None,
    whose: Literal["context", "agent"] = "context",
    deadline_s: float = 2.0,
    url: str | None = None,
    **access: Any,
) -> AsyncGenerator[LiveScene]:
    """Serve the script as the system ``orders``; ``url`` in its place, ``access`` for how it is called."""
    clock = SystemClock()
    async with scripted_http(script) as server:
        system = AskedSystem("orders", file or connector(), whose, deadline_s)
        calls = HttpSystems({"orders": SystemAccess("orders", url or server.url, **access)}, clock=clock)
        reads, switches = KeptReads(), Switches()
        elements = ConnectedElements(
            [system],
            calls=calls,
            switches=switches,
            reads=reads,
            pseudonym=lambda customer: f"p-{len(customer)}",
            clock=clock,
        )
        try:
            yield LiveScene(elements, server, reads, switches)
        finally:
            await elements.close()
            await calls.close()
