"""The helpdesk of the demo on a laptop: pages of the sample order system, whose agent is always the same.

``option.py`` joins ``open_helpdesk`` (called by ``assistant.laptop.site`` when it starts) and ``show_pages``
(called by ``assistant demo`` when all is ready).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI
from rich.text import Text

from assistant.domain.clock import SystemClock
from assistant.laptop.layout import ORDER_SYSTEM, Addresses, Layout
from assistant.laptop.tokens import CareCase, Grant, issue_context, issue_token
from assistant.options.helpdesk.app import DeskConfig, Helpdesk, ids_of
from assistant.options.helpdesk.chats import Chat, StoredChats
from assistant.options.helpdesk.patients import SimulatedPatients, shipped_stories
from assistant.options.live.contexts import CareContexts
from assistant.options.live.section import taker_of
from assistant.service.identity import CachedKeySet
from assistant.stores.clients import HttpKeySource
from assistant.stores.sqlite_table import SqliteTable
from assistant.tenant.deployment import CareContextSection
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.local import LocalRuntime
from assistant.terminal.terminal import Terminal

AGENT = "dana"


@dataclass(frozen=True, slots=True)
class LaptopCareSide:
    """``CareSide`` by the keys of the state folder: the laptop's own issuer signs tokens and contexts."""

    tenant: str
    care: CareContextSection
    issuer: str
    state_dir: Path

    def token(self) -> str:
        return issue_token(Grant(self.tenant, AGENT), state_dir=self.state_dir, issuer=self.issuer)

    def context(self, chat: Chat) -> str:
        case = CareCase(chat.customer, ids_of(chat))
        return issue_context(
            case,
            Grant(self.tenant, AGENT),
            state_dir=self.state_dir,
            issuer=self.care.issuer,
            audience=self.care.audience,
        )


def helpdesk_tenant(layout: Layout) -> TenantConfig | None:
    """Return the tenant whose conversations the helpdesk holds: the one that the settings name, or the first
    of those whose replies the order system takes."""
    takers = {
        name: layout.tenants[name]
        for name, entry in layout.sample_systems.get(ORDER_SYSTEM, ())
        if (taker := taker_of(layout.tenants[name])) is not None and taker[0].name == entry.name
    }
    return takers.get(layout.settings.helpdesk) or next(iter(takers.values()), None)


@asynccontextmanager
async def open_helpdesk(
    layout: Layout, addresses: Addresses, systems: Mapping[str, FastAPI]
) -> AsyncGenerator[None]:
    """Add the helpdesk to the order system (an application of ``systems``) for ``helpdesk_tenant``; it does
    nothing where there is none."""
    tenant = helpdesk_tenant(layout)
    if tenant is None or tenant.care_context is None or ORDER_SYSTEM not in systems:
        yield
        return
    origin = addresses.systems[ORDER_SYSTEM]
    side = LaptopCareSide(tenant.name, tenant.care_context, addresses.issuer, layout.state_dir.resolve())
    table = SqliteTable(
        layout.state_dir.resolve() / "tenants" / tenant.name / "helpdesk.sqlite", synced=False
    )
    async with AsyncExitStack() as stack, httpx.AsyncClient(trust_env=False) as http:
        stack.push_async_callback(table.close)
        chats = StoredChats(table, clock=SystemClock())
        patients = SimulatedPatients(chats, shipped_stories())
        keys = CachedKeySet(HttpKeySource(f"{addresses.issuer}/care/jwks.json"), clock=chats.clock)
        contexts = CareContexts({tenant.name: tenant.care_context}, {tenant.name: keys}, chats.clock)
        config = DeskConfig(service=addresses.service, tenant=tenant.display_name)
        desk = Helpdesk(chats, patients, side, config, contexts, origin, http)
        desk.add_to(systems[ORDER_SYSTEM])
        async with desk.running():
            yield


def show_pages(runtime: LocalRuntime, terminal: Terminal) -> None:
    """Print the addresses of the helpdesk's pages; nothing without a running order system."""
    if (url := runtime.address.systems.get(ORDER_SYSTEM)) is not None:
        for name, path in (("Agents' desk", "/"), ("A patient", "/patient")):
            terminal.out.print(Text(f"{name}  ", style="bold").append(f"{url}{path}", style="underline cyan"))
