"""Bulk writes whose items fail one by one: what was refused for load is sent again, the rest is named."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from assistant.aws.opensearch_client import call
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import SearchUnavailableError

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

CALL_TIMEOUT_S = 60.0
MOST_BYTES_A_CALL = 1_000_000
"""Of one body: what the HTTP client sends without holding up the loop. A small data node takes 10 MiB."""
RETRIES_WITHIN_S = 60.0
"""So long items that were refused for load are sent again."""
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_OVERLOADED = 429
_ABSENT = 404
_NAMED = 5
"""Documents that an error's message names; it counts the others."""


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One line or two of a bulk body."""

    row_id: str
    document_id: str
    lines: bytes
    removes: bool = False

    @classmethod
    def put(cls, row_id: str, document_id: str, row: Mapping[str, Any]) -> BulkOperation:
        action = orjson.dumps({"index": {"_id": row_id}})
        return cls(row_id, document_id, b"%b\n%b\n" % (action, orjson.dumps(row)))

    @classmethod
    def remove(cls, row_id: str, document_id: str) -> BulkOperation:
        action = orjson.dumps({"delete": {"_id": row_id}})
        return cls(row_id, document_id, action + b"\n", removes=True)


class BulkWriter:
    """Writes operations into one index, in order, several megabytes a call."""

    def __init__(self, client: AsyncOpenSearch, *, index: str, clock: Clock) -> None:
        self._client = client
        self._index = index
        self._clock = clock

    async def write(self, operations: Sequence[BulkOperation]) -> None:
        """Write all; deleting what is not there is no failure.

        Raises SearchUnavailableError naming the documents that were not written: with ``retry_after_s`` when
        the domain was overloaded for longer than RETRIES_WITHIN_S.
        """
        for batch in _batches(operations):
            await self._write_batch(batch)

    async def _write_batch(self, batch: Sequence[BulkOperation]) -> None:
        deadline = Deadline.after(RETRIES_WITHIN_S, clock=self._clock)
        wait_s = _FIRST_WAIT_S
        while batch := await self._refused_for_load(batch):
            if wait_s >= deadline.remaining_s():
                raise SearchUnavailableError(
                    f"The passage index was overloaded and did not take {_named(batch)}.", retry_after_s=5.0
                )
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 : no secret
            wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)

    async def _refused_for_load(self, batch: Sequence[BulkOperation]) -> Sequence[BulkOperation]:
        """Send the batch; return the operations to be sent again."""
        try:
            answer = await call(
                self._client,
                f"POST /{self._index}/_bulk",
                body=b"".join(operation.lines for operation in batch),
                params={"filter_path": "errors,items.*.status,items.*.error.type"},
                timeout_s=CALL_TIMEOUT_S,
            )
        except SearchUnavailableError as error:
            if error.retry_after_s is None:
                raise
            return batch  # the whole call was refused for load
        return _to_repeat(answer, batch)


def _to_repeat(answer: Any, batch: Sequence[BulkOperation]) -> list[BulkOperation]:
    try:
        if not answer["errors"]:
            return []
        results: list[Any] = [result for item in answer["items"] for result in item.values()]
        outcomes = [(operation, result["status"]) for operation, result in zip(batch, results, strict=True)]
        kinds = {str(result["error"]["type"]) for result in results if "error" in result}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SearchUnavailableError(
            f"The passage index answered a bulk write oddly ({type(error).__name__})."
        ) from None
    failed = [
        operation
        for operation, status in outcomes
        if status >= 300 and status != _OVERLOADED and not (status == _ABSENT and operation.removes)
    ]
    if failed:
        raise SearchUnavailableError(
            f"The passage index refused {_named(failed)}: {', '.join(sorted(kinds))}."
        )
    return [operation for operation, status in outcomes if status == _OVERLOADED]


def _named(operations: Sequence[BulkOperation]) -> str:
    names = list(dict.fromkeys(operation.document_id for operation in operations))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _batches(operations: Sequence[BulkOperation]) -> Iterator[list[BulkOperation]]:
    """Cut at MOST_BYTES_A_CALL; an operation that is larger by itself goes alone."""
    batch: list[BulkOperation] = []
    size = 0
    for operation in operations:
        if batch and size + len(operation.lines) > MOST_BYTES_A_CALL:
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += len(operation.lines)
    if batch:
        yield batch
