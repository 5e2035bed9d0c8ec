"""A client of the SageMaker Runtime whose endpoint is a scripted socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.models.sagemaker import SageMakerRuntime
from tests.fakes.scripted_http import Script, ScriptedServer, scripted_http

Runtime = Callable[[Script], AbstractAsyncContextManager[tuple[SageMakerRuntime, ScriptedServer]]]


@pytest.fixture
def runtime() -> Runtime:
    @asynccontextmanager
    async def opened(script: Script) -> AsyncGenerator[tuple[SageMakerRuntime, ScriptedServer]]:
        async with (
            scripted_http(script) as server,
            SageMakerRuntime.open(
                region="us-east-1", endpoint_url=server.url, access_key_id="AKIDLOCAL", secret_access_key="x"
            ) as client,
        ):
            yield client, server

    return opened


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(20.0, clock=SystemClock())
