"""The whole round with every adapter from AWS: S3, DynamoDB, SQS, SSM and KMS by moto, a real OpenSearch,
the real models through the gateway; each of our parts a process of its own, started by its one command."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from assistant.answer.events import Done, SentenceEnded, Sources, Started, Token
from assistant.client import AssistantClient
from assistant.domain.answers import CheckBody, Sent, Verdict, VerdictLabel
from assistant.domain.documents import DocumentState
from assistant.process.aws import AwsService, create_link_secret, open_client
from assistant.process.settings import ServiceSettings, WorkerSettings, inherited_environment
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.records import StoredRecords
from tests.emulated_aws import make_resources
from tests.fakes.aws_server import REGION, create_key, put_parameter
from tests.fakes.model_processes import BUILT_MODELS, artifact_files, start_models
from tests.fakes.opensearch_index import delete_index
from tests.fakes.processes import RunningProcess, process
from tests.fakes.running_service import eventually
from tests.fakes.tokens import EC_KEY, ISSUER, claims, token

QUESTION = "When does the help desk answer the phone?"
DESK = "# Help desk\n\nThe help desk answers the phone from 8:00 to 18:30, Monday to Saturday.\n"
RETURNS = (
    "# Returns\n\nA customer may return an unopened item within 14 days. The store gives the money back.\n"
)
TENANT = """
schema_version = 1
name = "{name}"
display_name = "Shop"
[[sources]]
name = "notes"
access = "everyone"
namespace = ""
paths = ["../notes"]
[secrets]
document_links = "kms:/{name}/document-links"
"""


@dataclass(frozen=True)
class Deployment:
    """One tenant's deployment, all of it running."""

    tenant: str
    folder: Path
    service: RunningProcess
    opensearch_url: str
    aws_url: str

    def token(self, *roles: str) -> str:
        good = claims(datetime.now(UTC), tenant=self.tenant, roles=list(roles), sub="ann")
        return token(good)

    def client(self, *roles: str) -> AssistantClient:
        return AssistantClient(self.service.url, token=self.token(*roles))

    async def knowledge_add(self) -> dict[str, Any]:
        """Run the command as a knowledge owner does, far from the stores."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "assistant.cli.main", "--json", "knowledge", "add"),
            *("--tenant", self.tenant, "--service", self.service.url),
            cwd=self.folder,
            env=inherited_environment() | {"ASSISTANT_LOCAL_SERVICE_TOKEN": self.token("knowledge_owner")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0, said.decode()
        return orjson.loads(out)

    async def follow(self, link: str) -> httpx.Response:
        """Open a source's link as its page does: the link is all the right that it brings."""
        async with httpx.AsyncClient(base_url=self.service.url, trust_env=False) as browser:
            page, _, token = link.partition("#")
            assert (await browser.get(page)).status_code == 200
            return await browser.post("/v1/documents/linked", json={"token": token})

    @asynccontextmanager
    async def records(self) -> AsyncGenerator[StoredRecords]:
        """Open the table of records, past the service."""
        async with open_client("dynamodb", region=REGION, endpoint_url=self.aws_url) as dynamodb:
            records_table = DynamoDbTable(dynamodb, name=f"{self.tenant}-records")
            records = StoredRecords(records_table)
            try:
                yield records
            finally:
                await records_table.close()

    async def indexed(self) -> list[str]:
        """Return the ids of all documents in the index."""
        async with open_opensearch(url=self.opensearch_url, auth="none") as client:
            body = {"size": 100, "_source": False, "docvalue_fields": ["document_id"]}
            found = await call(client, f"POST /{self.tenant}-passages/_search", body=body, timeout_s=10)
        return sorted({hit["fields"]["document_id"][0] for hit in found["hits"]["hits"]})


@pytest.fixture
async def deployment(tmp_path: Path, aws_server_url: str, opensearch_url: str) -> AsyncIterator[Deployment]:
    tenant = f"shop-{uuid.uuid4().hex[:8]}"
    for name, content in (("help-desk.md", DESK), ("returns.md", RETURNS)):
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / "notes" / name).write_text(content)
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / f"{tenant}.toml").write_text(TENANT.format(name=tenant))
    async with AsyncExitStack() as stack:
        gateway_url = await start_models(stack)
        await _deploy(tenant, aws_server_url, artifacts=BUILT_MODELS)
        stack.push_async_callback(_remove_index, tenant, opensearch_url)
        service, worker = await _settings(tenant, tmp_path, aws_server_url, opensearch_url, gateway_url)
        await stack.enter_async_context(process("laptop.worker", worker.environment()))
        running = await stack.enter_async_context(process("service", service.environment()))
        yield Deployment(tenant, tmp_path, running, opensearch_url, aws_server_url)


async def _deploy(tenant: str, aws_url: str, *, artifacts: Path) -> None:
    """Make what a deployment makes, but for the index."""
    await make_resources(aws_url, [tenant], region=REGION)
    async with AsyncExitStack() as stack:

        async def opened(service: AwsService) -> Any:
            return await stack.enter_async_context(open_client(service, region=REGION, endpoint_url=aws_url))

        s3, ssm, kms = [await opened(service) for service in ("s3", "ssm", "kms")]
        key_id = await create_key(kms, alias=tenant)
        await create_link_secret(
            ssm=ssm, kms=kms, name=f"/{tenant}/document-links", tenant=tenant, key_id=key_id
        )
        keys = orjson.dumps({"keys": [EC_KEY.as_dict(private=False)]}).decode()
        await put_parameter(ssm, name=f"/{tenant}/jwks", value=keys)
        await put_parameter(ssm, name=f"/{tenant}/power", value="on")
        await s3.create_bucket(Bucket=f"{tenant}-models")
        for file in artifact_files(artifacts):
            key = f"v1/{file.parent.name}/{file.name}"
            await s3.put_object(Bucket=f"{tenant}-models", Key=key, Body=file.read_bytes())


async def _settings(
    tenant: str, folder: Path, aws_url: str, opensearch_url: str, gateway_url: str
) -> tuple[ServiceSettings, WorkerSettings]:
    aws = await make_resources(aws_url, [tenant], region=REGION)
    shared = aws.settings() | {
        "tenants_dir": folder / "tenants",
        "state_dir": folder / "state",
        "model_artifacts_s3": f"s3://{tenant}-models/v1/",
        "sagemaker_endpoint_url": gateway_url,
        "search": "opensearch",
        "opensearch_url": opensearch_url,
        "opensearch_auth": "none",
    }
    service = {
        "model_artifacts_dir": folder / "of-service",
        "port": 0,
        "issuer": ISSUER,
        "jwks_parameter": f"/{tenant}/jwks",
        "power_parameter": "/{tenant}/power",
    }
    worker = {"model_artifacts_dir": folder / "of-worker", "opensearch_applies_schema": True}
    return (
        ServiceSettings.model_validate(shared | aws.answer_settings() | service),
        WorkerSettings.model_validate(shared | worker),
    )


async def _remove_index(tenant: str, opensearch_url: str) -> None:
    async with open_opensearch(url=opensearch_url, auth="none") as client:
        await delete_index(client, alias=f"{tenant}-passages")


async def asked(client: AssistantClient) -> list[Any]:
    async with aclosing(client.stream(QUESTION)) as events:
        return [event async for event in events]


async def test_the_whole_round_from_knowledge_to_verdict_with_every_adapter_from_aws(
    deployment: Deployment,
) -> None:
    report = await deployment.knowledge_add()
    assert (report["live"], report["failures"], report["failed_documents"]) == (2, [], [])

    async with deployment.client("agent") as agent, deployment.client("knowledge_owner") as owner:
        assert await agent.alive()
        events = await asked(agent)
        kinds = {type(event) for event in events}
        assert {Started, Sources, Token, SentenceEnded, Done} <= kinds
        started, done = events[0], events[-1]
        sources = next(event for event in events if isinstance(event, Sources)).sources
        assert sources[0].title == "Help desk"
        assert done.finish_reason in ("stop", "length")
        assert done.recorded

        opened = await deployment.follow(sources[0].document_url)
        assert "8:00 to 18:30" in opened.json()["text"]

        text = "".join(event.text for event in events if isinstance(event, Token))
        await agent.give_verdict(started.answer_id, Verdict(verdict_id="v1", label=VerdictLabel.GOOD))
        checked = await agent.check_reply(started.answer_id, CheckBody(text=text))
        confirmed = tuple(one.id for one in checked.checks)
        await agent.keep_sent(started.answer_id, Sent(send_id="s1", text=text, confirmed=confirmed))
        async with deployment.records() as records:
            record = await records.get_answer(started.answer_id)
            assert record is not None
            assert record.index_version == started.index_version
            assert [one.agent for one in await records.list_verdicts(started.answer_id)] == ["ann"]
            assert [one.sent.text for one in await records.list_sent(started.answer_id)] == [text]

        document_id = sources[0].document_id
        await owner.withdraw_document(document_id)
        assert (await deployment.follow(sources[0].document_url)).status_code == 404

        async def is_gone() -> bool:
            status = await owner.document_status(document_id)
            return status.state == DocumentState.WITHDRAWN and status.live_content_hash is None

        await eventually(is_gone, within_s=60)
        assert document_id not in await deployment.indexed()
        done_again = (await asked(agent))[-1]
        assert done_again.finish_reason == "no_evidence"
