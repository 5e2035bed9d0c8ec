"""A tenant is deployed paused, resumed and paused again with the deployed state machines' definitions; then a
raw file in its inbox becomes an answer that cites it, with the functions and the task of the deployment.

Each call of a state machine goes to the emulated account. Only waits are not real: they take no time.

Each function's handler runs in this process with the environment of its emulated deployment. The service is a
process with its task's environment. S3, SQS, DynamoDB, SSM and KMS are the emulated account's, the index is
a real OpenSearch node's, embeddings come through the gateway and answers from a server that speaks Bedrock's
frames. ``DIFFERS`` lists all differences from the deployment. The test forwards the events that S3, a queue
or CloudFormation would send.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from assistant.options.desk.settings import MovingSettings
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.tenant.deployed_names import LINK_SECRET_RESOURCE, SEARCH_SCHEMA_RESOURCE
from tests.options.bedrock.frames import ENDPOINT_VARIABLE, copies_a_line
from tests.stacks.emulated_account import EmulatedAccount, EmulatedTenant, emulated_account, printed, switched
from tests.stacks.synthesized import assembly_folder
from tests.stage.lambda_events import custom_resource, object_created, sqs_event
from tests.stage.opensearch_node import delete_index, search_domain
from tests.stage.sagemaker_runtime import start_embedding
from tests.stage.servers import Exchange, scripted_http
from tests.stage.tokens import EC_KEY

TENANT = "sandbox"
DIFFERS: tuple[str, ...] = ("aws_endpoint_url", "sagemaker_endpoint_url", "opensearch_url", "opensearch_auth")
"""Emulators have addresses, and the node of this machine speaks HTTP and judges no signature."""
LINKS = f"/assistant/{TENANT}/document-links"
POWER = f"/assistant/{TENANT}/power"
ENDPOINTS = {f"{TENANT}-embedding"}
PAGE = b"# Help desk\n\nThe help desk answers the phone from 8:00 to 18:30, Monday to Saturday.\n"
QUESTION = {"question": "When does the help desk answer the phone?"}
pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def account(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    """An account with the tenant deployed for the first time, and paused."""
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        account.bootstrap(assembly)
        keys = orjson.dumps({"keys": [EC_KEY.as_dict(private=False)]}).decode()
        account.put_parameter(POWER, "paused")
        account.put_parameter(f"/assistant/{TENANT}/jwks", keys)
        account.deploy(assembly_folder(assembly, TENANT))
        yield account


def word(account: EmulatedAccount) -> str:
    return str(account.client("ssm").get_parameter(Name=POWER)["Parameter"]["Value"])


def endpoints(account: EmulatedAccount) -> set[str]:
    return {each["EndpointName"] for each in account.client("sagemaker").list_endpoints()["Endpoints"]}


def sources(account: EmulatedAccount) -> set[str]:
    """Return the states of the event sources that the state machines switch, by ingestion's names."""
    found = account.client("ssm").get_parameter(Name=f"{POWER}-sources")["Parameter"]["Value"]
    named = json.loads(found)["event_sources"]
    assert len(named) > 1
    client = account.client("lambda")
    return {client.get_event_source_mapping(UUID=each)["State"] for each in named}


def test_a_first_deployment_is_paused_resumes_and_pauses_again(account: EmulatedAccount) -> None:
    assert word(account) == "paused"
    assert endpoints(account) == set()
    assert sources(account) == {"Disabled"}

    called = switched(account, "Resume", tenant=TENANT)

    assert word(account) == "on"
    assert endpoints(account) == ENDPOINTS
    assert sources(account) == {"Enabled"}
    assert "cloudformation:updateStack" in called

    switched(account, "Pause", tenant=TENANT)

    assert word(account) == "paused"
    assert endpoints(account) == set()
    assert sources(account) == {"Disabled"}


@dataclass
class Deployed(EmulatedTenant):
    response_url: str = ""
    domain_url: str = ""
    """Of the node, with the security plugin's API before it."""


@pytest.fixture
async def deployed(
    account: EmulatedAccount, opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployed]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulated")
    async with AsyncExitStack() as stack:
        gateway_url = await start_embedding(stack, endpoint=f"{TENANT}-embedding")

        async def taken(exchange: Exchange) -> None:
            assert orjson.loads(exchange.body)["Status"] == "SUCCESS", exchange.body
            await exchange.respond(200, b"")

        responses = await stack.enter_async_context(scripted_http(taken))
        domain = await stack.enter_async_context(search_domain(opensearch_url))
        addresses = dict(zip(DIFFERS, (account.url, gateway_url, opensearch_url, "none"), strict=True))
        bedrock = await stack.enter_async_context(scripted_http(copies_a_line("8:00")))
        monkeypatch.setenv(ENDPOINT_VARIABLE, bedrock.url)
        made = Deployed(account, TENANT, addresses, monkeypatch, tmp_path)
        made.response_url, made.domain_url = responses.url, domain.url
        yield made
        await made.close()
        async with open_opensearch(url=opensearch_url, auth="none") as opensearch:
            await delete_index(opensearch, alias=f"{TENANT}-passages")


async def test_a_raw_file_of_the_inbox_becomes_an_answer_with_its_source(deployed: Deployed) -> None:
    command = Path(sys.executable).parent / "assistant"
    done = deployed.account.run(command, "aws", "put-artifacts", "--tenant", TENANT)
    assert done.returncode == 0, printed(done)
    switched(deployed.account, "Resume", tenant=TENANT)
    domain = {"opensearch_url": deployed.domain_url}
    for name, kind, given, differs in (
        ("create_link_secret", LINK_SECRET_RESOURCE, {"Parameter": LINKS}, {}),
        ("apply_search_schema", SEARCH_SCHEMA_RESOURCE, {"Stamp": "one"}, domain),
    ):
        event = custom_resource(kind, "Create", response_url=deployed.response_url, **given)
        await deployed.call(name, event, **differs)
    assert (await deployed.asked(QUESTION))["done"]["finish_reason"] == "no_evidence"

    inbox = deployed.bucket("inbox")
    deployed.account.client("s3").put_object(Bucket=inbox, Key="notes/help-desk.md", Body=PAGE)
    came = sqs_event("inbox", [object_created(inbox, "notes/help-desk.md")])
    assert await deployed.call("receive_documents", came) == {"batchItemFailures": []}
    told = deployed.messages("ingestion_queue_url")
    assert len(told["Records"]) == 1
    assert await deployed.call("ingest_documents", told) == {"batchItemFailures": []}

    answer = await deployed.asked(QUESTION)
    assert answer["sources"]["sources"][0]["title"] == "Help desk"
    assert answer["done"]["finish_reason"] == "stop"
    assert answer["done"]["citations"] == [1]

    # The question that no document answered is a signal by itself, and leaves the records as a label.
    assert (await deployed.call("move_feedback", {}, MovingSettings))["rows"] == 1
    s3, labels = deployed.account.client("s3"), deployed.bucket("labels")
    (label,) = s3.list_objects_v2(Bucket=labels)["Contents"]
    event = orjson.loads(s3.get_object(Bucket=labels, Key=label["Key"])["Body"].read())
    assert (event["kind"], event["tenant"]) == ("unanswered", TENANT)
    assert QUESTION["question"] not in orjson.dumps(event).decode()
