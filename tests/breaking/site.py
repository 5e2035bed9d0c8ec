"""A tenant's service and worker as processes on a state folder of their own, killed and started again."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx

from assistant.process.settings import ServiceSettings, WorkerSettings, inherited_environment
from tests.stage.processes import ForkedProcess, start_forked
from tests.stage.running_service import ANYTHING_IS_NEAR, Scene, published_keys, service_settings
from tests.stage.sagemaker_runtime import DIMENSIONS, SageMakerSocket, sagemaker_socket
from tests.stage.tokens import EC_KEY, claims, token

TENANT = "clinic"
LABEL = "hr"
Part = Literal["service", "worker"]
PARTS: tuple[Part, ...] = ("service", "worker")
_START_LIMIT_S = 90.0
"""A busy machine takes long for what takes two seconds alone."""
_TENANT_FILE = f"""
schema_version = 1
name = "{TENANT}"
display_name = "Clinic"
labels = ["{LABEL}"]
[[sources]]
name = "knowledge"
namespace = ""
access = "everyone"
[embedding]
endpoint = "{TENANT}-embedding"
model = "tiny-embedding"
dimensions = {DIMENSIONS}
[generation]
endpoint = "{TENANT}-llm"
model = "tiny-llm"
[gate]
{ANYTHING_IS_NEAR}
[answers.escalation]
default = "Team Lead, ext. 1"
[limits]
streams = 60
streams_per_agent = 20
questions_per_minute = 100000
writes_per_minute = 100000
reads_per_minute = 100000
first_token_timeout_s = 10.0
answer_deadline_s = 8.0
embedding_timeout_s = 5.0
"""


@dataclass
class Site:
    """One tenant's processes. Times are of ``time.monotonic``."""

    folder: Path
    service_settings: ServiceSettings
    worker_settings: WorkerSettings
    url: str
    children: dict[Part, ForkedProcess] = field(default_factory=dict[Part, ForkedProcess])
    logs: list[asyncio.subprocess.Process] = field(default_factory=list[asyncio.subprocess.Process])
    killed_at_s: dict[Part, list[float]] = field(
        default_factory=lambda: {part: list[float]() for part in PARTS}
    )

    @property
    def tenant_folder(self) -> Path:
        return self.folder / "state" / "tenants" / TENANT

    async def begin(self, part: Part) -> None:
        """Start a process and return at once. Another one writes its log, which a full disk would end."""
        settings = self.service_settings if part == "service" else self.worker_settings
        room = "assistant.service" if part == "service" else "assistant.laptop.worker"
        environment = inherited_environment() | settings.environment()
        read, write = os.pipe()
        with (self.folder / f"{part}.log").open("ab") as file, os.fdopen(write, "wb") as log:
            self.logs.append(await asyncio.create_subprocess_exec("cat", stdin=read, stdout=file))
            os.close(read)
            self.children[part] = await start_forked(room, environment=environment, log=log)

    async def ready(self, part: Part) -> None:
        """Wait for a process's ready line."""
        stdout = self.children[part].stdout
        assert stdout is not None
        line = await asyncio.wait_for(stdout.readline(), _START_LIMIT_S)
        assert line, f"the {part} ended while it started: {self.tail(part)}"

    async def kill(self, part: Part) -> None:
        """End a process as ``kill -9`` does, and wait until it is gone."""
        child = self.children.pop(part)
        assert child.returncode is None, f"the {part} ended by itself: {self.tail(part)}"
        child.kill()
        self.killed_at_s[part].append(time.monotonic())
        await child.communicate()

    async def end(self) -> None:
        for part in list(self.children):
            child = self.children.pop(part)
            if child.returncode is None:
                child.kill()
            await child.communicate()
        for log in self.logs:  # each ends with its process
            await asyncio.wait_for(log.wait(), _START_LIMIT_S)

    def tail(self, part: Part) -> str:
        return (self.folder / f"{part}.log").read_text()[-2000:]

    def client(self) -> httpx.AsyncClient:
        """Return a client whose connections nobody else uses up."""
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=30.0, limits=limits, trust_env=False)


def headers(
    agent: str, *, roles: tuple[str, ...] = ("agent",), labels: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return a caller's token of ten minutes."""
    payload = claims(datetime.now(UTC), sub=agent, tenant=TENANT, roles=list(roles), labels=list(labels))
    return {"authorization": f"Bearer {token(payload)}"}


@asynccontextmanager
async def running_site(folder: Path) -> AsyncGenerator[tuple[Site, SageMakerSocket]]:
    """Start both processes, with endpoints and an issuer's keys on sockets of this process."""
    with _held_port() as port:
        async with sagemaker_socket() as sagemaker, published_keys([EC_KEY]) as jwks_url:
            scene = Scene(tenants=(TENANT,))
            made = service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
            (made.tenants_dir / f"{TENANT}.toml").write_text(_TENANT_FILE)
            site = Site(
                folder=folder,
                service_settings=made.model_copy(update={"port": port}),
                worker_settings=WorkerSettings(
                    tenants_dir=made.tenants_dir,
                    state_dir=made.state_dir,
                    model_artifacts_dir=made.model_artifacts_dir,
                    sagemaker_endpoint_url=sagemaker.url,
                ),
                url=f"http://127.0.0.1:{port}",
            )
            try:
                for part in PARTS:
                    await site.begin(part)
                for part in PARTS:
                    await site.ready(part)
                yield site, sagemaker
            finally:
                await site.end()


@contextmanager
def _held_port() -> Generator[int]:
    """Keep a port for a service that is started again and again.

    A socket that is bound and does not listen keeps the kernel from giving the port to anyone who asks for
    any free one; the service, which binds with SO_REUSEADDR as this does, can still listen on it.
    """
    with socket.socket() as holding:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.bind(("127.0.0.1", 0))
        yield holding.getsockname()[1]
