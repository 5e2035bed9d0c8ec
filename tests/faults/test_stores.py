"""The stores beside an answer: its record, and the claim of its key; and bringing and reading documents while
their stores fail, of which answers need none."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.conftest import (
    DOCUMENT,
    TENANT,
    WRITTEN,
    Answered,
    Watch,
    asked,
    asking,
    called,
    came_back,
    ended,
)
from tests.faults.table import (
    DOCUMENTS,
    DOWN_WHILE_STREAMING,
    EVENTS,
    QUEUE,
    RECORDS,
    SLOW,
    STATES,
    THE_SERVICE,
    WRONG_ANSWER,
    Dependency,
    tell,
)
from tests.stage.faulty_proxy import GARBAGE, Kind, json_answer
from tests.stage.running_service import eventually

WRONG_TABLE = {
    "refused": json_answer(
        b'{"__type":"com.amazonaws.dynamodb.v20120810#ValidationException"}', status="400 X"
    ),
    "failed": json_answer(
        b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}', status="500 X"
    ),
    "throttled": json_answer(
        b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}',
        status="400 X",
    ),
    "checksum": json_answer(b"{}", headers="x-amz-crc32: 1\r\n"),
    "no json": json_answer(b"<html>"),
    "no http": GARBAGE,
}
SAYS_SOMETHING_ELSE = "status 400 or 500; throttling; a wrong checksum; no JSON; no HTTP"
STALLED = "accepted, never answered"
WINDOW: dict[str, Any] = {"resume_window_s": 15}


async def test_records_that_are_down_while_the_answer_streams_follow(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service) as stream:
        await stream.until("token")
        await watch.scene.break_(RECORDS, Kind.REFUSE)
        go_on.set()
        answer = await stream.rest()
    assert answer.written == WRITTEN
    await tell_record(watch, answer, DOWN_WHILE_STREAMING, made_by="its connections reset")


async def test_records_that_are_slow_hold_no_answer_up_for_long(watch: Watch) -> None:
    await watch.scene.break_(RECORDS, Kind.STALL)
    answer = await asked(watch.service)
    await tell_record(watch, answer, SLOW, made_by=STALLED)


@pytest.mark.parametrize("wrong", WRONG_TABLE)
async def test_records_that_say_something_else_follow(watch: Watch, wrong: str) -> None:
    await watch.scene.break_(RECORDS, Kind.ANSWER, answer=WRONG_TABLE[wrong])
    answer = await asked(watch.service)
    await tell_record(watch, answer, WRONG_ANSWER, made_by=SAYS_SOMETHING_ELSE)


async def tell_record(watch: Watch, answer: Answered, fault: str, *, made_by: str) -> None:
    """The agent gets the answer with `recorded` false; the record follows when the store is back."""
    assert answer.told() == "`done` `stop`, `recorded` false"
    assert watch.calls_of_the_model == 1
    read = await called(watch.service, "GET", f"/v1/answers/{answer.answer_id}")
    assert read.told() == "503 `records_unavailable`, retryable"
    assert await watch.recorded(answer) == "not yet"
    log = await watch.logged("answer_record_waits")
    await watch.scene.heal()
    recorded = await watch.follows(answer)
    log += ", then " + await watch.logged("answer_record_followed")
    read_again = await called(watch.service, "GET", f"/v1/answers/{answer.answer_id}")
    assert read_again.body["record"]["text"].strip() == answer.written
    tell(
        RECORDS,
        fault,
        made_by=made_by,
        sees=f"{answer.told()}; reading it back: {read.told()}",
        recorded=f"{recorded}, once, when the store is back",
        log=log,
        figure=await watch.counted(ended("stop")),
    )


async def test_claims_that_are_slow_are_given_up(watch: Watch) -> None:
    await watch.scene.break_(EVENTS, Kind.STALL)
    await tell_not_claimed(watch, SLOW, made_by=STALLED)


@pytest.mark.parametrize("wrong", WRONG_TABLE)
async def test_claims_that_say_something_else_are_given_up(watch: Watch, wrong: str) -> None:
    await watch.scene.break_(EVENTS, Kind.ANSWER, answer=WRONG_TABLE[wrong])
    await tell_not_claimed(watch, WRONG_ANSWER, made_by=SAYS_SOMETHING_ELSE)


async def tell_not_claimed(watch: Watch, fault: str, *, made_by: str) -> None:
    """A key that cannot be looked up is worth more than an answer; without one nothing is looked up."""
    answer, keyed = await asyncio.gather(
        asked(watch.service, **WINDOW), asked(watch.service, key=f"not-claimed-{uuid.uuid4().hex}")
    )
    assert answer.told() == "`done` `stop`"
    recorded = await watch.recorded(answer)
    assert keyed.told() == "503 `records_unavailable`, retryable"
    assert len(await watch.new_records()) == 1
    assert watch.calls_of_the_model == 1
    tell(
        EVENTS,
        fault,
        made_by=made_by,
        sees=f"{answer.told()}; with an Idempotency-Key: {keyed.told()}",
        recorded=recorded,
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(ended("stop")),
    )


WRONG = {
    DOCUMENTS: {
        "refused": json_answer(b"<Error><Code>AccessDenied</Code></Error>", status="403 X"),
        "failed": json_answer(b"", status="500 X"),
        "no http": GARBAGE,
    },
    QUEUE: {
        "nothing taken": json_answer(b"{}"),
        "one refused": json_answer(b'{"Failed":[{"Id":"0","Code":"X","SenderFault":true}]}'),
        "failed": json_answer(b'{"__type":"InternalError"}', status="500 X"),
        "no json": json_answer(b"<html>"),
        "no http": GARBAGE,
    },
    STATES: {
        "refused": json_answer(b'{"__type":"x#ValidationException"}', status="400 X"),
        "failed": json_answer(b'{"__type":"x#InternalServerError"}', status="500 X"),
        "no json": json_answer(b"<html>"),
        "no http": GARBAGE,
    },
}


@dataclass
class Bringing:
    """One document on its way in."""

    watch: Watch
    document_id: str

    async def bring(self) -> Answered:
        document = {"document_id": self.document_id, "title": "T", "content": "Text.", "source": "s"}
        return await called(
            self.watch.service, "POST", "/v1/documents", json=document | {"media_type": "text/plain"}
        )

    async def kept(self) -> str:
        """Say how far the document came, past all proxies."""
        aws = self.watch.scene.aws
        listed = await aws.clients["s3"].list_object_versions(Bucket=aws.named("documents", TENANT))
        contents = [await self._content(each["Key"]) for each in listed["Versions"]]
        stored = any(self.document_id.encode() in content for content in contents)
        table = aws.named("states", TENANT)
        states = (await aws.clients["dynamodb"].scan(TableName=table, ConsistentRead=True))["Items"]
        state = any(self.document_id in str(item) for item in states)
        if not stored:
            assert not state
            return "nothing"
        return f"the document is stored, {'received' if state else 'no state'}, not in the queue"

    async def is_queued(self) -> bool:
        aws = self.watch.scene.aws
        url = aws.queue_url("ingestion", TENANT)
        received = await aws.clients["sqs"].receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return any(self.document_id in message["Body"] for message in received.get("Messages", ()))

    async def _content(self, key: str) -> bytes:
        aws = self.watch.scene.aws
        answer = await aws.clients["s3"].get_object(Bucket=aws.named("documents", TENANT), Key=key)
        async with answer["Body"] as body:
            return await body.read()


FAULTS = [
    *((dependency, SLOW, STALLED) for dependency in WRONG),
    *((dependency, WRONG_ANSWER, kind) for dependency, kinds in WRONG.items() for kind in kinds),
]


@pytest.mark.parametrize(
    ("dependency", "fault", "how"), FAULTS, ids=lambda value: getattr(value, "name", value)
)
async def test_a_document_that_could_not_be_taken_in_can_be_brought_again(
    watch: Watch, dependency: Dependency, fault: str, how: str, request: pytest.FixtureRequest
) -> None:
    bringing = Bringing(watch, f"doc-{abs(hash(request.node.name))}")
    if fault == SLOW:
        await watch.scene.break_(dependency, Kind.STALL)
    else:
        await watch.scene.break_(dependency, Kind.ANSWER, answer=WRONG[dependency][how])
    brought, read, answer = await asyncio.gather(
        bringing.bring(), called(watch.service, "GET", "/v1/documents/wait"), asked(watch.service)
    )
    assert brought.told() == "503 `dependency_unavailable`, retryable", brought.body
    if dependency is not QUEUE:
        assert read.told() == "503 `dependency_unavailable`, retryable", read.body
    log = await watch.logged("dependency_failed")
    kept = await bringing.kept()
    assert not await bringing.is_queued()
    await watch.scene.heal()
    assert (await bringing.bring()).status == 202
    await eventually(bringing.is_queued)
    tell(
        dependency,
        fault,
        made_by=how if fault == SLOW else _made_by(dependency),
        sees=f"bringing a document: {brought.told()}; reading one: {read.told()}; an answer: {answer.told()}",
        recorded=f"{kept}; brought again it goes in",
        log=log,
    )


async def test_a_document_whose_bytes_changed_is_not_given_out(watch: Watch) -> None:
    other_vowels = bytes.maketrans(b"aeiou", b"eioua")
    await watch.scene.break_(DOCUMENTS, Kind.ALTER, alter=lambda body: body.translate(other_vowels))
    read = await called(watch.service, "GET", "/v1/documents/wait")
    assert read.told() == "422 `document_invalid`, not retryable"
    assert "text" not in read.body
    log = await watch.logged("document_damaged")
    await watch.scene.heal()
    assert (await called(watch.service, "GET", "/v1/documents/wait")).body["text"] == DOCUMENT
    tell(
        DOCUMENTS,
        "bytes changed",
        made_by="bytes of the body changed on their way, twice",
        sees=f"reading a document: {read.told()}",
        recorded="nothing",
        log=log,
    )


async def test_a_reader_who_comes_back_waits_for_the_documents_texts(watch: Watch) -> None:
    answer = await asked(watch.service, resume_window_s=15)
    await watch.scene.break_(DOCUMENTS, Kind.REFUSE)
    back, read = await asyncio.gather(
        came_back(watch.service, answer.answer_id),
        called(watch.service, "GET", f"/v1/answers/{answer.answer_id}"),
    )
    assert back.events[:-1] == []
    log = await watch.logged("answer_not_read")
    await watch.scene.heal()
    assert (await came_back(watch.service, answer.answer_id)).written == answer.written
    tell(
        DOCUMENTS,
        "down while a reader comes back",
        made_by="nobody listens",
        sees=f"back: {back.told()}; reading the answer: {read.told()}",
        recorded=await watch.recorded(answer),
        log=log,
    )


async def test_a_withdrawn_document_is_not_sent_again(watch: Watch) -> None:
    await watch.scene.aws.know("leaf", DOCUMENT)
    answer = await asked(watch.service, resume_window_s=15, filters={"document_id": ["leaf"]})
    assert answer.told() == "`done` `stop`"
    assert (await called(watch.service, "DELETE", "/v1/documents/leaf")).status == 202
    back = await came_back(watch.service, answer.answer_id)
    assert [name for name, _ in back.events] == ["error"]
    read = await called(watch.service, "GET", f"/v1/answers/{answer.answer_id}")
    assert DOCUMENT not in str(read.body)
    tell(
        THE_SERVICE,
        "a document withdrawn that an answer shows",
        made_by="withdrawn after the answer's end, then its events and its record are read",
        sees=f"back: {back.told()}; in the record a notice in place of the text",
        recorded=await watch.recorded(answer),
    )


def _made_by(dependency: Dependency) -> str:
    kinds = ", ".join(WRONG[dependency])
    return f"answers of the wrong kind: {kinds}"
