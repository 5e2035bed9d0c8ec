"""The rows of a tenant's passage index in OpenSearch, and the writing side of it."""

from __future__ import annotations

import asyncio
import base64
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from assistant.aws.opensearch_client import call
from assistant.aws.opensearch_schema import (
    PassageSchema,
    apply_schema,
    leave_older_schema,
    read_info,
    versions_of,
)
from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.documents import DocumentCard, IndexedDocument, IndexInfo, Passage, Span
from assistant.domain.errors import SearchUnavailableError
from assistant.stored_values import (
    card_from,
    card_values,
    from_microseconds,
    microseconds,
    unit_values,
    units_from,
    whole_text,
)

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch


UNLABELLED = "*"
"""Stands in ``visible_to`` of a row that every agent sees."""
DEFINES = "\t"
"""Between the short and the long form of an abbreviation."""

Kind = Literal["passage", "title"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a document, under its id."""

    row_id: str
    body: dict[str, Any]


def row_id(document_id: str, kind: Kind, ordinal: int) -> str:
    """Return the id of a row; no document id holds a "#"."""
    return f"{document_id}#{ordinal}" if kind == "passage" else f"{document_id}#title{ordinal}"


def document_id_of(row_id: str) -> str:
    return row_id.rpartition("#")[0]


def visibility_terms(labels: Iterable[str]) -> list[str]:
    """Return labels as ``visible_to`` holds them: the prefix keeps any label apart from ``UNLABELLED``."""
    return [f"={label}" for label in labels]


def rows_of(document: IndexedDocument, *, indexed_at: datetime) -> Iterator[Row]:
    """Yield the rows of a document, passages first. A document without passages has none."""
    if not document.passages:
        return
    for passage, vector in document.passages:
        yield passage_row(passage, vector, indexed_at=indexed_at)
    card = document.card
    asked = zip((card.title, *card.questions), document.title_vectors, strict=True)
    for ordinal, (text, vector) in enumerate(asked):
        name = row_id(card.document_id, "title", ordinal)
        body = _filtered("title", name, ordinal, card, indexed_at)
        body |= {"asked": text, "title_vector": vector, "leads": ordinal == 0}
        if ordinal == 0:
            body |= {
                "text": whole_text(passage for passage, _ in document.passages),
                "words": card.words,
                "abbreviations": [DEFINES.join(pair) for pair in card.abbreviations],
                "card": _packed(card_values(card)),
            }
        yield Row(name, body)


def passage_row(passage: Passage, vector: Sequence[float], *, indexed_at: datetime) -> Row:
    body = _filtered("passage", passage.passage_id, passage.ordinal, passage, indexed_at)
    body |= {
        "title": passage.title,
        "heading": passage.heading,
        "body": passage.text,
        "kept": _packed(_kept(passage)),
        "vector": vector,
    }
    return Row(passage.passage_id, body)


def passage_of(kept: str) -> Passage:
    """Return the passage that a row keeps (base64 without padding, as columns give it back).

    Raises ValueError, TypeError, KeyError or IndexError when it is something else.
    """
    row = _unpacked(kept)
    span = Span(*row["span"])
    return Passage(
        passage_id=row["passage_id"],
        document_id=row["document_id"],
        content_hash=row["content_hash"],
        ordinal=row["ordinal"],
        title=row["title"],
        heading=row["heading"],
        text=row["text"],
        span=span,
        token_count=row["token_count"],
        source=row["source"],
        type=row["type"],
        url=row["url"],
        updated_at=from_microseconds(row["updated_at_us"]),
        labels=tuple(row["labels"]),
        units=units_from(row["units"], text=row["text"], span=span),
    )


def card_of(kept: str) -> DocumentCard:
    """Return the card that a leading row keeps. Raises as ``passage_of``."""
    return card_from(_unpacked(kept))


def _filtered(
    kind: Kind, name: str, ordinal: int, of: Passage | DocumentCard, indexed_at: datetime
) -> dict[str, Any]:
    """Return what every row has."""
    return {
        "row_id": name,
        "kind": kind,
        "document_id": of.document_id,
        "ordinal": ordinal,
        "source": of.source,
        "type": of.type,
        "visible_to": visibility_terms(of.labels) if of.labels else [UNLABELLED],
        "updated_at_us": microseconds(of.updated_at),
        "indexed_at_us": microseconds(indexed_at),
    }


def _kept(passage: Passage) -> dict[str, Any]:
    return {
        "passage_id": passage.passage_id,
        "document_id": passage.document_id,
        "content_hash": passage.content_hash,
        "ordinal": passage.ordinal,
        "title": passage.title,
        "heading": passage.heading,
        "text": passage.text,
        "span": [passage.span.start, passage.span.end],
        "token_count": passage.token_count,
        "source": passage.source,
        "type": passage.type,
        "url": passage.url,
        "updated_at_us": microseconds(passage.updated_at),
        "labels": passage.labels,
        "units": unit_values(passage),
    }


def _packed(values: dict[str, Any]) -> str:
    return base64.b64encode(zlib.compress(orjson.dumps(values))).decode("ascii")


def _unpacked(kept: str) -> Any:
    packed = base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4))
    try:
        return orjson.loads(zlib.decompress(packed))
    except zlib.error as error:
        raise ValueError("not packed") from error


# Bulk writes whose items fail one by one: what was refused for load is sent again, the rest is named.


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


# The writing side of a tenant's passage index in OpenSearch.


MERGE_TIMEOUT_S = 300.0
_DOCUMENTS_A_QUESTION = 1000
"""Documents whose passages are looked up, or deleted, by one call: the domain takes 65,536 terms."""


class OpenSearchPassageIndex:
    """``PassageIndex`` of one tenant: writes ``<alias>-<schema.version>``, whatever the alias points at.

    With ``applies_schema`` the index, the pipeline and the alias are made on first use when they are not
    there (a laptop's worker); a deployment's were made before. One writer at a time: the tenant's worker.
    The client is shared and not closed here. All methods raise SearchUnavailableError.
    """

    def __init__(
        self,
        client: AsyncOpenSearch,
        *,
        alias: str,
        schema: PassageSchema,
        applies_schema: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._alias = alias
        self._schema = schema
        self._index = schema.index_name(alias)
        self._schema_due = applies_schema
        self._clock = clock or SystemClock()
        self._bulk = BulkWriter(client, index=self._index, clock=self._clock)

    async def replace_documents(self, documents: Sequence[IndexedDocument]) -> None:
        """Replace all rows of each document, visible to readers on return; one without passages has none.

        The index refreshes only here, so a reader sees old rows or new ones. When it raises, what was
        written becomes visible with the next write; the same call again puts everything right.
        """
        if not documents:
            return
        await self._prepare()
        self._check_dimensions(documents)
        operations = [operation for document in documents for operation in self._puts(document)]
        kept = {operation.row_id for operation in operations}
        names = [document.card.document_id for document in documents]
        operations += [
            BulkOperation.remove(name, document_id_of(name))
            for name in await self._row_ids(names)
            if name not in kept
        ]
        await self._bulk.write(operations)
        await self._refresh(self._index)

    async def delete_documents(self, document_ids: Sequence[str]) -> None:
        """Remove all rows of the documents from every version of the tenant's index, and refresh.

        They leave the disk with ``optimize``.
        """
        if not document_ids:
            return
        await self._prepare()
        for index in await versions_of(self._client, self._alias, timeout_s=CALL_TIMEOUT_S):
            await self._refresh(index)  # what a broken write left unseen is deleted too
            for start in range(0, len(document_ids), _DOCUMENTS_A_QUESTION):
                await self._delete(index, document_ids[start : start + _DOCUMENTS_A_QUESTION])

    async def optimize(self) -> None:
        """Rewrite the segments that hold deleted passages, in every version, so that nothing of them is
        left on disk but in the domain's snapshots.

        The domain keeps what was deleted in the last 30 s, for copies that catch up (its retention leases
        move so often, and no setting changes it): the next call takes it out.
        """
        await self._prepare()
        for index in await versions_of(self._client, self._alias, timeout_s=CALL_TIMEOUT_S):
            await self._refresh(index)
            await call(self._client, f"POST /{index}/_flush", timeout_s=MERGE_TIMEOUT_S)
            merge = f"POST /{index}/_forcemerge?only_expunge_deletes=true"
            await call(self._client, merge, timeout_s=MERGE_TIMEOUT_S)

    async def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        await self._prepare()
        found: set[str] = set()
        for start in range(0, len(document_ids), _DOCUMENTS_A_QUESTION):
            asked = list(document_ids[start : start + _DOCUMENTS_A_QUESTION])
            highest = await self._highest_ordinals(asked)
            kinds: dict[str, set[Kind]] = {}
            for name, kind in highest:
                kinds.setdefault(name, set()).add(kind)
            found |= {name for name, its in kinds.items() if "passage" in its and len(its) > 1}
        return frozenset(found)

    async def info(self) -> IndexInfo:
        await self._prepare()
        return await read_info(self._client, self._index, timeout_s=CALL_TIMEOUT_S)

    def _puts(self, document: IndexedDocument) -> list[BulkOperation]:
        name = document.card.document_id
        rows = rows_of(document, indexed_at=self._clock.now())
        return [BulkOperation.put(row.row_id, name, row.body) for row in rows]

    async def _prepare(self) -> None:
        if self._schema_due:
            await apply_schema(self._client, alias=self._alias, schema=self._schema)
            await leave_older_schema(self._client, alias=self._alias, schema=self._schema)
            self._schema_due = False

    def _check_dimensions(self, documents: Sequence[IndexedDocument]) -> None:
        for document in documents:
            for vector in (*document.title_vectors, *(vector for _, vector in document.passages)):
                if len(vector) != self._schema.dimensions:
                    raise SearchUnavailableError(
                        f"The index has {self._schema.dimensions} dimensions, a passage of "
                        f"{document.card.document_id} {len(vector)}."
                    )

    async def _row_ids(self, document_ids: Sequence[str]) -> list[str]:
        """Return the ids of all rows that the index may hold of the documents."""
        await self._refresh(self._index)
        found: list[str] = []
        for start in range(0, len(document_ids), _DOCUMENTS_A_QUESTION):
            highest = await self._highest_ordinals(document_ids[start : start + _DOCUMENTS_A_QUESTION])
            found += [
                row_id(name, kind, ordinal)
                for (name, kind), last in highest.items()
                for ordinal in range(last + 1)
            ]
        return found

    async def _highest_ordinals(self, document_ids: Sequence[str]) -> dict[tuple[str, Kind], int]:
        """Return the highest ordinal by document and kind of row."""
        last = {"last": {"max": {"field": "ordinal"}}}
        found = await call(
            self._client,
            f"POST /{self._index}/_search",
            body={
                "size": 0,
                "query": {"terms": {"document_id": list(document_ids)}},
                "aggs": {
                    "documents": {
                        "terms": {"field": "document_id", "size": len(document_ids)},
                        "aggs": {"kinds": {"terms": {"field": "kind"}, "aggs": last}},
                    }
                },
            },
            timeout_s=CALL_TIMEOUT_S,
        )
        return {
            (document["key"], kind["key"]): int(kind["last"]["value"])
            for document in found["aggregations"]["documents"]["buckets"]
            for kind in document["kinds"]["buckets"]
        }

    async def _delete(self, index: str, document_ids: Sequence[str]) -> None:
        done = await call(
            self._client,
            f"POST /{index}/_delete_by_query?refresh=true&conflicts=proceed",
            body={"query": {"terms": {"document_id": list(document_ids)}}},
            timeout_s=MERGE_TIMEOUT_S,
        )
        if done["version_conflicts"] or done["failures"]:
            raise SearchUnavailableError(
                f"{done['version_conflicts'] + len(done['failures'])} passages were not deleted; try again."
            )

    async def _refresh(self, index: str) -> None:
        await call(self._client, f"POST /{index}/_refresh", timeout_s=CALL_TIMEOUT_S)
