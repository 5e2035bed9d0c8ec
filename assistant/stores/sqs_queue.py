"""The ingestion queue of one tenant on SQS.

A message's body is ``{"schema_version": 1, "document_id": "…"}``. Any other message is logged at each
delivery and made visible again at once: the redrive policy makes it a dead letter within seconds, not
after MAX_ATTEMPTS visibility timeouts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.domain.documents import DocumentId
from assistant.domain.errors import DependencyError
from assistant.process.aws import aws_call
from assistant.stores.ports import QueuedDocument

_WHAT = "The ingestion queue"
"""Begins the messages of errors."""
_LIMIT_S = 30.0
"""Timeout of one call, besides the time of a long poll."""
_BATCH = 10
"""SQS's limit of messages a call."""
_LONGEST_POLL_S = 20
_LONGEST_VISIBILITY_S = 12 * 3600
"""Limits of SQS for WaitTimeSeconds and VisibilityTimeout."""
_EARLY_PAUSE_S = 1.0
"""Pause after a long poll that returned nothing before half its time, so that a faulty one does not spin."""
_PAUSES_S = (0.1, 0.4, 1.6)
"""Pauses before the retries of the part of a batch that failed."""
_log = structlog.get_logger(__name__)

_Batch = Callable[..., Awaitable[Mapping[str, Any]]]
"""A batch method of the client, such as ``send_message_batch``."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    document_id: DocumentId


class SqsIngestionQueue:
    """One ``IngestionQueue``: ``client`` is an aiobotocore client of SQS.

    The queue's redrive policy must have MAX_ATTEMPTS. Timeouts are whole seconds, rounded up; a wait of less
    than a second is a short poll, which may miss messages sent just before.

    Raises DependencyError.
    """

    def __init__(self, client: Any, *, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    async def send_many(self, document_ids: Sequence[str]) -> None:
        await self._send(document_ids)

    async def send_later(self, document_ids: Sequence[str], *, delay_s: int) -> None:
        """Send messages that become visible after ``delay_s``, 900 at most."""
        await self._send(document_ids, DelaySeconds=delay_s)

    async def _send(self, document_ids: Sequence[str], **options: int) -> None:
        bodies = [_Body.model_construct(document_id=document_id) for document_id in document_ids]
        entries = [{"MessageBody": body.model_dump_json(), **options} for body in bodies]
        await self._in_batches(self._client.send_message_batch, entries, refusal_is_error=True)

    async def receive(
        self, *, limit: int, wait_s: float, visibility_timeout_s: float
    ) -> list[QueuedDocument]:
        # Long polls of at most 20 s, until messages come or the time is over.
        until_s = time.monotonic() + wait_s
        visibility_s = _whole_seconds(visibility_timeout_s)
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            polled_at_s = time.monotonic()
            poll_s = min(int(left_s), _LONGEST_POLL_S)
            messages = await self._receive(min(limit, _BATCH), poll_s=poll_s, visibility_s=visibility_s)
            if messages:
                return await self._parse(messages + await self._more(limit, len(messages), visibility_s))
            took_s = time.monotonic() - polled_at_s
            left_s = until_s - time.monotonic()
            if left_s < 1.0:
                await asyncio.sleep(max(0.0, left_s))
                return []
            if took_s < poll_s / 2:
                await asyncio.sleep(_EARLY_PAUSE_S)

    async def delete_many(self, receipts: Sequence[str]) -> None:
        entries = [{"ReceiptHandle": receipt} for receipt in receipts]
        await self._in_batches(self._client.delete_message_batch, entries)

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None:
        visibility_s = _whole_seconds(visibility_timeout_s)
        entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": visibility_s} for receipt in receipts]
        await self._in_batches(self._client.change_message_visibility_batch, entries)

    async def put_back(self, receipts: Sequence[str]) -> None:
        """Make messages visible at once for their next delivery. A failure is only logged: they become
        visible after their timeout."""
        try:
            await self.extend_many(receipts, visibility_timeout_s=0.0)
        except DependencyError as error:
            _log.warning("messages_not_put_back", messages=len(receipts), reason=error.message)

    async def depth(self) -> int:
        names = [f"ApproximateNumberOfMessages{state}" for state in ("", "NotVisible", "Delayed")]
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            answer = await self._client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=names)
        try:
            return sum(int(answer["Attributes"][name]) for name in names)
        except (KeyError, ValueError):
            raise DependencyError(f"{_WHAT} returned no depth.") from None

    async def _parse(self, messages: Sequence[Mapping[str, Any]]) -> list[QueuedDocument]:
        """Return the valid messages; make the others visible for their next delivery."""
        valid: list[QueuedDocument] = []
        invalid: list[str] = []
        for message in messages:
            try:
                body = _Body.model_validate_json(message["Body"], strict=True)
                attempt = int(message["Attributes"]["ApproximateReceiveCount"])
                valid.append(QueuedDocument(str(message["ReceiptHandle"]), body.document_id, attempt))
            except (KeyError, ValidationError) as error:
                message_id, reason = str(message.get("MessageId")), type(error).__name__
                _log.error("message_not_understood", message_id=message_id, reason=reason)
                if "ReceiptHandle" in message:
                    invalid.append(str(message["ReceiptHandle"]))
        await self.put_back(invalid)
        return valid

    async def _more(self, limit: int, taken: int, visibility_s: int) -> list[Mapping[str, Any]]:
        """Receive further messages up to ``limit`` without waiting; ``taken``: how many came with the first
        call. A failure is only logged: the messages received before are kept."""
        more: list[Mapping[str, Any]] = []
        full = taken == _BATCH  # a call that returned less found no more
        while full and (left := limit - taken - len(more)) > 0:
            try:
                messages = await self._receive(min(left, _BATCH), poll_s=0, visibility_s=visibility_s)
            except DependencyError as error:
                _log.warning("queue_received_in_part", reason=error.message)
                break
            more += messages
            full = len(messages) == _BATCH
        return more

    async def _receive(self, limit: int, *, poll_s: int, visibility_s: int) -> list[Mapping[str, Any]]:
        async with aws_call(_WHAT, limit_s=_LIMIT_S + poll_s):
            answer = await self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=limit,
                WaitTimeSeconds=poll_s,
                VisibilityTimeout=visibility_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return list(answer.get("Messages", ()))

    async def _in_batches(
        self, call: _Batch, entries: Sequence[Mapping[str, Any]], *, refusal_is_error: bool = False
    ) -> None:
        """Send all entries by calls of 10; retry those that fail for a fault of SQS. An entry that SQS
        refuses is an error (``refusal_is_error``), or is logged: a receipt that is no longer valid."""
        for start in range(0, len(entries), _BATCH):
            batch = {str(n): entry for n, entry in enumerate(entries[start : start + _BATCH])}
            for pause_s in (*_PAUSES_S, None):
                batch = await self._call_batch(call, batch, refusal_is_error=refusal_is_error)
                if not batch:
                    break
                if pause_s is None:
                    raise DependencyError(f"{_WHAT} did not take {len(batch)} of its messages. Retry.")
                await asyncio.sleep(pause_s)

    async def _call_batch(
        self, call: _Batch, batch: Mapping[str, Mapping[str, Any]], *, refusal_is_error: bool
    ) -> dict[str, Mapping[str, Any]]:
        """Send one batch, by number; return the entries that failed and may be retried."""
        entries = [{"Id": number, **entry} for number, entry in batch.items()]
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            answer = await call(QueueUrl=self._queue_url, Entries=entries)
        done = {str(entry["Id"]) for entry in answer.get("Successful", ())}
        faults = [entry for entry in answer.get("Failed", ()) if entry.get("SenderFault")]
        refused = {str(fault["Id"]): str(fault.get("Code")) for fault in faults}
        if refused and refusal_is_error:
            raise DependencyError(f"{_WHAT} refused: {next(iter(refused.values()))}.")
        if refused:  # the receipt is no longer valid: its message was delivered again
            _log.info("receipts_not_valid", messages=len(refused))
        return {number: entry for number, entry in batch.items() if number not in done | refused.keys()}


def document_in(body: str) -> str | None:
    """Return the document that a message's body names; None for another message."""
    try:
        return _Body.model_validate_json(body, strict=True).document_id
    except ValidationError:
        return None


def _whole_seconds(seconds: float) -> int:
    """Return a visibility timeout as SQS takes it: rounded up, within its limit."""
    return min(math.ceil(seconds), _LONGEST_VISIBILITY_S)
