"""One batch of an answer's event log as bytes, the same in every store: a line of JSON, then the frames.

The line is ``[first_sequence, ended, [length of each frame], excerpts]``; the last is absent where the frames
have no text of documents, and in batches of older releases.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import orjson

from assistant.answering.ports import LogBatch
from assistant.domain.answers import Excerpt


def to_bytes(batch: LogBatch) -> bytes:
    """Return ``batch`` without its number, which is its key in the store."""
    head: list[Any] = [batch.first_sequence, batch.ended, [len(frame) for frame in batch.frames]]
    if batch.excerpts:
        head.append([excerpt.model_dump(mode="json", exclude_defaults=True) for excerpt in batch.excerpts])
    return b"\n".join((orjson.dumps(head), b"".join(batch.frames)))


def from_bytes(number: int, stored: bytes) -> LogBatch:
    """Return the batch that ``to_bytes`` wrote."""
    head, _, joined = stored.partition(b"\n")
    values: list[Any] = orjson.loads(head)
    sizes: list[int] = values[2]
    ends = list(accumulate(sizes))
    return LogBatch(
        number=number,
        first_sequence=values[0],
        frames=tuple(joined[end - size : end] for end, size in zip(ends, sizes, strict=True)),
        ended=values[1],
        excerpts=tuple(Excerpt.model_validate(excerpt) for excerpt in values[3]) if values[3:] else (),
    )
