"""What all functions of ``lambdas/`` share: the entry, SQS batches, CloudFormation's reply, metric lines.

A handler's module has ``run(services, event)`` and one line that makes its entry::

    handle = FunctionEntry(RemovingSettings, open_removing, run)

The entry opens the services with the first event and keeps them for all later events of the execution
environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar

import aiohttp
import orjson
import structlog
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from aws_lambda_powertools.utilities.parser.models import (
    S3EventNotificationEventBridgeModel,
    SqsModel,
    SqsRecordModel,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yarl import URL

from assistant.domain.errors import AssistantError
from assistant.process.settings import FunctionSettings, StoreSettings
from assistant.process.telemetry import configure_logging
from assistant.stores.ports import QueuedDocument
from assistant.stores.sqs_queue import document_in
from assistant.tenant import deployed_names

_REPLY_RESERVE_S = 20.0
"""Part of the function's time that is reserved for the reply to CloudFormation."""
_REPLY_TIMEOUT_S = 5.0
"""Of one attempt."""
_REPLY_PAUSE_S = 0.5
"""Before the second attempt; twice as long before the third."""
_REPLY_ATTEMPTS = 3
_LONGEST_REASON = 1000
"""Characters; CloudFormation accepts a reply of 4,096 bytes."""
_log = structlog.get_logger(__name__)

Event = Mapping[str, Any]
BatchFailures = dict[str, list[dict[str, str]]]
"""``batchItemFailures``: Lambda keeps these messages in their queue and deletes the others."""
Services = TypeVar("Services")
Settings = TypeVar("Settings", bound=FunctionSettings | StoreSettings)


class LambdaContext(Protocol):
    """The part of Lambda's context that is used."""

    def get_remaining_time_in_millis(self) -> int: ...


class FunctionEntry(Generic[Settings, Services]):
    """A Lambda handler. The first event reads ``settings`` and opens the services.

    One event loop serves all events of an execution environment, because clients belong to their loop. The
    services are never closed: Lambda ends the environment without notice.
    """

    def __init__(
        self,
        settings: type[Settings],
        open_services: Callable[[Settings], AbstractAsyncContextManager[Services]],
        run: Callable[[Services, Any], Awaitable[Any]],
    ) -> None:
        self._settings = settings
        self._open_services = open_services
        self._run = run
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._services: Services | None = None

    def __call__(self, event: Event, context: LambdaContext) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._handle(event, context))

    def close(self) -> None:
        """Close the services. Only tests call it: their process outlives the events."""
        if self._runner is not None:
            self._runner.run(self._stack.aclose())
            self._runner.close()
        self._runner = self._services = None

    async def answer(self, services: Services, event: Event, _context: LambdaContext) -> Any:
        """Return the handler's result for one event. A subclass may handle it otherwise."""
        return await self._run(services, event)

    async def _handle(self, event: Event, context: LambdaContext) -> Any:
        """Open the services with the first event, and answer an event."""
        if self._services is None:
            settings = self._settings.read()
            configure_logging(settings.log_level)
            self._services = await self._stack.enter_async_context(self._open_services(settings))
        return await self.answer(self._services, event, context)


class CustomResourceEntry(FunctionEntry[Settings, Services]):
    """A handler of custom resources: ``run`` takes a ResourceRequest and returns the physical id."""

    async def answer(self, services: Services, event: Event, context: LambdaContext) -> None:
        await reply_to_cloudformation(partial(self._run, services), event, context)


def emit_metric(name: str, value: float, *, service: str, unit: MetricUnit = MetricUnit.Count) -> None:
    """Write one metric as a log line (EMF), with the dimension of a tenant's metrics. No API call is made."""
    with single_metric(name=name, unit=unit, value=value, namespace=deployed_names.NAMESPACE) as metric:
        metric.add_dimension(name=deployed_names.DIMENSION, value=service)


def batch_failures(message_ids: Sequence[str]) -> BatchFailures:
    """Return the reply by which Lambda keeps these messages: ``{"batchItemFailures": [{"itemIdentifier":
    "…"}]}``."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}


async def for_each_message(event: Event, handle: Callable[[str, int], Awaitable[None]]) -> BatchFailures:
    """Call ``handle(body, number of the delivery)`` for each message, all concurrently. Return the messages
    whose call raised; their errors are logged."""

    async def failed_id(message_id: str, body: str, attempt: int) -> str | None:
        try:
            await handle(body, attempt)
        except AssistantError as error:
            _log.warning("message_returned", message_id=message_id, code=error.code)
        except Exception:  # noqa: BLE001 (the edge of one message: it must not fail the others)
            _log.exception("message_failed", message_id=message_id)
        else:
            return None
        return message_id

    records = SqsModel.model_validate(event).Records
    results = await asyncio.gather(
        *(failed_id(record.messageId, str(record.body), _attempt(record)) for record in records)
    )
    return batch_failures([message_id for message_id in results if message_id is not None])


def _attempt(record: SqsRecordModel) -> int:
    """Return the number of this delivery of the message, from 1."""
    return int(record.attributes.ApproximateReceiveCount)


def created_object(body: str) -> tuple[str, str]:
    """Return (key, version) of the S3 object that a message tells of: an event of EventBridge as JSON. Raises
    ValueError. The version is empty in a bucket without versions.

    EventBridge does not URL-encode the key; S3's own notifications do.
    """
    try:
        s3_object = S3EventNotificationEventBridgeModel.model_validate_json(body).detail.object
        return s3_object.key, s3_object.version_id or ""
    except ValidationError as error:
        raise ValueError(f"The message is not an S3 event ({error.error_count()} errors).") from None


@dataclass(frozen=True, slots=True)
class QueueBatch:
    """The messages of one event. Lambda reads them from one queue."""

    queue_name: str
    messages: tuple[QueuedDocument, ...]
    """``receipt`` is the message id, by which Lambda knows the message."""
    invalid_receipts: tuple[str, ...]
    """SQS's receipt handles of messages without a document id; these become dead letters."""
    failures: BatchFailures
    """The invalid messages, as the part of the reply to Lambda."""


def queue_batch(event: Event) -> QueueBatch:
    """Return the messages of an event of SQS: those with a document id, and those without one."""
    messages: list[QueuedDocument] = []
    invalid: dict[str, str] = {}
    records = SqsModel.model_validate(event).Records
    for record in records:
        document_id = document_in(str(record.body))
        if document_id is None:
            _log.error("message_not_understood", message_id=record.messageId)
            invalid[record.messageId] = record.receiptHandle
        else:
            messages.append(QueuedDocument(record.messageId, document_id, _attempt(record)))
    queue_name, failures = records[0].eventSourceARN.rpartition(":")[2], batch_failures(list(invalid))
    return QueueBatch(queue_name, tuple(messages), tuple(invalid.values()), failures)


class ResourceRequest(BaseModel):
    """A request of CloudFormation for a custom resource.

    Powertools' model is not used: it rewrites the response URL, and the URL's signature is over its spelling.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_type: Literal["Create", "Update", "Delete"] = Field(alias="RequestType")
    response_url: str = Field(alias="ResponseURL", repr=False)
    """Signed by S3: anybody with the URL can reply."""
    stack_id: str = Field(alias="StackId")
    request_id: str = Field(alias="RequestId")
    resource_type: str = Field(alias="ResourceType")
    logical_id: str = Field(alias="LogicalResourceId")
    physical_id: str | None = Field(default=None, alias="PhysicalResourceId")
    properties: dict[str, Any] = Field(default_factory=dict, alias="ResourceProperties")

    @property
    def is_delete(self) -> bool:
        return self.request_type == "Delete"


async def reply_to_cloudformation(
    handle: Callable[[ResourceRequest], Awaitable[str]], event: Event, context: LambdaContext
) -> None:
    """Run ``handle`` within the function's time, and send CloudFormation the result.

    ``handle`` returns the physical id; a new id replaces the resource. Every outcome is sent: without a reply
    the stack waits for its timeout, by default an hour, before it can roll back.
    """
    request = ResourceRequest.model_validate(event)
    status, reason = "SUCCESS", "Done."
    physical_id = request.physical_id or f"{request.logical_id}-{request.request_id}"
    try:
        async with asyncio.timeout(context.get_remaining_time_in_millis() / 1000 - _REPLY_RESERVE_S):
            physical_id = await handle(request)
    except AssistantError as error:
        status, reason = "FAILED", error.message
    except TimeoutError:
        status, reason = "FAILED", "The function ran out of time. Deploy again."
    except Exception as error:  # noqa: BLE001 (the edge: CloudFormation must get a reply)
        _log.exception("custom_resource_failed", resource_type=request.resource_type)
        status, reason = "FAILED", f"{type(error).__name__}: see the function's log."
    _log.info("custom_resource_answered", resource_type=request.resource_type, status=status, reason=reason)
    reply: dict[str, object] = {
        "Status": status,
        "Reason": reason[:_LONGEST_REASON],
        "NoEcho": False,
        "Data": {},
        "PhysicalResourceId": physical_id,
        "LogicalResourceId": request.logical_id,
        "StackId": request.stack_id,
        "RequestId": request.request_id,
    }
    await _put(URL(request.response_url, encoded=True), orjson.dumps(reply))


async def _put(url: URL, body: bytes) -> None:
    """Send the reply, with retries. The URL is signed without a content type, so none may be sent.

    Raises the error of the last attempt.
    """
    timeout = aiohttp.ClientTimeout(total=_REPLY_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, skip_auto_headers=("Content-Type",)) as session:
        for attempt in range(1, _REPLY_ATTEMPTS + 1):
            try:
                async with session.put(url, data=body) as response:
                    response.raise_for_status()
                    return
            except (aiohttp.ClientError, TimeoutError) as error:
                # Do not log the error's message: it may contain the signed URL.
                _log.warning("answer_not_taken", attempt=attempt, error=type(error).__name__)
                if attempt == _REPLY_ATTEMPTS:
                    raise
            await asyncio.sleep(_REPLY_PAUSE_S * attempt)
