"""The task definition of the synthesized template, run: its image's command, environment and health check.

What the template leaves to the deployment (references to other stacks) is the emulators' resources here, and
``DIFFERS`` is all else that is not as on AWS. So this is what ECS starts, without ECS.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import ssl
import sys
import tomllib
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]

from assistant.aws.clients import AwsService, open_client
from assistant.aws.opensearch_client import open_opensearch
from assistant.aws.opensearch_schema import delete_index
from assistant.aws.parameters import create_link_secret
from assistant.settings import deployed_names
from assistant.settings.deployed_names import LINK_SECRET_PURPOSE, LIVE_READS_SECRET_PURPOSE
from assistant.settings.process import ServiceSettings, WorkerSettings
from tests.fakes.aws_server import REGION, create_key, put_parameter
from tests.fakes.model_processes import artifact_files, start_models
from tests.fakes.processes import RunningProcess, process
from tests.fakes.running_service import events_of, eventually
from tests.fakes.tokens import EC_KEY, claims, token
from tools.emulated_aws import make_resources

pytestmark = pytest.mark.timeout(300)  # a synth and five processes on a busy machine; 30 s on an idle one
ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "containers" / "orchestrator" / "Dockerfile"
TENANT = "sandbox"
"""The tenant whose models are those of this machine."""
DESK = "The help desk answers the phone from 8:00 to 18:30, Monday to Saturday."
DIFFERS = {
    "port",
    "operations_port",
    "opensearch_url",
    "opensearch_auth",
    "aws_endpoint_url",
    "sagemaker_endpoint_url",
    "reach_addresses",
}
"""Emulators have addresses, ports of this machine may be taken, and its node speaks HTTP and judges no
signature. Nobody is at the address of the order system."""


@dataclass(frozen=True)
class Task:
    """One task of the service, and what the template says of it."""

    running: RunningProcess
    definition: Mapping[str, Any]
    environment: Mapping[str, str]
    owner: httpx.AsyncClient
    agent: httpx.AsyncClient


def fields() -> dict[str, str]:
    return {ServiceSettings.variable(field): field for field in ServiceSettings.model_fields}


def of_image(instruction: str) -> str:
    steps = DockerfileParser(str(DOCKERFILE), cache_content=True).structure
    return next(step["value"] for step in reversed(steps) if step["instruction"] == instruction)


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``cdk synth -c tenant=sandbox`` writes."""
    from tests.stacks.synthesized import synthesize  # with the CDK, 3 s: not in each process that collects

    out = tmp_path_factory.mktemp("synth") / "cdk.out"
    with pytest.MonkeyPatch.context() as inside:
        inside.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        done = synthesize(out, tenant=TENANT)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture
def definition(synthesized: Path) -> dict[str, Any]:
    """The service's container in the template."""
    from tests.stacks.synthesized import assembly_folder, templates_in

    template = templates_in(assembly_folder(synthesized, TENANT))["Orchestrator"]
    tasks = [each for each in template["Resources"].values() if each["Type"] == "AWS::ECS::TaskDefinition"]
    containers = tasks[0]["Properties"]["ContainerDefinitions"]
    return next(each for each in containers if each["Name"] == "Service")


@pytest.fixture
async def task(
    synthesized: Path, definition: dict[str, Any], tmp_path: Path, aws_server_url: str, opensearch_url: str
) -> AsyncIterator[Task]:
    async with AsyncExitStack() as stack:
        file = tenant_file(synthesized, definition)
        gateway_url = await start_models(
            stack, embedding=file["embedding"]["endpoint"], llm=file["generation"]["endpoint"]
        )
        made = await deploy(synthesized, definition, aws_url=aws_server_url)
        emulated = {
            "port": "0",
            "operations_port": "0",
            "opensearch_url": opensearch_url,
            "opensearch_auth": "none",
            "aws_endpoint_url": aws_server_url,
            "sagemaker_endpoint_url": gateway_url,
            "reach_addresses": json.dumps({"orders": "https://127.0.0.1:9"}),
        }
        environment = environment_of(definition, made=made, emulated=emulated, tmp=tmp_path)
        stack.push_async_callback(remove_index, opensearch_url)
        worker = worker_beside(environment, folder=tmp_path / "worker")
        await stack.enter_async_context(process("local.knowledge_worker", worker.environment()))
        running = await stack.enter_async_context(started(environment, folder=tmp_path))
        clients = [
            await stack.enter_async_context(client(running.ready["port"], definition, role))
            for role in ("knowledge_owner", "agent")
        ]
        yield Task(running, definition, environment, *clients)


def tenant_file(synthesized: Path, definition: Mapping[str, Any]) -> dict[str, Any]:
    return tomllib.loads(asset(synthesized, definition).read_text(encoding="utf-8"))


def asset(synthesized: Path, definition: Mapping[str, Any]) -> Path:
    """Return the tenant file that the CDK will publish where the environment says."""
    name = given(definition)["tenant_file_s3"].rpartition("/")[2]
    return synthesized / f"asset.{name}"


def given(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template gives, by field: texts, and references as the template has them."""
    return {fields()[pair["Name"]]: pair["Value"] for pair in definition["Environment"]}


def environment_of(
    definition: Mapping[str, Any], *, made: Mapping[str, str], emulated: Mapping[str, str], tmp: Path
) -> dict[str, str]:
    """Return the environment that ECS would give, with the emulators' things for what is not known yet.

    ``made`` is by field and has exactly what the template leaves open; ``emulated`` exactly what differs.
    """
    assert emulated.keys() == DIFFERS
    template = given(definition)
    open_ones = {field for field, value in template.items() if not isinstance(value, str)}
    assert open_ones - DIFFERS == made.keys()
    of_both = dict(pair.split("=", 1) for pair in shlex.split(of_image("ENV")))
    of_both |= {
        ServiceSettings.variable(field): value
        for field, value in (template | dict(made) | dict(emulated)).items()
    }
    own_tmp = {name: value.replace("/tmp/", f"{tmp}/") for name, value in of_both.items()}
    return own_tmp | {"PYTHONPATH": str(ROOT)}


async def deploy(synthesized: Path, definition: Mapping[str, Any], *, aws_url: str) -> dict[str, str]:
    """Make what the other stacks make, and return its names by the settings that take them."""
    name, template = f"box-{uuid.uuid4().hex[:8]}", given(definition)
    aws = await make_resources(aws_url, [name], region=REGION)
    named = {
        field: value.replace("{tenant}", name)
        for field, value in (aws.settings() | aws.answer_settings()).items()
        if field in template and field != "region" and field != "stores"
    }
    async with AsyncExitStack() as stack:

        async def opened(service: AwsService) -> Any:
            return await stack.enter_async_context(open_client(service, region=REGION, endpoint_url=aws_url))

        s3, ssm, kms = [await opened(service) for service in ("s3", "ssm", "kms")]
        bucket, _, key = template["tenant_file_s3"].removeprefix("s3://").partition("/")
        await s3.create_bucket(Bucket=bucket)
        await s3.put_object(Bucket=bucket, Key=key, Body=asset(synthesized, definition).read_bytes())
        await s3.create_bucket(Bucket=f"{name}-models")
        artifacts = f"s3://{name}-models/{prefix_of(template['model_artifacts_s3'])}"
        for file in artifact_files():
            place = f"{artifacts}{file.parent.name}/{file.name}".removeprefix(f"s3://{name}-models/")
            await s3.put_object(Bucket=f"{name}-models", Key=place, Body=file.read_bytes())
        key_id = await create_key(kms, alias=name)
        secrets = tenant_file(synthesized, definition)["secrets"]
        for name_of, purpose in (
            ("document_links", LINK_SECRET_PURPOSE),
            ("live_reads", LIVE_READS_SECRET_PURPOSE),
        ):
            path = secrets[name_of].removeprefix("kms:")
            await create_link_secret(
                ssm=ssm, kms=kms, name=path, tenant=TENANT, key_id=key_id, purpose=purpose
            )
        keys = orjson.dumps({"keys": [EC_KEY.as_dict(private=False)]}).decode()
        await put_parameter(ssm, name=template["jwks_parameter"], value=keys)
        await put_parameter(ssm, name=template["power_parameter"], value="on")
    return named | {"model_artifacts_s3": artifacts}


def prefix_of(reference: Any) -> str:
    """Return what follows the bucket in ``s3://<bucket>/<prefix>`` with a reference in it."""
    text = "".join(part if isinstance(part, str) else "BUCKET" for part in reference["Fn::Join"][1])
    return text.partition("BUCKET/")[2]


def worker_beside(environment: Mapping[str, str], *, folder: Path) -> WorkerSettings:
    """Return the settings of who fills the index, which the ingestion stack's functions do on AWS."""
    shared = {
        field: environment[ServiceSettings.variable(field)]
        for field in WorkerSettings.model_fields
        if ServiceSettings.variable(field) in environment
    }
    own = {"tenants_dir": folder / "tenants", "model_artifacts_dir": folder / "models", "otlp_endpoint": None}
    return WorkerSettings.model_validate(shared | own | {"opensearch_applies_schema": True})


@asynccontextmanager
async def started(environment: Mapping[str, str], *, folder: Path) -> AsyncIterator[RunningProcess]:
    """Start the image's entry point with this environment and no other."""
    python, *arguments = json.loads(of_image("ENTRYPOINT"))
    assert python == "python"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"]} | dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 120)
        assert line, (await child.communicate())[1].decode()[-3000:]
        yield RunningProcess(child, orjson.loads(line))
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def client(port: int, definition: Mapping[str, Any], role: str) -> httpx.AsyncClient:
    """Return a client with a token of the issuer that the template names, behind a balancer's TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    template = given(definition)
    good = claims(
        datetime.now(UTC), iss=template["issuer"], aud=template["audience"], tenant=TENANT, roles=[role]
    )
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        headers={"authorization": f"Bearer {token(good)}"},
        verify=context,
        trust_env=False,
        timeout=60,
    )


async def remove_index(opensearch_url: str) -> None:
    async with open_opensearch(url=opensearch_url, auth="none") as opensearch:
        await delete_index(opensearch, alias=f"{TENANT}-passages")


async def test_the_task_of_the_template_answers_a_question_and_ends_when_told(task: Task) -> None:
    await bring(task)
    readiness = (await task.agent.get(f"{task.running.operations_url}/readyz")).json()
    stamps = {name: given(task.definition)[name] for name in ("release", "model_stamp", "schema_stamp")}
    assert (readiness["ready"], readiness["deployed"]) == (True, stamps)
    assert await is_healthy(task)

    answer = await task.agent.post(
        "/v1/answers",
        json={"question": "When does the help desk answer the phone?"},
        headers={"accept": "text/event-stream"},
    )
    events = events_of(answer.text)
    assert [kind for kind, _ in events][:2] == ["started", "sources"]
    assert dict(events)["sources"]["sources"][0]["title"] == "Help desk"
    assert events[-1][0] == "done"
    assert events[-1][1]["finish_reason"] in ("stop", "length")

    line = await told(task)
    assert line[deployed_names.DIMENSION] == given(task.definition)["metrics_service"]

    await task.agent.aclose()
    await task.owner.aclose()
    task.running.child.send_signal(getattr(signal, of_image("STOPSIGNAL")))
    assert await asyncio.wait_for(task.running.child.wait(), task.definition["StopTimeout"]) == 0


async def bring(task: Task) -> None:
    """Have one document live, by way of bucket, queue and index."""
    document = {
        "document_id": "help-desk",
        "title": "Help desk",
        "content": DESK,
        "media_type": "text/plain",
        "source": "handbook",
    }
    accepted = await task.owner.post("/v1/documents", json=document)
    assert accepted.status_code == 202, accepted.text

    async def is_live() -> bool:
        return (await task.owner.get("/v1/documents/help-desk/status")).json()["state"] == "live"

    await eventually(is_live, within_s=90)


async def is_healthy(task: Task) -> bool:
    """Run the health check of the task definition beside the process, as ECS does."""
    kind, python, *arguments = task.definition["HealthCheck"]["Command"]
    assert (kind, python) == ("CMD", "python")
    port = {ServiceSettings.variable("port"): str(task.running.ready["port"])}
    environment = {"PATH": os.environ["PATH"]} | dict(task.environment) | port
    check = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
    return await asyncio.wait_for(check.wait(), 60) == 0


async def told(task: Task) -> dict[str, Any]:
    """Return the next line that CloudWatch would make metrics of."""
    assert task.running.child.stdout is not None
    return orjson.loads(await asyncio.wait_for(task.running.child.stdout.readline(), 60))
