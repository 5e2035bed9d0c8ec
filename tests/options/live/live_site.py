"""A whole service over HTTP whose tenants have an order system on a socket: its page's example."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from assistant.domain.clock import SystemClock
from tests.fakes.contexts import CARE, claims
from tests.fakes.running_service import (
    RunningService,
    Scene,
    published_keys,
    service_on,
    service_settings,
)
from tests.fakes.sagemaker_socket import SageMakerSocket, sagemaker_socket
from tests.fakes.scripted_http import Exchange, Script, ScriptedServer, scripted_http
from tests.fakes.tokens import EC_KEY, RSA_KEY, token
from tests.options.live.live_scene import CUSTOMER, ORDER, of_page, order, write_connector

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
