"""``python -m assistant.options.helpdesk``: the agents' desk and the sample order system of a closed VPC."""

from __future__ import annotations

import ssl
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
from fastapi import FastAPI

from assistant.domain.clock import SystemClock
from assistant.options.helpdesk.app import Agent, DeskConfig, Helpdesk, ids_of
from assistant.options.helpdesk.chats import Chat, StoredChats
from assistant.options.helpdesk.patients import SimulatedPatients, shipped_stories
from assistant.options.helpdesk.settings import CONTEXT_KEY_ID, HelpdeskSettings
from assistant.options.live.contexts import CareContexts
from assistant.process.aws import AwsService, ParameterKeySource, open_client, signed_token
from assistant.process.http import open_socket, run, serve, server_context
from assistant.process.telemetry import configure_logging
from assistant.service.identity import CachedKeySet, TokenVerifier
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.tenant.deployment import CareContextSection

_CONTEXT_LIFETIME_S = 300
"""The desk's page fetches a new context whenever it needs one."""
_STOP_S = 5.0
"""Time for open requests after SIGTERM."""
_SERVICES: tuple[AwsService, ...] = ("dynamodb", "kms", "ssm")


@dataclass(frozen=True, slots=True)
class AwsCareSide:
    """``CareSide`` by the issuer's keys and a key of KMS."""

    settings: HelpdeskSettings
    verifier: TokenVerifier
    kms: Any
    """aiobotocore's client."""

    async def agent(self, authorization: str | None) -> Agent:
        """Return the agent of a request, with the token of its ``Authorization`` header: the desk sends it
        on to the assistant. Raises as ``TokenVerifier.identify``."""
        identity = await self.verifier.identify(authorization)
        return Agent(identity.agent, (authorization or "").partition(" ")[2].strip())

    async def context(self, chat: Chat, agent: str) -> str:
        """Return a signed care context: that this agent may read live data of the chat's customer."""
        settings, now = self.settings, int(time.time())
        claims: Mapping[str, Any] = {
            "iss": settings.care_issuer,
            "aud": settings.care_audience,
            "iat": now,
            "exp": now + _CONTEXT_LIFETIME_S,
            "tenant": settings.tenant,
            "agent": agent,
            "customer": chat.customer,
            "ids": ids_of(chat),
            "jti": uuid4().hex,
        }
        return await signed_token(self.kms, key_id=settings.signing_key_id, kid=CONTEXT_KEY_ID, claims=claims)


async def serve_helpdesk(settings: HelpdeskSettings) -> None:
    """Serve both until SIGTERM. Raises ConfigurationError where issuer or TLS are missing."""
    settings.require_whole()
    tls = server_context(f"{settings.tls_certificate}\n{settings.tls_key}\n".encode())
    clock, service = SystemClock(), str(settings.service_url).rstrip("/")
    origin = str(settings.page_url).rstrip("/")
    async with AsyncExitStack() as stack:
        endpoint_url = None if settings.aws_endpoint_url is None else str(settings.aws_endpoint_url)
        dynamodb, kms, ssm = [
            await stack.enter_async_context(
                open_client(name, region=settings.region, endpoint_url=endpoint_url)
            )
            for name in _SERVICES
        ]
        trusted = ssl.create_default_context(cadata=settings.certificate_authority)
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, verify=trusted))
        verifier = TokenVerifier(
            keys=CachedKeySet(ParameterKeySource(ssm, name=settings.jwks_parameter), clock=clock),
            issuer=settings.issuer,
            audience=settings.audience,
            tenants=(settings.tenant,),
            clock=clock,
        )
        chats = StoredChats(DynamoDbTable(dynamodb, name=settings.table), clock=clock)
        patients = SimulatedPatients(chats, shipped_stories())
        config = DeskConfig(service=service, **settings.model_dump(include={"tenant", "issuer", "client_id"}))
        section = CareContextSection(issuer=settings.care_issuer, audience=settings.care_audience)
        care_keys = CachedKeySet(ParameterKeySource(ssm, name=settings.care_jwks_parameter), clock=clock)
        contexts = CareContexts({settings.tenant: section}, {settings.tenant: care_keys}, clock)
        side = AwsCareSide(settings, verifier, kms)
        desk = Helpdesk(chats, patients, side, config, contexts, origin, http)
        app = _order_system(stack.enter_context(_token_file(settings.system_token)))
        desk.add_to(app)  # one listener and one certificate for both
        await stack.enter_async_context(desk.running())
        listener = open_socket(settings.host, settings.port)
        await serve(app, listener, shutdown_timeout_s=_STOP_S, tls=tls)


@contextmanager
def _token_file(token: str) -> Generator[Path]:
    """Yield a file with the token that the assistant calls the order system with, as that system takes it."""
    with tempfile.NamedTemporaryFile("w", suffix=".token") as file:
        file.write(token)
        file.flush()
        yield Path(file.name)


def _order_system(token_file: Path) -> FastAPI:
    """Return the sample order system. Nothing of the product may import samples, but here one is served."""
    samples = import_module("tools.systems")
    return cast("FastAPI", samples.SYSTEMS["orders"]((token_file,)))


if __name__ == "__main__":
    configure_logging()
    run(serve_helpdesk(HelpdeskSettings.read()))
