"""Events from a log as they were sent, with the documents' texts as they may be read now."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import orjson

from assistant.answering.excerpts import read_excerpts
from assistant.answering.ports import DocumentTexts, LogBatch
from assistant.domain.answers import fill
from assistant.domain.errors import DependencyError, WithdrawnError

_LIMIT_S = 3.0


class KeptEvents:
    """Fills the batches of one log for one reader."""

    def __init__(self, texts: DocumentTexts, *, labels: frozenset[str]) -> None:
        self._texts = texts
        self._labels = labels
        self._shown: set[str] = set()
        """Documents that the answer has shown so far, to this reader or to the one before."""

    async def frames(self, batches: Sequence[LogBatch]) -> list[Sequence[bytes]]:
        """Return each batch's frames as they were sent, to the byte.

        Raises WithdrawnError when a document that the answer has shown may not be read any more, in these
        batches or in one before; DependencyError.
        """
        excerpts = {excerpt.mark: excerpt for batch in batches for excerpt in batch.excerpts}
        read = {excerpt.document_id for excerpt in excerpts.values()}
        if any(batch.frames for batch in batches):
            await refuse_withdrawn(self._shown - read, self._texts, labels=self._labels)
        self._shown |= read
        found = await read_excerpts(list(excerpts.values()), self._texts, labels=self._labels)
        texts = {mark: text for mark, text in found.items() if text is not None}
        if len(texts) < len(found):
            raise _withdrawn()
        return [_filled(batch, texts) for batch in batches]


def _filled(batch: LogBatch, texts: Mapping[int, str]) -> Sequence[bytes]:
    if not batch.excerpts:
        return batch.frames
    return [fill(frame.decode(), texts, encode=_in_json).encode() for frame in batch.frames]


async def refuse_withdrawn(
    document_ids: Collection[str], texts: DocumentTexts, *, labels: frozenset[str]
) -> None:
    """Raises WithdrawnError when one of the documents may not be read any more, DependencyError."""
    try:
        async with asyncio.timeout(_LIMIT_S):
            readable = await asyncio.gather(
                *(texts.is_readable(document_id, labels=labels) for document_id in document_ids)
            )
    except TimeoutError:
        raise DependencyError(
            f"The document store took over {_LIMIT_S:.0f} s to say what may be read; try again."
        ) from None
    if not all(readable):
        raise _withdrawn()


def _in_json(text: str) -> str:
    """Return the text as it stands inside a JSON string."""
    return orjson.dumps(text)[1:-1].decode()


def _withdrawn() -> WithdrawnError:
    return WithdrawnError(
        "A document that this answer shows was withdrawn since, or is no longer open to you: nothing of it is"
        " sent again. Ask again."
    )
