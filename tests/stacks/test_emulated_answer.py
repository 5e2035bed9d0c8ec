"""From a raw file in the inbox to an answer that cites it, with the functions and the task of a deployment.

Each function's handler runs in this process with the environment of its emulated deployment. The service is a
process with its task's environment. S3, SQS, DynamoDB, SSM and KMS are the emulated account's, the index is
a real OpenSearch node's, and the models answer through the gateway. ``DIFFERS`` lists all differences from
the deployment. The test forwards the events that S3, a queue or CloudFormation would send.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from assistant.options.feedback.settings import MovingSettings
from assistant.process.settings import (
    IngestingSettings,
    LinkSecretSettings,
    ProcessSettings,
    ReceivingSettings,
    RemovingSettings,
    SchemaSettings,
    ServiceSettings,
)
from assistant.service.function import FunctionEntry
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_schema import delete_index
from assistant.tenant.deployed_names import LINK_SECRET_RESOURCE, SEARCH_SCHEMA_RESOURCE
from tests.fakes.lambda_events import Context, custom_resource, object_created, sqs_event
from tests.fakes.model_processes import start_models
from tests.fakes.processes import process
from tests.fakes.running_service import events_of
from tests.fakes.scripted_http import Exchange, scripted_http
from tests.fakes.tokens import EC_KEY, claims, token
from tests.stacks.emulated_account import EmulatedAccount, emulated_account, printed, resources_of
from tests.stacks.synthesized import ROOT, assembly_folder

TENANT = "sandbox"
DIFFERS: tuple[str, ...] = ("aws_endpoint_url", "sagemaker_endpoint_url", "opensearch_url", "opensearch_auth")
"""Emulators have addresses, and the node of this machine speaks HTTP and judges no signature."""
FUNCTIONS: Mapping[str, type[ProcessSettings]] = {
    "apply_search_schema": SchemaSettings,
    "create_link_secret": LinkSecretSettings,
    "receive_documents": ReceivingSettings,
    "ingest_documents": IngestingSettings,
    "withdraw_documents": RemovingSettings,
    "move_feedback": MovingSettings,
}
PAGE = b"# Help desk\n\nThe help desk answers the phone from 8:00 to 18:30, Monday to Saturday.\n"
QUESTION = {"question": "When does the help desk answer the phone?"}
pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def account(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    """An account with the tenant deployed and its packaged models put."""
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        account.bootstrap(assembly)
        keys = orjson.dumps({"keys": [EC_KEY.as_dict(private=False)]}).decode()
        account.put_parameter(f"/assistant/{TENANT}/power", "on")
        account.put_parameter(f"/assistant/{TENANT}/jwks", keys)
        account.deploy(assembly_folder(assembly, TENANT))
        command = Path(sys.executable).parent / "assistant"
        done = account.run(command, "aws", "put-artifacts", "--tenant", TENANT)
        assert done.returncode == 0, printed(done)
        yield account


@dataclass
class Deployed:
    """The tenant's functions and task, with the addresses of this machine."""

    account: EmulatedAccount
    addresses: Mapping[str, str]
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    response_url: str
    domain_url: str
    """Of the node, with the security plugin's API before it."""
    entries: list[FunctionEntry[Any, Any]] = field(default_factory=list[FunctionEntry[Any, Any]])

    async def call(self, name: str, event: Mapping[str, Any]) -> Any:
        """Run a function's handler, with the environment that its deployment gave it."""
        settings = FUNCTIONS[name]
        function = self._deployed(settings)
        here = {key: self.addresses[key] for key in DIFFERS if key in settings.model_fields}
        own = {"tenants_dir": "tenants", "state_dir": "state", "model_artifacts_dir": "models"}
        here |= {key: str(self.folder / part) for key, part in own.items() if key in settings.model_fields}
        if name == "apply_search_schema":
            here["opensearch_url"] = self.domain_url
        given = function["Environment"]["Variables"] | {
            settings.variable(key): value for key, value in here.items()
        }
        for variable, value in given.items():
            self.monkeypatch.setenv(variable, value)
        entry: FunctionEntry[Any, Any] = importlib.import_module(f"lambdas.{name}").handle
        self.entries.append(entry)
        return await asyncio.to_thread(entry, event, Context())

    def _deployed(self, settings: type[ProcessSettings]) -> dict[str, Any]:
        """Return the deployed function with an environment of this class; two share that of removing."""
        prefix = settings.variable("")
        return next(
            each
            for each in self.account.client("lambda").list_functions()["Functions"]
            if any(name.startswith(prefix) for name in each["Environment"]["Variables"])
        )

    def task_environment(self) -> dict[str, str]:
        """The environment of the service's container, with what differs here."""
        (task,) = resources_of(self.account, f"assistant-{TENANT}-Orchestrator", "AWS::ECS::TaskDefinition")
        found = self.account.client("ecs").describe_task_definition(taskDefinition=task)
        (container,) = [
            each for each in found["taskDefinition"]["containerDefinitions"] if each["name"] == "Service"
        ]
        given = {pair["name"]: pair["value"] for pair in container["environment"]}
        given.pop(ServiceSettings.variable("otlp_endpoint"), None)
        here = dict(self.addresses) | {"host": "127.0.0.1", "port": "0", "operations_port": "0"}
        here |= {key: str(self.folder / key) for key in ("tenants_dir", "state_dir", "model_artifacts_dir")}
        return given | {ServiceSettings.variable(key): value for key, value in here.items()}

    def queue(self, name: str) -> str:
        """The URL of a queue, as the environment of its function has it."""
        function = self._deployed(IngestingSettings)
        return str(function["Environment"]["Variables"][IngestingSettings.variable(name)])

    def messages(self, name: str) -> dict[str, Any]:
        """Take what is in a queue, as the event that Lambda would make of it."""
        sqs, url = self.account.client("sqs"), self.queue(name)
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for each in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return sqs_event(url.rpartition("/")[2], [each["Body"] for each in found])


@pytest.fixture
async def deployed(
    account: EmulatedAccount, opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployed]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulated")
    async with AsyncExitStack() as stack:
        gateway_url = await start_models(stack, embedding=f"{TENANT}-embedding", llm=f"{TENANT}-llm")

        async def taken(exchange: Exchange) -> None:
            assert orjson.loads(exchange.body)["Status"] == "SUCCESS", exchange.body
            await exchange.respond(200, b"")

        async def with_security(exchange: Exchange) -> None:
            """Answer for the security plugin's API, which the node lacks; forward every other request."""
            headers, status, body = {"Content-Type": "application/json"}, 200, b"{}"
            if "/_plugins/_security/" not in exchange.target:
                async with httpx.AsyncClient(base_url=opensearch_url, trust_env=False, timeout=60) as node:
                    found = await node.request(
                        exchange.method, exchange.target, content=exchange.body, headers=headers
                    )
                status, body = found.status_code, found.content
            elif exchange.method == "DELETE" and "rolesmapping" in exchange.target:
                status = 404
            await exchange.respond(status, body, Content_Type="application/json")

        responses = await stack.enter_async_context(scripted_http(taken))
        domain = await stack.enter_async_context(scripted_http(with_security))
        addresses = dict(zip(DIFFERS, (account.url, gateway_url, opensearch_url, "none"), strict=True))
        made = Deployed(account, addresses, monkeypatch, tmp_path, responses.url, domain.url)
        yield made
        for entry in made.entries:
            await asyncio.to_thread(entry.close)
        async with open_opensearch(url=opensearch_url, auth="none") as opensearch:
            await delete_index(opensearch, alias=f"{TENANT}-passages")


def client(url: str, *, issuer: str) -> httpx.AsyncClient:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the task's certificate is made at its start
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    agent = claims(datetime.now(UTC), iss=issuer, aud="assistant", tenant=TENANT, roles=["agent"])
    headers = {"authorization": f"Bearer {token(agent)}", "accept": "text/event-stream"}
    return httpx.AsyncClient(base_url=url, headers=headers, verify=context, trust_env=False, timeout=60)


async def asked(deployed: Deployed) -> dict[str, Any]:
    """Start the service with its task's environment, ask once, and return the answer's events by name."""
    environment = deployed.task_environment()
    issuer = environment[ServiceSettings.variable("issuer")]
    own = {"PYTHONPATH": str(ROOT), "AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated"}
    async with (
        process("service", environment | own) as service,
        client(f"https://127.0.0.1:{service.ready['port']}", issuer=issuer) as agent,
    ):
        return dict(events_of((await agent.post("/v1/answers", json=QUESTION)).text))


async def test_a_raw_file_of_the_inbox_becomes_an_answer_with_its_source(deployed: Deployed) -> None:
    for name, kind, given in (
        ("create_link_secret", LINK_SECRET_RESOURCE, {"Parameter": f"/assistant/{TENANT}/document-links"}),
        ("apply_search_schema", SEARCH_SCHEMA_RESOURCE, {"Stamp": "one"}),
    ):
        event = custom_resource(kind, "Create", response_url=deployed.response_url, **given)
        await deployed.call(name, event)
    assert (await asked(deployed))["done"]["finish_reason"] == "no_evidence"

    inbox = bucket_of(deployed.account, "inbox")
    deployed.account.client("s3").put_object(Bucket=inbox, Key="notes/help-desk.md", Body=PAGE)
    came = sqs_event("inbox", [object_created(inbox, "notes/help-desk.md")])
    assert await deployed.call("receive_documents", came) == {"batchItemFailures": []}
    told = deployed.messages("ingestion_queue_url")
    assert len(told["Records"]) == 1
    assert await deployed.call("ingest_documents", told) == {"batchItemFailures": []}

    answer = await asked(deployed)
    assert answer["sources"]["sources"][0]["title"] == "Help desk"
    assert answer["done"]["finish_reason"] == "stop"
    assert answer["done"]["citations"] == [1]

    # The question that no document answered is a signal by itself, and leaves the records as a label.
    assert (await deployed.call("move_feedback", {}))["rows"] == 1
    s3, labels = deployed.account.client("s3"), bucket_of(deployed.account, "labels")
    (label,) = s3.list_objects_v2(Bucket=labels)["Contents"]
    event = orjson.loads(s3.get_object(Bucket=labels, Key=label["Key"])["Body"].read())
    assert (event["kind"], event["tenant"]) == ("unanswered", TENANT)
    assert QUESTION["question"] not in orjson.dumps(event).decode()


def bucket_of(account: EmulatedAccount, name: str) -> str:
    buckets = resources_of(account, f"assistant-{TENANT}-Data", "AWS::S3::Bucket")
    return next(bucket for bucket in buckets if name in bucket)
