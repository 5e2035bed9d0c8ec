"""The service as a process of its own on AWS adapters, with a proxy that can fail before each dependency."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from assistant.process.settings import ServiceSettings, inherited_environment
from tests.faults.table import DEPENDENCIES, LLM, TOLD, Dependency, noted
from tests.stage.aws_tenants import AwsTenants, aws_tenants
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind, faulty_proxy
from tests.stage.processes import ForkedProcess, start_forked
from tests.stage.running_service import Scene as ServiceScene
from tests.stage.running_service import events_of, eventually, published_keys, service_settings
from tests.stage.sagemaker_runtime import SageMakerSocket, sagemaker_socket
from tests.stage.tokens import EC_KEY, claims, token

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


QUESTION = "How long is the wait?"
_READ_LIMIT_S = 60.0


@dataclass
class Answered:
    """A response, and the events that came in it."""

    status: int
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    text: str = ""

    @property
    def answer_id(self) -> str:
        return str(self.events[0][1]["answer_id"])

    @property
    def written(self) -> str:
        return "".join(data["text"] for name, data in self.events if name == "token").strip()

    def told(self) -> str:
        """Return in a few words what a client acts on."""
        if not self.events:
            return _problem(str(self.status), self.body) if "code" in self.body else str(self.status)
        name, data = self.events[-1]
        if name == "error":
            return _problem("`error`", data)
        if name != "done":
            return f"cut off after `{name}`"
        reason = f", reason `{data['reason']}`" if data["reason"] else ""
        quoted = f", `{data['mode']}`, `fallback` `{data['fallback']}`" if data["fallback"] else ""
        recorded = "" if data["recorded"] else ", `recorded` false"
        return f"`done` `{data['finish_reason']}`{reason}{quoted}{recorded}"


def _problem(what: str, body: dict[str, Any]) -> str:
    return f"{what} `{body['code']}`, {'retryable' if body['retryable'] else 'not retryable'}"


def headers(
    agent: str = "ann",
    *,
    roles: Sequence[str] = ("agent", "knowledge_owner"),
    key: str | None = None,
    **more: Any,
) -> dict[str, str]:
    """``more`` are claims of the token that differ."""
    payload = claims(datetime.now(UTC), sub=agent, tenant=TENANT, roles=list(roles), **more)
    made = {"authorization": f"Bearer {token(payload)}", "accept": "text/event-stream"}
    return made | ({"idempotency-key": key} if key else {})


async def asked(service: ServiceProcess, *, key: str | None = None, who: Any = None, **body: Any) -> Answered:
    """Ask, and read to the end."""
    async with asking(service, key=key, who=who, **body) as stream:
        return await stream.rest()


@dataclass
class Stream:
    response: httpx.Response
    answered: Answered
    _parts: Any = None

    async def until(self, name: str, *, count: int = 1) -> Answered:
        """Read until so many events of a name have come."""
        async with asyncio.timeout(_READ_LIMIT_S):
            while sum(found == name for found, _ in self.answered.events) < count:
                part = await anext(self._parts, None)
                assert part is not None, f"the stream ended: {self.answered.told()}"
                self._take(part)
        return self.answered

    async def rest(self) -> Answered:
        if self.answered.status != 200:
            await self.response.aread()
            self.answered.body = self.response.json()
            return self.answered
        async with asyncio.timeout(_READ_LIMIT_S):
            async for part in self._parts:
                self._take(part)
        return self.answered

    def _take(self, part: str) -> None:
        self.answered.text += part
        whole = self.answered.text[: self.answered.text.rfind("\n\n") + 2]
        self.answered.events = events_of(whole)


@asynccontextmanager
async def asking(
    service: ServiceProcess, *, key: str | None = None, who: Any = None, **body: Any
) -> AsyncGenerator[Stream]:
    """Ask for a stream; leaving the context cuts the connection."""
    question = {"question": QUESTION} | body
    async with service.client.stream(
        "POST", "/v1/answers", json=question, headers=who or headers(key=key)
    ) as response:
        yield Stream(response, Answered(response.status_code), response.aiter_text())


async def came_back(service: ServiceProcess, answer_id: str, *, after: int = 0, who: Any = None) -> Answered:
    """Read the answer's events after a sequence, to the end."""
    made = (who or headers()) | ({"last-event-id": f"{answer_id}:{after}"} if after else {})
    async with service.client.stream("GET", f"/v1/answers/{answer_id}/events", headers=made) as response:
        stream = Stream(response, Answered(response.status_code), response.aiter_text())
        return await stream.rest()


async def called(service: ServiceProcess, method: str, path: str, **arguments: Any) -> Answered:
    """Make any other call."""
    response = await service.client.request(method, path, headers=headers(), **arguments)
    return Answered(response.status_code, response.json() if response.content else {})


async def warmed_up(service: ServiceProcess) -> None:
    """The first search of a node, and the first call of each client, may take longer than their limits."""
    for _ in range(20):
        if (await asked(service, resume_window_s=1)).status == 200:
            return
    raise AssertionError("the service never answered")


async def idle(service: ServiceProcess) -> None:
    """Wait until no answer is being written."""

    async def nothing_active() -> bool:
        return not any(
            value
            for name, value in (await service.figures()).items()
            if name.startswith("assistant_active_streams")
        )

    await eventually(nothing_active, within_s=_READ_LIMIT_S)


_FOLLOWS_WITHIN_S = 60.0
"""A record is tried again after 0.5, 1, 2, … s."""


@dataclass
class Watch:
    """Counts from the moment it is made."""

    scene: FaultScene
    service: ServiceProcess
    _log_from: int
    _figures: dict[str, float]
    _records: frozenset[str]
    _calls: int

    @classmethod
    async def begun(cls, scene: FaultScene, service: ServiceProcess) -> Watch:
        records = frozenset(record["answer_id"] for record in await scene.records())
        calls = calls_of(scene, LLM)
        return cls(scene, service, service.log_size(), await service.figures(), records, calls)

    @property
    def calls_of_the_model(self) -> int:
        """Requests to the LLM endpoint, answered or not: a second try would be one too."""
        return calls_of(self.scene, LLM) - self._calls

    async def new_records(self) -> list[dict[str, Any]]:
        return [record for record in await self.scene.records() if record["answer_id"] not in self._records]

    async def recorded(self, answer: Answered | None = None) -> str:
        """Say what the store has of the answer, or that it has nothing new at all."""
        found = await self.new_records()
        if answer is None or not answer.events:
            assert found == [], "something was recorded of an answer that never began"
            return "nothing"
        mine = [record for record in found if record["answer_id"] == answer.answer_id]
        if not mine:
            return "not yet"
        assert len(mine) == 1, f"recorded {len(mine)} times"
        return _described(mine[0])

    async def follows(self, answer: Answered) -> str:
        """Wait until the record of an answer is there, and say what it is."""
        await eventually(lambda: self._is_recorded(answer.answer_id), within_s=_FOLLOWS_WITHIN_S)
        return await self.recorded(answer)

    async def logged(self, event: str) -> str:
        """Wait until the service has logged this, and return how the table names it."""
        await eventually(lambda: event in self.events_logged(), within_s=_FOLLOWS_WITHIN_S)
        return f"`{event}`"

    def events_logged(self) -> set[str]:
        return {str(line.get("event")) for line in self.service.logged(self._log_from)}

    async def counted(self, name: str) -> str:
        """Wait until this figure has grown, and return how the table names it."""

        async def has_grown() -> bool:
            return (await self.service.figures()).get(name, 0.0) > self._figures.get(name, 0.0)

        await eventually(has_grown, within_s=_FOLLOWS_WITHIN_S)
        return f"`{name}`"

    async def _is_recorded(self, answer_id: str) -> bool:
        return any(record["answer_id"] == answer_id for record in await self.scene.records())


def calls_of(scene: FaultScene, dependency: Dependency) -> int:
    """Return how many requests came for a dependency that has a mark."""
    requests = scene.proxies[dependency.address].requests
    return sum(dependency.is_of(request) for request in requests)


def refused(code: str) -> str:
    """Return the figure of questions that were answered with a status."""
    return f'assistant_answers_refused_total{{code="{code}"}}'


def ended(finish_reason: str) -> str:
    """Return the figure of answers that ended so."""
    return f'assistant_answers_total{{finish_reason="{finish_reason}",tenant="clinic"}}'


def fell_back(code: str) -> str:
    """Return the figure of answers whose written text a quote replaced."""
    return f'assistant_answer_fallbacks_total{{fallback="{code}",tenant="clinic"}}'


def _described(record: dict[str, Any]) -> str:
    if record["kind"] == "interrupted" and record["outcome"] != "done":
        assert record["passages"]
        return "`interrupted`, with its sources, without text"
    ending = record["finish_reason"] or record["error_code"]
    fallback = f", `fallback` `{record['fallback']}`" if record["fallback"] else ""
    return f"`{record['outcome']}` `{ending}`{fallback}"


@asynccontextmanager
async def watched(
    scene: FaultScene, service: ServiceProcess, *, who: Callable[[], dict[str, str]] = headers
) -> AsyncGenerator[Watch]:
    """Watch one fault. In the end everything is up again; the next question must be answered and recorded,
    and no record may be there twice."""
    yield await Watch.begun(scene, service)
    await scene.heal()
    scene.sagemaker.hold = None
    await idle(service)
    after = await Watch.begun(scene, service)
    answer = await asked(service, who=who())
    assert (answer.status, answer.told(), answer.written) == (200, "`done` `stop`", WRITTEN), answer.body
    assert await after.recorded(answer) == "`done` `stop`"
    assert after.calls_of_the_model == 1
    ids = [(record["answer_id"], record["kind"]) for record in await scene.records()]
    assert len(ids) == len(set(ids))


# --- fixtures ---------------------------------------------------------------------------------------------
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all: proxies and service are shared, for a start takes seconds."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(autouse=True)
def _noted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Report what the test told of."""
    noted.clear()
    yield
    for cell in noted:
        record_property(TOLD, (cell.dependency, cell.fault))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scene(
    aws_server_url: str, opensearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FaultScene]:
    folder = tmp_path_factory.mktemp("faults")
    async with fault_scene(folder, aws_url=aws_server_url, opensearch_url=opensearch_url) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_service(scene: FaultScene) -> AsyncIterator[ServiceProcess]:
    """One process for every fault that can be switched while it runs."""
    async with scene.service() as made:
        await warmed_up(made)
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def other(scene: FaultScene) -> AsyncIterator[ServiceProcess]:
    """A second task on the same stores."""
    async with scene.service() as made:
        await warmed_up(made)
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def watch(scene: FaultScene, shared_service: ServiceProcess) -> AsyncIterator[Watch]:
    """Watches the service over one fault. In the end everything is up again, and the next question is
    answered and recorded, once."""
    async with watched(scene, shared_service) as made:
        yield made
