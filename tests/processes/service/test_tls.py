"""HTTPS on the task's own port, as a load balancer speaks it: encrypted, and verifying no certificate."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from assistant.process.http import self_signed_context
from assistant.process.settings import ServiceSettings
from assistant.service import alive
from tests.stage.processes import RunningProcess, process
from tests.stage.running_service import (
    NO_TENANTS,
    RunningService,
    Scene,
    published_keys,
    served,
    service_settings,
)
from tests.stage.sagemaker_runtime import SageMakerSocket, sagemaker_socket
from tests.stage.tokens import EC_KEY

STAMPS = {"release": "1.2.3", "model_stamp": "m-1", "schema_stamp": "s-1"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


def balanced(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, verify=balancer(), trust_env=False, timeout=20)


def balancer() -> ssl.SSLContext:
    """A client that encrypts and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


for_module = pytest_asyncio.fixture(scope="module", loop_scope="module")


@for_module
async def endpoints() -> AsyncIterator[SageMakerSocket]:
    async with sagemaker_socket() as made:
        yield made


@for_module
async def settings(
    tmp_path_factory: pytest.TempPathFactory, endpoints: SageMakerSocket
) -> AsyncIterator[ServiceSettings]:
    folder = tmp_path_factory.mktemp("tls")
    async with published_keys([EC_KEY]) as jwks_url:
        made = service_settings(folder, Scene(), sagemaker_url=endpoints.url, jwks_url=jwks_url)
        deployed = {"tls": "self-signed", "metrics_service": "assistant-clinic", "metrics_interval_s": 1}
        yield made.model_copy(
            update={"port": 0, "operations_port": 0, "drain_timeout_s": 5.0} | deployed | STAMPS
        )


@for_module
async def running(settings: ServiceSettings) -> AsyncIterator[RunningProcess]:
    async with process("service", settings.environment()) as started:
        yield started


@for_module
async def service(
    running: RunningProcess, endpoints: SageMakerSocket, settings: ServiceSettings
) -> AsyncIterator[RunningService]:
    """The process over TLS, with one document."""
    async with balanced(running.url) as client:
        made = RunningService(running.url, endpoints, NO_TENANTS, settings.state_dir, client)
        await made.know("wait", "The wait is two days.")
        yield made


async def test_plain_http_is_not_understood(running: RunningProcess) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(running.url.replace("https", "http") + "/healthz")


async def test_readiness_shows_what_was_deployed(service: RunningService, running: RunningProcess) -> None:
    response = await service.client.get(f"{running.operations_url}/readyz")
    assert response.json()["deployed"] == STAMPS


async def test_the_container_s_health_check_finds_it_alive(running: RunningProcess) -> None:
    environment = {alive.PORT_VARIABLE: str(running.ready["port"]), alive.TLS_VARIABLE: "self-signed"}
    check = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "assistant.service.alive"), env=dict(os.environ) | environment
    )
    assert await asyncio.wait_for(check.wait(), 60) == 0


async def test_a_new_task_has_a_key_of_its_own() -> None:
    first, second = [await certificate_of(self_signed_context()) for _ in range(2)]
    assert first != second


async def certificate_of(context: ssl.SSLContext) -> bytes:
    async with served(_nothing, tls=context) as url:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", int(url.rpartition(":")[2]), ssl=balancer(), server_hostname="task"
        )
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return found


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    pass
