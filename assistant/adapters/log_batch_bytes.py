"""One batch of an answer's event log as bytes, the same in every store: a line of JSON, then the frames."""

from __future__ import annotations

from itertools import accumulate

import orjson

from assistant.answering.ports import LogBatch


def to_bytes(batch: LogBatch) -> bytes:
    """Return ``batch`` without its number, which is its key in the store."""
    head = [batch.first_sequence, batch.ended, [len(frame) for frame in batch.frames]]
    return b"\n".join((orjson.dumps(head), b"".join(batch.frames)))


def from_bytes(number: int, stored: bytes) -> LogBatch:
    """Return the batch that ``to_bytes`` wrote."""
    head, _, joined = stored.partition(b"\n")
    values: tuple[int, bool, list[int]] = orjson.loads(head)
    first_sequence, ended, sizes = values
    ends = list(accumulate(sizes))
    return LogBatch(
        number=number,
        first_sequence=first_sequence,
        frames=tuple(joined[end - size : end] for end, size in zip(ends, sizes, strict=True)),
        ended=ended,
    )
