"""The attempts to cross from one tenant or agent to another, against S3, DynamoDB, SQS and a real OpenSearch.

First the same tests that the embedded stores pass; then what only these stores could let through: event logs
and their ids, keys, queues, links. Each succeeds as the owner first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from assistant.domain.documents import Span
from assistant.domain.identity import Identity, Role
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.states import StoredStates
from tests.fakes.aws_service import AwsService, aws_service
from tests.fakes.aws_tenants import AwsTenants
from tests.fakes.running_service import events_of
from tests.integration.service.test_crossing import (
    ANN,
    ANN_OF_PHARMACY,
    BOB,
    SENT,
    VERDICT,
    Who,
    read_answer,
    read_conversation,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
WINDOW = {"resume_window_s": 15}
OTHERS: list[Who] = [BOB, ANN_OF_PHARMACY, {"agent": "eve", "roles": ["agent", "auditor"]}]


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


async def come_back(
    service: AwsService, answer_id: str, who: Who, *, event_id: str | None = None
) -> tuple[int, bytes]:
    headers = service.headers(**who) | ({"last-event-id": event_id} if event_id else {})
    response = await service.client.get(f"/v1/answers/{answer_id}/events", headers=headers)
    return response.status_code, response.content


# --- answers in progress and the ids of their events ---


@pytest.mark.parametrize("after", [None, 1])
async def test_the_events_of_an_answer_belong_to_its_agent(service: AwsService, after: int | None) -> None:
    answer_id = (await service.answered(body=WINDOW, **ANN))["answer_id"]
    event_id = f"{answer_id}:{after}" if after else None
    status, content = await come_back(service, answer_id, ANN, event_id=event_id)
    assert (status, events_of(content.decode())[-1][0]) == (200, "done")
    for other in OTHERS:
        never = "0" * len(answer_id)
        crossed = await come_back(service, answer_id, other, event_id=event_id)
        expected = await come_back(service, never, other, event_id=f"{never}:1" if after else None)
        assert crossed == expected
        assert crossed[0] == 404


async def test_an_event_id_of_another_answer_opens_neither(service: AwsService) -> None:
    mine = (await service.answered(body=WINDOW, **ANN))["answer_id"]
    theirs = (await service.answered(body=WINDOW, **ANN_OF_PHARMACY))["answer_id"]
    for answer_id, event_of in ((mine, theirs), (theirs, mine)):
        status, content = await come_back(service, answer_id, ANN, event_id=f"{event_of}:1")
        assert (status, orjson.loads(content)["code"]) == (422, "invalid_request")


async def test_an_answer_in_progress_is_neither_followed_nor_cancelled_by_others(service: AwsService) -> None:
    go_on = service.sagemaker.hold_after(2)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(service.answered(body=WINDOW, **ANN))
        await service.sagemaker.generation()
        answer_id = await the_running_answer(service)
        for other in OTHERS:
            assert (await come_back(service, answer_id, other))[0] == 404
            path = f"/v1/answers/{answer_id}"
            crossed = await service.client.delete(path, headers=service.headers(**other))
            assert crossed.status_code == 404
        assert await service.tenants["clinic"].claims.cancelled([answer_id]) == set()
        go_on.set()
    assert asking.result()["finish_reason"] == "stop"


async def the_running_answer(service: AwsService) -> str:
    """Return the id of the one answer of the clinic that began."""
    table = service.stores.named("records", "clinic")
    begun: list[str] = []
    while not begun:
        found = await service.stores.clients["dynamodb"].scan(TableName=table, ConsistentRead=True)
        begun = [item["pk"]["S"] for item in found["Items"] if item["sk"]["S"] == "interrupted"]
    (partition,) = begun
    return partition.removeprefix("answer#")


# --- keys and ids that callers choose ---


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


async def test_a_key_used_elsewhere_for_another_question_is_no_conflict(service: AwsService) -> None:
    statuses: list[int] = []
    for who, question in ((ANN, "How long?"), (ANN_OF_PHARMACY, "How much?"), (ANN, "How much?")):
        headers = service.headers(**who) | {"idempotency-key": "k"}
        response = await service.client.post("/v1/answers", json={"question": question}, headers=headers)
        statuses.append(response.status_code)
    assert statuses == [200, 200, 409]


async def test_ids_of_verdicts_and_sends_are_the_tenant_s(service: AwsService) -> None:
    for who in (ANN, ANN_OF_PHARMACY):
        answer_id = (await service.answered(**who))["answer_id"]
        for path, body in (("verdict", VERDICT), ("sent", SENT)):
            url = f"/v1/answers/{answer_id}/{path}"
            response = await service.client.post(url, json=body, headers=service.headers(**who))
            assert response.status_code == 200
        stored = (await read_answer(service, who, answer_id)).json()
        assert (len(stored["verdicts"]), len(stored["sent"])) == (1, 1)


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
    withdrawn = await service.client.delete(
        "/v1/documents/leaflet", headers=service.headers(tenant="pharmacy", roles=["knowledge_owner"])
    )
    assert withdrawn.is_success
    read = await service.client.get("/v1/documents/leaflet", headers=service.headers())
    assert read.json()["text"] == "The clinic's leaflet."
    gone = await service.client.get("/v1/documents/leaflet", headers=service.headers(tenant="pharmacy"))
    assert gone.status_code == 404


async def test_a_link_signed_by_one_tenant_opens_nothing_under_another_s_name_or_agent(
    service: AwsService,
) -> None:
    identity = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset())
    link = service.tenants["clinic"].links.link("wait", span=Span(0, 3), identity=identity)
    opened = await follow(service, link)
    assert opened.json()["text"] == "The wait is two days."
    forged = service.tenants["pharmacy"].links.link("wait", span=Span(0, 3), identity=identity)
    assert (await follow(service, forged)).status_code in (401, 404)
    renamed = forged.replace("pharmacy.", "clinic.", 1)
    assert (await follow(service, renamed)).status_code == 401


async def follow(service: AwsService, document_url: str) -> httpx.Response:
    """Open a link as its page does."""
    body = {"token": document_url.partition("#")[2]}
    return await service.client.post("/v1/documents/linked", json=body)


# --- what is recorded ---


async def test_an_auditor_s_reads_are_kept_in_the_tenant_s_own_table(service: AwsService) -> None:
    answer = await service.answered(**ANN)
    auditor: Who = {"agent": "ada", "roles": ["auditor"]}
    assert (await read_answer(service, auditor, answer["answer_id"])).status_code == 200
    assert (await read_conversation(service, auditor, answer["conversation_id"])).status_code == 200
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
