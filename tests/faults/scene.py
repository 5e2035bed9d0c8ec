"""The service as a process of its own on AWS adapters, with a proxy that can fail before each dependency."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from assistant.process.settings import ServiceSettings, inherited_environment
from tests.fakes.aws_tenants import AwsTenants, aws_tenants
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind, faulty_proxy
from tests.fakes.forked import ForkedProcess, start_forked
from tests.fakes.running_service import Scene as ServiceScene
from tests.fakes.running_service import published_keys, service_settings
from tests.fakes.sagemaker_socket import SageMakerSocket, sagemaker_socket
from tests.fakes.tokens import EC_KEY
from tests.faults.dependencies import DEPENDENCIES, Dependency

TENANT = "clinic"
DOCUMENT = "The wait is two days. Ask the desk on the third day."
WRITTEN = "Wait two days. Ask the desk on the third day."
"""What the model writes: both sentences are supported, so none of them is quoted."""
PARTS = ("Wait two ", "days. A", "sk the desk ", "on the third day.")
"""The same as the model sends it: the first sentence is released after two."""
KEY_SET = orjson.dumps({"keys": [EC_KEY.as_dict(private=False)]}).decode()
_START_LIMIT_S = 90.0
_AWS = ("dynamodb", "s3", "sqs", "ssm", "kms")


@dataclass
class ServiceProcess:
    child: asyncio.subprocess.Process | ForkedProcess
    url: str
    client: httpx.AsyncClient
    operations: httpx.AsyncClient
    log_path: Path

    def logged(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the lines of its log from a position on."""
        lines = self.log_path.read_bytes()[after:].split(b"\n")
        return [orjson.loads(line) for line in lines[:-1] if line.startswith(b"{")]

    def log_size(self) -> int:
        return self.log_path.stat().st_size

    async def figures(self) -> dict[str, float]:
        text = (await self.operations.get("/metrics")).text
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        self.child.kill()


@dataclass
class FaultScene:
    """Everything around the service. The faults of an address are those of all its dependencies together."""

    folder: Path
    aws: AwsTenants
    sagemaker: SageMakerSocket
    proxies: dict[str, FaultyProxy] = field(default_factory=dict[str, FaultyProxy])
    _faults: dict[str, Fault] = field(default_factory=dict[str, Fault])
    _started: int = 0

    async def break_(self, dependency: Dependency, kind: Kind, **how: Any) -> None:
        self._faults[dependency.name] = dependency.fault(kind, **how)
        await self._apply(dependency.address)

    async def heal(self, *dependencies: Dependency) -> None:
        """End these faults; all of them when none is named."""
        for dependency in dependencies or DEPENDENCIES:
            if self._faults.pop(dependency.name, None) is not None:
                await self._apply(dependency.address)

    async def _apply(self, address: str) -> None:
        of_address = [each.name for each in DEPENDENCIES if each.address == address]
        await self.proxies[address].break_by(
            *(self._faults[name] for name in of_address if name in self._faults)
        )

    def settings(self, *, quoted: bool = False) -> ServiceSettings:
        """Return the settings of a service whose every dependency is behind its proxy. Its model writes the
        answers, unless they are to be ``quoted``."""
        self._started += 1
        basic = service_settings(
            self.folder / f"service-{self._started}",
            ServiceScene(tenants=(TENANT,), first_token_timeout_s=3.0, answer_deadline_s=15.0),
            sagemaker_url=self.proxies["sagemaker"].url,
            jwks_url=f"{self.proxies['jwks'].url}/jwks.json",
        )
        file = basic.tenants_dir / f"{TENANT}.toml"
        file.write_text(
            file.read_text().replace("embedding_timeout_s = 4.0", _LIMITS)
            + f'[answers]\nmode = "{"quoted" if quoted else "auto"}"\n'
            + f'[secrets]\ndocument_links = "kms:{self.aws.parameter("document-links", TENANT)}"\n'
        )
        # No address of an emulator: each client finds its own in the environment, as it finds AWS's.
        return self.aws.settings(basic).model_copy(
            update={
                "port": 0,
                "operations_port": 0,
                "aws_endpoint_url": None,
                "opensearch_url": self.proxies["opensearch"].url,
            }
        )

    def environment(self) -> dict[str, str]:
        addresses = {f"AWS_ENDPOINT_URL_{name.upper()}": self.proxies[name].url for name in _AWS}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        return addresses | keys | {"AWS_EC2_METADATA_DISABLED": "true"}

    async def started(
        self,
        settings: ServiceSettings,
        *,
        more: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> tuple[asyncio.subprocess.Process | ForkedProcess, Path]:
        """Start a process; its log goes to the returned file."""
        log_path = self.folder / f"{settings.tenants_dir.parent.name}.log"
        environment = inherited_environment() | self.environment() | settings.environment() | dict(more or {})
        with log_path.open("wb") as log:
            if not prefix and "PYTHONPATH" not in (more or {}):
                return await start_forked("assistant.service", environment=environment, log=log), log_path
            child = await asyncio.create_subprocess_exec(
                *prefix,
                sys.executable,
                "-m",
                "assistant.service",
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        return child, log_path

    @asynccontextmanager
    async def service(
        self,
        settings: ServiceSettings | None = None,
        *,
        more: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> AsyncGenerator[ServiceProcess]:
        """Run a service until the context is left."""
        child, log_path = await self.started(settings or self.settings(), more=more, prefix=prefix)
        assert child.stdout is not None
        try:
            line = await asyncio.wait_for(child.stdout.readline(), _START_LIMIT_S)
            assert line, log_path.read_text()
            ready = orjson.loads(line)
            url = f"http://{ready['host']}:{ready['port']}"
            operations_url = f"http://{ready['operations_host']}:{ready['operations_port']}"
            async with (
                httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client,
                httpx.AsyncClient(base_url=operations_url, timeout=30, trust_env=False) as operations,
            ):
                yield ServiceProcess(child, url, client, operations, log_path)
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()

    async def refused_start(self, settings: ServiceSettings, *, more: Mapping[str, str]) -> tuple[int, str]:
        """Start a process that is to end by itself; return its status and what it said last."""
        child, log_path = await self.started(settings, more=more)
        try:
            await asyncio.wait_for(child.communicate(), _START_LIMIT_S)
        finally:
            if child.returncode is None:
                child.kill()
                await child.communicate()
        return child.returncode or 0, log_path.read_text().strip().splitlines()[-1]

    async def has_begun(self, answer_id: str) -> bool:
        """Return whether the store has what was known of an answer when it began."""
        key = {"pk": {"S": f"answer#{answer_id}"}, "sk": {"S": "interrupted"}}
        table = self.aws.named("records", TENANT)
        found = await self.aws.clients["dynamodb"].get_item(TableName=table, Key=key, ConsistentRead=True)
        return "Item" in found

    async def records(self) -> list[dict[str, Any]]:
        """Return every record of an answer that the store has, past all proxies; without one, what counts in
        its place when the deadline is over."""
        table = self.aws.named("records", TENANT)
        found: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = await self.aws.clients["dynamodb"].scan(TableName=table, ConsistentRead=True, **start)
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        recorded = {item["pk"]["S"] for item in found if item["sk"]["S"] == "answer"}
        answers = [
            item
            for item in found
            if item["sk"]["S"] == "answer"
            or (
                item["sk"]["S"] == "interrupted"
                and item["pk"]["S"] not in recorded
                and float(item["until"]["N"]) <= time.time()
            )
        ]
        return [orjson.loads(item["body"]["S"]) | {"kind": item["sk"]["S"]} for item in answers]


_LIMITS = "embedding_timeout_s = 3.0\nsearch_timeout_s = 4.0"
"""Short, for a stalled dependency is waited for so long; not too short for what works on a busy machine."""


@asynccontextmanager
async def fault_scene(folder: Path, *, aws_url: str, opensearch_url: str) -> AsyncGenerator[FaultScene]:
    async with AsyncExitStack() as stack:
        aws = await stack.enter_async_context(
            aws_tenants(aws_url=aws_url, opensearch_url=opensearch_url, names=(TENANT,))
        )
        await aws.know("wait", DOCUMENT, tenant=TENANT)
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        sagemaker.texts = PARTS
        jwks_url = await stack.enter_async_context(published_keys([EC_KEY]))
        upstreams = dict.fromkeys(_AWS, aws_url)
        upstreams |= {
            "sagemaker": sagemaker.url,
            "opensearch": opensearch_url,
            "jwks": jwks_url,
        }
        scene = FaultScene(folder, aws, sagemaker)
        for name, url in upstreams.items():
            scene.proxies[name] = await stack.enter_async_context(faulty_proxy(url))
        yield scene
