"""What SQS events hold: ids of documents, and S3's events on their way through EventBridge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.aws.sqs import document_in
from assistant.domain.errors import AssistantError
from assistant.knowledge.ports import QueuedDocument

Failures = dict[str, list[dict[str, str]]]
_log = structlog.get_logger(__name__)


def failures(message_ids: Sequence[str]) -> Failures:
    """Return the answer by which Lambda keeps these messages, and deletes the others."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}


async def each_message(event: Mapping[str, Any], take: Callable[[str], Awaitable[None]]) -> Failures:
    """Give each message's body to ``take``, all at once, and answer Lambda with those that failed: they come
    again, the others do not."""

    async def taken(record: Mapping[str, Any]) -> str | None:
        try:
            await take(record["body"])
        except AssistantError as error:
            _log.warning("message_returned", message_id=record["messageId"], code=error.code)
        except Exception:  # noqa: BLE001 (the edge of one message: the others shall not fail with it)
            _log.exception("message_failed", message_id=record["messageId"])
        else:
            return None
        return str(record["messageId"])

    ends = await asyncio.gather(*map(taken, event["Records"]))
    return failures([message_id for message_id in ends if message_id is not None])


@dataclass(frozen=True, slots=True)
class StrangeMessage:
    """A message that is none of ours: it becomes a dead letter."""

    message_id: str
    receipt: str


@dataclass(frozen=True, slots=True)
class QueuedDocuments:
    """Messages of one event. Lambda takes them from one queue."""

    queue_name: str
    messages: tuple[QueuedDocument, ...]
    """Their receipts are ids of messages, by which Lambda is answered."""
    strange: tuple[StrangeMessage, ...]

    @property
    def failures(self) -> Failures:
        """The answer by which Lambda keeps what is none of ours."""
        return failures([each.message_id for each in self.strange])

    @property
    def strange_receipts(self) -> tuple[str, ...]:
        return tuple(each.receipt for each in self.strange)


def queued_documents(event: Mapping[str, Any]) -> QueuedDocuments:
    messages: list[QueuedDocument] = []
    strange: list[StrangeMessage] = []
    for record in event["Records"]:
        document_id = document_in(record["body"])
        if document_id is None:
            _log.error("message_not_understood", message_id=record["messageId"])
            strange.append(StrangeMessage(record["messageId"], record["receiptHandle"]))
            continue
        messages.append(
            QueuedDocument(
                receipt=record["messageId"],
                document_id=document_id,
                attempt=int(record["attributes"]["ApproximateReceiveCount"]),
            )
        )
    queue_name = str(event["Records"][0]["eventSourceARN"]).rpartition(":")[2]
    return QueuedDocuments(queue_name, tuple(messages), tuple(strange))


class _Bucket(BaseModel):
    name: str


class _Object(BaseModel):
    key: str
    version_id: str | None = None

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True)


class _Detail(BaseModel):
    bucket: _Bucket
    object: _Object


class _ObjectEvent(BaseModel):
    """``Object Created`` of source ``aws.s3``; its key is not URL-encoded, unlike in S3's notifications."""

    detail: _Detail


@dataclass(frozen=True, slots=True)
class NewObject:
    bucket: str
    key: str
    version_id: str | None


def new_object(body: str) -> NewObject:
    """Return the object that a message's body, an event of S3, is about. Raises ValueError."""
    try:
        detail = _ObjectEvent.model_validate_json(body).detail
    except ValidationError as error:
        raise ValueError(f"no event of S3 ({error.error_count()} errors)") from None
    return NewObject(detail.bucket.name, detail.object.key, detail.object.version_id)
