"""The deployed functions make raw files live documents and remove withdrawn ones. The tests pass each event
on, as the queues would."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from assistant.domain.documents import DocumentState, UploadResult
from assistant.stores.s3 import S3Blobs
from assistant.stores.uploads import UPLOAD_BLOBS, StoredUploads
from assistant.tenant import deployed_names
from tests.contracts.samples import parts_of, upload
from tests.node.lambdas.conftest import Deployment, message
from tests.stage.lambda_events import object_created, sqs_event

PAGE = b"# Refill too soon\n\nA claim with code 79 can be paid from day 24 on.\n"
FOR_HR = b"---\nlabels: [hr]\n---\n" + PAGE
CAME_TWICE = 2


async def receive(deployment: Deployment, key: str, content: bytes) -> Any:
    version = await deployment.put_raw(key, content)
    body = object_created(deployment.named("inbox"), key, version=version or None)
    return await deployment.receiving()(sqs_event("inbox", [body]))


async def live(deployment: Deployment, key: str = "wiki/refill.md", content: bytes = PAGE) -> str:
    """Index a page, and return its id."""
    await receive(deployment, key, content)
    await deployment.ingesting()(await deployment.event("ids"))
    return "wiki-refill"


async def test_a_page_in_the_inbox_answers_questions_and_is_gone_when_withdrawn(
    deployment: Deployment,
) -> None:
    document_id = await live(deployment)

    status = await deployment.status(document_id)
    assert status is not None
    assert (status.state, status.title) == (DocumentState.LIVE, "Refill too soon")
    assert await deployment.found() == [document_id]

    await deployment.withdraw(document_id)
    withdrawn = await deployment.removing("withdraw_documents")(await deployment.event("withdrawals"))

    assert withdrawn == {"batchItemFailures": []}
    assert await deployment.found() == []
    status = await deployment.status(document_id)
    assert status is not None
    assert (status.state, status.live_content_hash) == (DocumentState.WITHDRAWN, None)


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("wiki/refill.md", PAGE, UploadResult(added=1, document_ids=("wiki-refill",))),
        ("wiki/refill.md", b"\xff\xfe\x00", "wiki/refill.md"),
        ("wiki/refill.exe", PAGE, "wiki/refill.exe"),
    ],
)
async def test_what_became_of_a_file_lies_by_its_version_below_the_folder_s_results(
    deployment: Deployment, key: str, content: bytes, said: UploadResult | str
) -> None:
    s3, bucket = deployment.clients["s3"], deployment.named("inbox")
    assert await receive(deployment, key, content) == {"batchItemFailures": []}

    (version,) = (await s3.list_object_versions(Bucket=bucket, Prefix=key))["Versions"]
    place = f".uploads/pushed/wiki/{version['VersionId']}/result.json"
    found = await s3.get_object(Bucket=bucket, Key=place)
    result = UploadResult.model_validate_json(await found["Body"].read())
    if isinstance(said, UploadResult):
        assert result == said
    else:
        assert (result.added, result.refused, result.refusals[0].origin) == (0, 1, said)
        assert result.refusals[0].reason


@pytest.mark.parametrize(
    ("again", "state"),
    [
        (FOR_HR, DocumentState.RECEIVED),
        (b"---\nlabels: [NO]\n---\n" + PAGE, DocumentState.WITHHELD),
        (b"---\nLabels: [hr]\n---\n" + PAGE, DocumentState.WITHHELD),
        (b"---\nwithdrawn: true\n---\n" + PAGE, DocumentState.WITHDRAWN),
    ],
)
async def test_a_restricted_page_is_removed_before_its_body_is_parsed(
    deployment: Deployment, again: bytes, state: DocumentState
) -> None:
    document_id = await live(deployment)
    await receive(deployment, "wiki/refill.md", again)
    await deployment.removing("withdraw_documents")(await deployment.event("withdrawals"))
    assert await deployment.found() == []
    status = await deployment.status(document_id)
    assert status is not None
    assert (status.state, status.live_content_hash) == (state, None)


async def test_the_inbox_never_widens_labels_and_an_attempt_is_recorded(deployment: Deployment) -> None:
    document_id = await live(deployment, content=FOR_HR)
    await receive(deployment, "wiki/refill.md", PAGE)
    status = await deployment.status(document_id)
    assert status is not None
    assert (status.state, status.labels) == (DocumentState.LIVE, ("hr",))
    rows = await deployment.clients["dynamodb"].scan(TableName=deployment.named("records"))
    entries = [row for row in rows["Items"] if not row["pk"]["S"].endswith("#writers")]
    (entry,) = [json.loads(row["body"]["S"]) for row in entries]
    assert (entry["kind"], entry["agent"], entry["subject_id"]) == ("widening", "inbox", document_id)


@pytest.mark.parametrize(
    ("source", "content", "labels"),
    [("intranet", PAGE, ("hr",)), ("team", FOR_HR, ("hr",)), ("team", PAGE, None)],
)
async def test_an_upload_has_the_labels_that_its_source_gives(
    deployment: Deployment, source: str, content: bytes, labels: tuple[str, ...] | None
) -> None:
    uploads = StoredUploads(
        S3Blobs.of(UPLOAD_BLOBS, deployment.clients["s3"], bucket=deployment.named("inbox"))
    )
    change = {"source": source, "path": "pay.md", "first_load": source == "team"}
    begun = upload(size_bytes=len(content)).model_copy(update=change)
    await uploads.store(begun, parts_of(content))
    stored = await deployment.clients["s3"].list_objects_v2(Bucket=deployment.named("inbox"))
    (key,) = [one["Key"] for one in stored["Contents"] if one["Key"].endswith("/content")]
    await receive(deployment, key, content)
    result, status = await uploads.result(begun.key), await deployment.status(f"{source}:pay")
    assert result is not None
    assert (result.added, None if status is None else status.labels) == (int(labels is not None), labels)


async def test_an_event_that_comes_twice_embeds_nothing_twice(deployment: Deployment) -> None:
    await receive(deployment, "wiki/refill.md", PAGE)
    event = await deployment.event("ids")
    ingest = deployment.ingesting()
    for _ in range(CAME_TWICE):
        assert await ingest(event) == {"batchItemFailures": []}

    assert len(deployment.sagemaker.embeddings) == 1
    assert await deployment.found() == ["wiki-refill"]


async def test_bulk_files_go_by_their_own_queue_under_the_same_names(deployment: Deployment) -> None:
    await receive(deployment, "bulk/wiki/refill.md", PAGE)

    assert await deployment.messages("ids") == []
    assert await deployment.messages("bulk") == [message("wiki-refill").replace(": ", ":").replace(", ", ",")]


async def test_a_compressed_file_of_many_documents_is_taken_in_without_its_bad_lines(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"id": f"q{n}", "question": f"Question {n}?", "answer": "Yes."}) for n in range(3)]
    await receive(deployment, "wiki/all.jsonl.gz", gzip.compress("\n".join([*lines, "{"]).encode()))

    await deployment.ingesting()(await deployment.event("ids"))

    assert await deployment.found() == ["q0", "q1", "q2"]
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert json.loads(told)[deployed_names.RAW_FILES_REFUSED] == [1.0]


@pytest.mark.parametrize("queue", ["ids", "withdrawals"])
async def test_an_invalid_message_is_delivered_again_at_once(deployment: Deployment, queue: str) -> None:
    """So it becomes a dead letter soon, and not after 40 visibility timeouts."""
    sqs, url = deployment.clients["sqs"], deployment.queue_url(queue)
    await sqs.send_message(QueueUrl=url, MessageBody="garbage")
    (taken,) = (await sqs.receive_message(QueueUrl=url, VisibilityTimeout=600))["Messages"]
    event = sqs_event(deployment.named(queue), ["garbage"])
    event["Records"][0]["receiptHandle"] = taken["ReceiptHandle"]
    handle = deployment.ingesting() if queue == "ids" else deployment.removing("withdraw_documents")

    assert await handle(event) == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert len((await sqs.receive_message(QueueUrl=url)).get("Messages", [])) == 1


async def test_documents_wait_through_a_pause_without_a_failure_or_a_call(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    await receive(deployment, "wiki/refill.md", PAGE)
    await deployment.set_power("paused")

    answered = await deployment.ingesting()(await deployment.event("ids"))

    assert answered == {"batchItemFailures": []}
    assert await deployment.delayed("ids") == 1
    assert deployment.sagemaker.embeddings == []
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert json.loads(told)[deployed_names.DOCUMENTS_POSTPONED] == [1.0]


async def test_an_interrupted_withdrawal_is_resumed_by_the_purge(deployment: Deployment) -> None:
    document_id = await live(deployment)
    await deployment.withdraw(document_id)
    await deployment.messages("withdrawals")

    await deployment.removing("purge_index")({})

    assert len(await deployment.messages("withdrawals")) == 1
