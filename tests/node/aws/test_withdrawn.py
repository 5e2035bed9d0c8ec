"""What is left of a withdrawn document in S3 and DynamoDB, every version and every item of them."""

from __future__ import annotations

import asyncio
import base64
import secrets
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from assistant.cli.aws.verifying import SIGNED, signature_fault
from assistant.documents.withdraw import remove_documents
from assistant.domain.clock import SystemClock
from assistant.domain.desk import BoundSource, DeskKind, ItemState, first_revision
from assistant.options.desk import upkeep
from assistant.stores.desk import StoredDesk
from assistant.stores.documents import KnowledgeStores, StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.events import StoredErasureKeys
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from assistant.stores.sqs_queue import SqsIngestionQueue
from assistant.tenant.deployed_names import EVENTS, STATES, TABLES
from tests.integration.service.callers import LEAFLET, MARKER, QUESTION, SENT, asked, come_back, read
from tests.options.desk.desk import AT, approved
from tests.stage.aws_tenants import SCHEMA, AwsService, aws_service
from tests.stage.emulated_aws import documents_in
from tests.stage.running_service import events_of, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
STEM = MARKER[:-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, aws_server_url: str, opensearch_url: str
) -> AsyncIterator[AwsService]:
    folder = tmp_path_factory.mktemp("withdrawn")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(upkeep, "UPKEEP_EVERY_S", 0.1)
    async with aws_service(folder, aws_url=aws_server_url, opensearch_url=opensearch_url) as made:
        made.sagemaker.texts = (f"The {MARKER} wait is four days, and it ends at noon.",)
        await made.know("leaflet", LEAFLET, media_type="text/markdown")
        yield made
    monkeypatch.undo()


async def withdraw(service: AwsService) -> None:
    owner = service.headers("olga", roles=["knowledge_owner"])
    assert (await service.client.delete("/v1/documents/leaflet", headers=owner)).status_code == 202
    aws = service.stores
    assert aws.opensearch is not None
    states_table = DynamoDbTable(aws.clients["dynamodb"], name=aws.named(STATES.role, "clinic"))
    states = StoredStates(states_table)
    documents = documents_in(aws.clients["s3"], bucket=aws.named("documents", "clinic"))
    queue = SqsIngestionQueue(aws.clients["sqs"], queue_url="")
    keys_table = DynamoDbTable(aws.clients["dynamodb"], name=aws.named(EVENTS.role, "clinic"))
    keys = StoredErasureKeys(keys_table)
    await remove_documents(
        ["leaflet"],
        stores=KnowledgeStores(documents, states, queue, queue),
        index=OpenSearchPassageIndex(aws.opensearch, alias=aws.named("passages", "clinic"), schema=SCHEMA),
        index_writes=asyncio.Lock(),
        clock=SystemClock(),
        keys=keys,
    )
    await states_table.close()
    await keys_table.close()


async def receipt_of(service: AwsService) -> Any:
    owner = service.headers("olga", roles=["knowledge_owner"])
    response = await service.client.get("/v1/documents/leaflet/receipt", headers=owner)
    assert response.status_code == 200, response.text
    return response.json()


async def check_signature(service: AwsService, receipt: Mapping[str, Any]) -> None:
    kms, signature = service.stores.clients["kms"], receipt["signature"]
    public = load_der_public_key((await kms.get_public_key(KeyId=signature["key"]))["PublicKey"])
    assert isinstance(public, EllipticCurvePublicKey)
    assert signature_fault(receipt, arn=signature["key"], key=public) == SIGNED
    changed = {**receipt, "title": "another"}
    assert signature_fault(changed, arn=signature["key"], key=public) == "changed since it was signed"


async def approve(service: AwsService) -> None:
    """Put two revisions with the words on the desk, the first too large for one item."""
    aws = service.stores
    desk_table = DynamoDbTable(aws.clients["dynamodb"], name=aws.named("desk", "clinic"))
    desk = StoredDesk(desk_table)
    source = BoundSource(document_id="leaflet", content_hash="h")
    text = f"The {MARKER} wait."
    for revision, state in enumerate((ItemState.PROPOSED, ItemState.LIVE), start=1):
        body = approved("Is there a wait?", text, sources=[source], state=state)
        noise = tuple(secrets.randbits(53) / 2**53 for _ in range(40_000 if revision == 1 else 0))
        body = body.model_copy(update={"vectors": (noise,)})
        item = first_revision(DeskKind.APPROVED_ANSWER, "one", body, by="rita", at=AT)
        await desk.put(item.model_copy(update={"revision": revision}))
    await desk_table.close()


async def places_with(service: AwsService, words: str) -> set[str]:
    """Return the tables, and the bucket, where an item or a version of an object holds the words."""
    aws, found = service.stores, set[str]()
    for definition in TABLES:
        pages = await aws.clients["dynamodb"].scan(TableName=aws.named(definition.role, "clinic"))
        if any(words in text for item in pages["Items"] for text in texts_in(item)):
            found.add(definition.role)
    s3, bucket = aws.clients["s3"], aws.named("documents", "clinic")
    listed = await s3.list_object_versions(Bucket=bucket)
    for version in listed.get("Versions", ()):
        answer = await s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
        async with answer["Body"] as body:
            if words.encode() in await body.read():
                found.add("documents")
    return found


def texts_in(value: Any) -> list[str]:
    """Return all texts of an item, packed ones unpacked."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts_in(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts_in(part)]
    if isinstance(value, bytes):
        texts = [value.decode(errors="replace")]
        try:
            texts.append(zlib.decompress(value).decode(errors="replace"))
        except zlib.error:
            try:
                decoded = base64.b64decode(value, validate=True)
                texts.append(zlib.decompress(decoded).decode(errors="replace"))
            except (ValueError, zlib.error):
                pass
        return texts
    return [str(value)]


async def test_nothing_of_a_withdrawn_document_is_left_but_what_was_sent(service: AwsService) -> None:
    answer_id, first = await asked(service)
    assert MARKER.encode() in first
    sent: dict[str, Any] = {"send_id": "s1", "text": SENT}
    path = f"/v1/answers/{answer_id}/sent"
    refused = await service.call("POST", path, json=sent)
    sent["confirmed"] = [one["id"] for one in refused.json().get("findings", ())]
    assert (await service.call("POST", path, json=sent)).is_success
    again = await service.call("GET", f"/v1/answers/{answer_id}/events")
    shown = [
        "".join(data["text"] for name, data in events_of(content.decode()) if name == "token")
        for content in (first, again.content)
    ]
    assert shown[0] == shown[1] != ""
    assert MARKER in (await read(service, answer_id))["record"]["text"]
    await approve(service)
    assert await places_with(service, STEM) == {"documents", "desk"}

    await withdraw(service)

    async def is_complete() -> bool:
        return (await receipt_of(service))["is_complete"]

    await eventually(is_complete)
    receipt = await receipt_of(service)
    await check_signature(service, receipt)
    places = receipt["places"]
    counted = {place["place"]: place["found"] for place in places if place["found"] is not None}
    assert counted == dict.fromkeys(counted, 0)
    assert {"document", "index", "vectors", "approved_answers", "feedback"} <= counted.keys()
    [(name, problem)] = await come_back(service, answer_id)
    assert (name, problem["code"]) == ("error", "withdrawn")
    after = await read(service, answer_id)
    assert STEM not in str(after)
    assert "[withdrawn]" in after["record"]["text"]
    assert await places_with(service, STEM) == set()
    assert await places_with(service, SENT) == {"records"}
    repeated = await service.client.post(
        "/v1/answers",
        json={"question": QUESTION, "resume_window_s": 15},
        headers=service.headers() | {"idempotency-key": "key-1"},
    )
    assert (repeated.status_code, repeated.json()["code"]) == (410, "withdrawn")
