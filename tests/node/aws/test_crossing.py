"""What only S3, DynamoDB, SQS and a real OpenSearch could let through from one tenant to another: keys,
buckets, tables and queues. The attempts themselves: ``tests/integration/service/test_crossing.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from tests.stage.aws_tenants import AwsService, AwsTenants, aws_service

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANN = {"agent": "ann"}
BOB = {"agent": "bob"}
ANN_OF_PHARMACY = {"agent": "ann", "tenant": "pharmacy"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory, aws_server_url: str, opensearch_url: str
) -> AsyncIterator[AwsService]:
    """One service of two tenants for the module."""
    folder = tmp_path_factory.mktemp("crossing")
    async with aws_service(folder, aws_url=aws_server_url, opensearch_url=opensearch_url) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def service(running: AwsService) -> AwsService:
    """Two tenants, each with one document, as the fixture of the same name for embedded stores has it."""
    for tenant in running.stores.names:
        await running.stores.forget(tenant)
    running.sagemaker.hold = None
    running.sagemaker.generations.clear()
    await running.know("wait", "The wait is two days.")
    await running.know("refill", "A refill is due after 25 days.", tenant="pharmacy")
    return running


async def test_an_idempotency_key_is_its_agent_s_and_its_tenant_s(service: AwsService) -> None:
    answers: dict[str, str] = {}
    for name, who in (("ann", ANN), ("bob", BOB), ("pharmacy", ANN_OF_PHARMACY)):
        headers = service.headers(**who) | {"idempotency-key": "the-same"}
        body = {"question": "How long is the wait?"}
        responses = [await service.client.post("/v1/answers", json=body, headers=headers) for _ in range(2)]
        ids = {response.json()["answer_id"] for response in responses}
        assert len(ids) == 1, "the owner's repeat joins the first answer"
        answers[name] = ids.pop()
    assert len(set(answers.values())) == 3
    assert len(service.sagemaker.generations) == 3


# --- documents: bucket, states, queues, links ---


async def bring(service: AwsService, tenant: str, document_id: str, content: str) -> None:
    body = {
        "document_id": document_id,
        "title": "T",
        "content": content,
        "media_type": "text/plain",
        "source": "s",
    }
    headers = service.headers(tenant=tenant, roles=["knowledge_owner"])
    response = await service.client.post("/v1/documents", json=body, headers=headers)
    assert response.status_code == 202


async def test_a_document_goes_into_its_tenant_s_bucket_table_and_queue_alone(service: AwsService) -> None:
    await bring(service, "clinic", "mine", "The clinic's own text.")
    aws = service.stores
    for tenant in aws.names:
        table = DynamoDbTable(aws.clients["dynamodb"], name=aws.named("states", tenant))
        assert (await StoredStates(table).get("mine") is not None) is (tenant == "clinic")
        await table.close()
    assert [await queued(aws, tenant) for tenant in ("clinic", "pharmacy")] == [["mine"], []]
    assert b"The clinic's own text." in b"".join(await objects(aws, "clinic"))
    assert b"The clinic's own text." not in b"".join(await objects(aws, "pharmacy"))


async def queued(aws: AwsTenants, tenant: str) -> list[str]:
    url = aws.queue_url("ingestion", tenant)
    received = await aws.clients["sqs"].receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [orjson.loads(message["Body"])["document_id"] for message in received.get("Messages", ())]


async def objects(aws: AwsTenants, tenant: str) -> list[bytes]:
    s3, bucket = aws.clients["s3"], aws.named("documents", tenant)
    contents: list[bytes] = []
    for each in (await s3.list_objects_v2(Bucket=bucket)).get("Contents", ()):
        answer = await s3.get_object(Bucket=bucket, Key=each["Key"])
        async with answer["Body"] as body:
            contents.append(await body.read())
    return contents


async def test_the_same_document_id_is_two_documents(service: AwsService) -> None:
    await service.know("leaflet", "The clinic's leaflet.")
    await service.know("leaflet", "The pharmacy's leaflet.", tenant="pharmacy")
    withdrawn = await service.call(
        "DELETE", "/v1/documents/leaflet", tenant="pharmacy", roles=["knowledge_owner"]
    )
    assert withdrawn.is_success
    read = await service.call("GET", "/v1/documents/leaflet")
    assert read.json()["text"] == "The clinic's leaflet."
    gone = await service.call("GET", "/v1/documents/leaflet", tenant="pharmacy")
    assert gone.status_code == 404


# --- what is recorded ---


async def test_an_auditor_s_reads_are_kept_in_the_tenant_s_own_table(service: AwsService) -> None:
    answer = await service.answered(**ANN)
    auditor = service.headers("ada", roles=["auditor"])
    one, all_of_it = f"/{answer['answer_id']}", f"?conversation_id={answer['conversation_id']}"
    for asked in (one, all_of_it):
        read = await service.client.get(f"/v1/answers{asked}", headers=auditor)
        assert read.status_code == 200
    assert await accesses(service.stores, "clinic") == [
        ("ann", "asked", answer["answer_id"]),  # she was given it, and its sources
        ("ada", "answer", answer["answer_id"]),
        ("ada", "conversation", answer["conversation_id"]),
    ]
    assert await accesses(service.stores, "pharmacy") == []


async def accesses(aws: AwsTenants, tenant: str) -> list[tuple[str, str, str]]:
    table = aws.named("records", tenant)
    found: dict[str, Any] = await aws.clients["dynamodb"].scan(TableName=table, ConsistentRead=True)
    items = sorted(
        (
            item
            for item in found["Items"]
            if item["pk"]["S"].startswith("access#") and not item["sk"]["S"].endswith("#interrupted")
        ),
        key=lambda item: item["sk"]["S"],
    )
    bodies = [orjson.loads(item["body"]["S"]) for item in items]
    return [(body["agent"], body["kind"], body["subject_id"]) for body in bodies]
