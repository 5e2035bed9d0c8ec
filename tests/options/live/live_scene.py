"""An order system on a real socket, and a tenant's connector to it: its page's example."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from tests.stage.contexts import CARE, claims
from tests.stage.running_service import (
    RunningService,
    Scene,
    published_keys,
    service_on,
    service_settings,
)
from tests.stage.sagemaker_runtime import SageMakerSocket, sagemaker_socket
from tests.stage.servers import Exchange, Script, ScriptedServer, scripted_http
from tests.stage.tokens import EC_KEY, RSA_KEY, token

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


TENANT, CONNECTOR, _ = of_page()
SOURCES = '\n[[sources]]\nname = "knowledge"\nnamespace = ""\naccess = "everyone"\nelements = true\n\n'
BEARER = "t" * 40
OTHER_ORDER, OTHER_CUSTOMER = "5000-0001", "C-2"


async def orders(exchange: Exchange) -> None:
    """Answer with the order of the path, to a caller that has the token."""
    number = exchange.target.split("/")[3].partition("?")[0]
    customers = {ORDER: CUSTOMER, OTHER_ORDER: OTHER_CUSTOMER}
    body = order(id=number, customer={"id": customers[number]})
    if exchange.headers.get("authorization") != f"Bearer {BEARER}":
        await exchange.respond(401, b"")
    else:
        await exchange.respond(200, orjson.dumps(body), Content_Type="application/json")


@dataclass
class Site:
    service: RunningService
    system: ScriptedServer
    sagemaker: SageMakerSocket
    clock: SystemClock = field(default_factory=SystemClock)

    def context(self, **changes: Any) -> str:
        """Return a context that the care application signed, by default of ann's customer."""
        own = {"customer": CUSTOMER, "ids": {"order": [ORDER]}}
        return token(claims(self.clock, **(own | changes)))


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    script: Script = orders,
    connectors: dict[str, str] | None = None,
    address: str | None = None,
    scene: Scene | None = None,
    sources: str = SOURCES,
    replies: str | None = None,
) -> AsyncGenerator[Site]:
    """Open the service and its systems.

    ``connectors``: texts of connector files by system; ``orders`` is the page's own unless it is given.
    ``address``: of the systems, in place of the script's server. ``replies``: path to which ``orders`` takes
    replies.
    """
    files = {"orders": CONNECTOR} | (connectors or {})
    tenant = TENANT.replace("https://care.pharmacy.example.com", CARE)
    entry = tenant[tenant.index("[[reach]]") :]
    others = "".join(entry.replace('"orders"', f'"{name}"').replace("connectors/orders", f"connectors/{name}")
                     for name in files if name != "orders")  # fmt: skip
    scene = scene or Scene(tenants=("clinic", "pharmacy"), writes=False)
    taker = "" if replies is None else f'replies = "{replies}"\n'
    scene = replace(scene, more_of_tenants=sources + tenant + taker + others)
    async with AsyncExitStack() as stack:
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        keys = await stack.enter_async_context(published_keys([EC_KEY]))
        care = await stack.enter_async_context(published_keys([EC_KEY, RSA_KEY]))
        system = await stack.enter_async_context(scripted_http(script))
        settings = service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=keys)
        for name, text in files.items():
            write_connector(folder / "tenants" / "connectors", text, name=name)
            for owner in scene.tenants:
                secret = folder / "state" / "secrets" / owner / f"reach-{name}"
                secret.parent.mkdir(parents=True, exist_ok=True)
                secret.write_text(BEARER)
        addresses = dict.fromkeys(files, address or system.url)
        settings = settings.model_copy(update={"reach_addresses": addresses, "care_jwks_url": care})
        service = await stack.enter_async_context(service_on(settings, scene, sagemaker))
        yield Site(service, system, sagemaker)
