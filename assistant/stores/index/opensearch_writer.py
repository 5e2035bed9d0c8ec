"""The rows of a tenant's passage index in OpenSearch, and the writing side of it.

A row is a passage, or a document's title or one of its questions. The row of the title leads: it has the
document's card, words and whole text. Fields are for searching only. What a search returns is in the binary
columns ``kept`` (a passage) and ``card`` (a document), compressed: reading stored fields of both legs costs
the domain 10 ms a search, columns 1 ms (decision 0008). Only passages that are returned are decompressed.

Example, the document ``refill`` with the title "Refill", one question and two passages has four rows::

    refill#0, refill#1      kind passage: title, heading, body, vector, kept
    refill#title0           kind title, leads: asked "Refill", title_vector, text, words, abbreviations, card
    refill#title1           kind title: asked, the question, and title_vector
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import orjson

from assistant.domain.clock import Clock, Deadline, SystemClock, back_off_s
from assistant.domain.documents import (
    DocumentCard,
    HeldContent,
    IndexedDocument,
    IndexInfo,
    Passage,
    StoredDocument,
)
from assistant.domain.errors import SearchUnavailableError
from assistant.stores.index.opensearch_client import call, field_values, reading_response, search, stored_rows
from assistant.stores.index.opensearch_schema import (
    PassageSchema,
    apply_schema,
    leave_older_schema,
    read_info,
    versions_of,
)
from assistant.stores.index.rows import (
    card_from,
    card_values,
    document_id_of,
    microseconds,
    passage_from,
    passage_values,
    visibility,
    whole_text,
)
from assistant.text.codes import codes_in

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

DEFINES = "\t"
"""Between the short and the long form of an abbreviation."""
MERGE_TIMEOUT_S = 300.0
"""Timeout of a flush, a merge and a deletion, which may take minutes in a large index."""
MOST_BYTES_A_CALL = 1_000_000
"""Most bytes of one body: the HTTP client sends it without blocking the loop. A small node takes 10 MiB."""
RETRIES_WITHIN_S = 60.0
"""How long rows that were refused for load are retried."""
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
# HTTP statuses of one operation of a bulk call.
_OVERLOADED = 429
_ABSENT = 404
_NAMED_IN_ERRORS = 5
"""Documents that an error's message names; it counts the others (``_document_names``)."""
_ROWS_A_CALL = 2_000
"""Rows of one search of ``stored_rows``."""
_IDS_A_PAGE = 5_000
"""Document ids of one page of ``document_ids``."""
_DOCUMENTS_A_CALL = 1000
"""Document ids of one search or deletion: the domain takes 65,536 terms."""

Kind = Literal["passage", "title"]
"""The field ``kind`` of a row."""


Row = dict[str, Any]
"""The fields of a row; ``row_id`` is ``<document_id>#<ordinal>`` or ``<document_id>#title<ordinal>``."""


def rows_of(document: IndexedDocument, *, indexed_at: datetime) -> Iterator[Row]:
    """Yield the rows of a document, passages first. A document without passages has none."""
    if not document.passages:
        return
    for passage, vector in document.passages:
        yield passage_row(passage, vector, indexed_at=indexed_at)
    card = document.card
    texts = zip((card.title, *card.questions), document.title_vectors, strict=True)
    for ordinal, (text, vector) in enumerate(texts):
        row = _row("title", f"{card.document_id}#title{ordinal}", ordinal, card, indexed_at)
        row.update(asked=text, title_vector=vector, leads=ordinal == 0)
        if ordinal == 0:
            whole = whole_text(passage for passage, _ in document.passages)
            row.update(
                text=whole,
                text_codes=_codes(whole),
                words=card.words,
                abbreviations=[DEFINES.join(pair) for pair in card.abbreviations],
                card=_compress(card_values(card)),
            )
        yield row


def passage_row(passage: Passage, vector: Sequence[float], *, indexed_at: datetime) -> Row:
    """Return the row of a passage."""
    row = _row("passage", passage.passage_id, passage.ordinal, passage, indexed_at)
    row.update(
        title=passage.title,
        heading=passage.heading,
        body=passage.text,
        codes=_codes(passage.title, passage.heading, passage.text),
        kept=_compress(passage_values(passage)),
        vector=vector,
    )
    return row


def _codes(*texts: str) -> str:
    """Return the codes of texts as the columns of codes have them: a blank between two."""
    return " ".join(code for text in texts for code in codes_in(text))


def passage_of(column: str) -> Passage:
    """Return the passage of the column ``kept`` (base64 without padding, as the domain returns columns).

    Raises ValueError, TypeError, KeyError or IndexError for other values.
    """
    return passage_from(_decompress(column))


def card_of(column: str) -> DocumentCard:
    """Return the card of the column ``card``. Raises as ``passage_of``."""
    return card_from(_decompress(column))


async def documents_in(
    rows: AsyncIterable[Mapping[str, Any]],
    *,
    card_of: Callable[[str], DocumentCard] = card_of,
    passage_of: Callable[[str], Passage] = passage_of,
) -> dict[str, StoredDocument]:
    """Return by id the documents of rows with the columns ``card`` and ``kept``, as ``stored_rows`` yields
    them: in order. A document without a row with its card is left out. ``card_of`` and ``passage_of`` may be
    cached versions."""
    cards: dict[str, DocumentCard] = {}
    passages: dict[str, list[Passage]] = {}
    async for fields in rows:
        with reading_response():
            if "card" in fields:
                card = card_of(fields["card"][0])
                cards[card.document_id] = card
            elif "kept" in fields:
                passage = passage_of(fields["kept"][0])
                passages.setdefault(passage.document_id, []).append(passage)
    return {name: StoredDocument(card, tuple(passages.get(name, ()))) for name, card in cards.items()}


def _row(kind: Kind, name: str, ordinal: int, source: Passage | DocumentCard, indexed_at: datetime) -> Row:
    """Return a row with the fields that every row has; ``name``: its row_id."""
    return {
        "row_id": name,
        "kind": kind,
        "document_id": source.document_id,
        "ordinal": ordinal,
        "source": source.source,
        "type": source.type,
        "visible_to": visibility(source.labels),
        "updated_at_us": microseconds(source.updated_at),
        "indexed_at_us": microseconds(indexed_at),
    }


def _compress(values: dict[str, Any]) -> str:
    """Return the content of a binary column, in base64 as the domain takes it."""
    return base64.b64encode(zlib.compress(orjson.dumps(values))).decode("ascii")


def _decompress(column: str) -> Any:
    """Return the values of a binary column. The domain returns base64 for addresses, without padding."""
    compressed = base64.urlsafe_b64decode(column + "=" * (-len(column) % 4))
    try:
        return orjson.loads(zlib.decompress(compressed))
    except zlib.error as error:
        raise ValueError("not compressed") from error


class OpenSearchPassageIndex:
    """``PassageIndex`` of one tenant: writes ``<alias>-<schema.version>``, whatever the alias points at.

    With ``applies_schema`` it creates index, pipeline and alias on first use where they are missing (a
    laptop's worker); a deployment creates them before. One writer at a time: the tenant's worker. The client
    is shared and not closed here. All methods raise SearchUnavailableError.
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

    async def replace_documents(self, documents: Sequence[IndexedDocument]) -> None:
        """Replace all rows of each document, visible to readers on return; a document without passages loses
        all.

        The index refreshes only in this class's methods, so readers see old rows until all new ones are
        written. When it raises, the rows that were written become visible with the next write; repeat the
        call.
        """
        if not documents:
            return
        await self._prepare()
        self._check_dimensions(documents)
        operations = [
            _Operation.put(row)
            for document in documents
            for row in rows_of(document, indexed_at=self._clock.now())
        ]
        # Rows of the former content that the new one does not overwrite.
        overwritten = {operation.row_id for operation in operations}
        stored_row_ids = await self._row_ids([document.card.document_id for document in documents])
        operations += [_Operation.remove(name) for name in stored_row_ids if name not in overwritten]
        for batch in _batches(operations):
            await self._write(batch)
        await self._refresh(self._index)

    async def delete_documents(self, document_ids: Sequence[str]) -> None:
        """Remove all rows of the documents from every version of the tenant's index, and refresh.

        ``optimize`` removes them from the disk.
        """
        if not document_ids:
            return
        await self._prepare()
        for index in await versions_of(self._client, self._alias):
            await self._refresh(index)  # a deletion finds only visible rows: also those of a failed write
            for chunk in _chunks(document_ids):
                await self._delete(index, chunk)

    async def discard(self, document_ids: Sequence[str]) -> None:
        """Remove all rows of the documents from this version alone, which a reindex fills.

        ``delete_documents``, for withdrawn documents, removes them from every version.
        """
        await self._refresh(self._index)
        for chunk in _chunks(document_ids):
            await self._delete(self._index, chunk)

    async def optimize(self) -> None:
        """Rewrite the segments that hold deleted passages, in every version, so that only the domain's
        snapshots still hold them.

        OpenSearch retains deletes for 30 s, for copies that catch up (no setting changes its retention
        leases): the next call removes those.
        """
        await self._prepare()
        for index in await versions_of(self._client, self._alias):
            await self._refresh(index)
            await call(self._client, f"POST /{index}/_flush", timeout_s=MERGE_TIMEOUT_S)
            merge = f"POST /{index}/_forcemerge?only_expunge_deletes=true"
            await call(self._client, merge, timeout_s=MERGE_TIMEOUT_S)

    async def share(self) -> None:
        """Do nothing: the domain takes writes of every process. The worker calls this regularly, so
        that a store with a lock on its files (``EmbeddedPassageIndex``) lets a reindex write meanwhile."""

    async def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the documents that have rows of both kinds: one search counts them, and reads no
        row. ``contents`` reads the cards, too."""
        await self._prepare()
        both = {"passage", "title"}
        kinds = await self._rows_by_kind(document_ids)
        return frozenset(name for name, counts in kinds.items() if both <= counts.keys())

    async def document_ids(self) -> Sequence[str]:
        values = field_values(self._search, "document_id", values_a_call=_IDS_A_PAGE)
        return [value async for value, _ in values]

    async def contents(self, document_ids: Sequence[str]) -> Mapping[str, HeldContent]:
        """Return by id the content hash and the number of passages of each document that has its card and at
        least one passage: what a reindex compares. Unlike ``held`` it reads the cards."""
        kinds = await self._rows_by_kind(document_ids)
        contents: dict[str, HeldContent] = {}
        for chunk in _chunks(document_ids):
            leading = {"bool": {"filter": [{"terms": {"document_id": chunk}}, {"term": {"leads": True}}]}}
            rows = stored_rows(self._search, leading, "card", rows_a_call=_ROWS_A_CALL)
            for name, document in (await documents_in(rows)).items():
                if passage_count := kinds.get(name, {}).get("passage"):
                    contents[name] = HeldContent(document.card.content_hash, passage_count)
        return contents

    async def read(self, document_ids: Sequence[str]) -> Sequence[StoredDocument]:
        documents: list[StoredDocument] = []
        for chunk in _chunks(document_ids):
            query = {"terms": {"document_id": chunk}}
            rows = stored_rows(self._search, query, "card", "kept", rows_a_call=_ROWS_A_CALL)
            documents += (await documents_in(rows)).values()
        return documents

    async def info(self) -> IndexInfo:
        await self._prepare()
        return await read_info(self._client, self._index)

    async def _prepare(self) -> None:
        """Apply the schema at the first call, where this process does so (``applies_schema``).

        Every method that the worker may call first begins with it. ``discard``, ``document_ids``,
        ``contents`` and ``read`` do not: a reindex calls them, which never applies a schema, and a restore
        after it has written.
        """
        if self._schema_due:
            await apply_schema(self._client, alias=self._alias, schema=self._schema)
            await leave_older_schema(self._client, alias=self._alias, schema=self._schema)
            self._schema_due = False

    def _check_dimensions(self, documents: Sequence[IndexedDocument]) -> None:
        for document in documents:
            for vector in (*document.title_vectors, *(vector for _, vector in document.passages)):
                has, given = self._schema.model.dimensions, len(vector)
                if given != has:
                    raise SearchUnavailableError(
                        f"The index has {has} dimensions, a passage of {document.card.document_id} {given}."
                    )

    async def _row_ids(self, document_ids: Sequence[str]) -> list[str]:
        """Return the ids of all rows that the index holds of the documents."""
        await self._refresh(self._index)
        names: list[str] = []
        for chunk in _chunks(document_ids):
            query = {"terms": {"document_id": chunk}}
            rows = stored_rows(self._search, query, "row_id", rows_a_call=_ROWS_A_CALL)
            names += [fields["row_id"][0] async for fields in rows]
        return names

    async def _rows_by_kind(self, document_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return how many rows of each kind each document has: {"refill": {"passage": 2, "title": 2}}."""
        counts: dict[str, dict[str, int]] = {}
        for chunk in _chunks(document_ids):
            kinds = {"kinds": {"terms": {"field": "kind"}}}
            by_document = {"terms": {"field": "document_id", "size": len(chunk)}, "aggs": kinds}
            query = {"terms": {"document_id": chunk}}
            response = await self._search({"size": 0, "query": query, "aggs": {"documents": by_document}})
            for document in response["aggregations"]["documents"]["buckets"]:
                rows = document["kinds"]["buckets"]
                counts[document["key"]] = {kind["key"]: int(kind["doc_count"]) for kind in rows}
        return counts

    async def _search(self, body: Mapping[str, Any]) -> Any:
        return await search(self._client, self._index, body)

    async def _delete(self, index: str, document_ids: list[str]) -> None:
        """Delete all visible rows of the documents. Raises SearchUnavailableError where one is left."""
        done = await call(
            self._client,
            f"POST /{index}/_delete_by_query?refresh=true&conflicts=proceed",
            body={"query": {"terms": {"document_id": document_ids}}},
            timeout_s=MERGE_TIMEOUT_S,
        )
        if done["version_conflicts"] or done["failures"]:
            left = done["version_conflicts"] + len(done["failures"])
            raise SearchUnavailableError(f"{left} passages were not deleted. Retry.")

    async def _refresh(self, index: str) -> None:
        """Make written rows visible."""
        await call(self._client, f"POST /{index}/_refresh")

    async def _write(self, batch: Sequence[_Operation]) -> None:
        """Write a batch; deleting a missing row is no failure. Operations that were refused for load are
        retried.

        Raises SearchUnavailableError naming the documents that were not written: with ``retry_after_s`` when
        the domain was overloaded for longer than RETRIES_WITHIN_S.
        """
        deadline = Deadline.after(RETRIES_WITHIN_S, clock=self._clock)
        attempts = count()
        while batch := await self._write_once(batch):
            wait_s = back_off_s(next(attempts), first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
            if wait_s >= deadline.remaining_s():
                raise SearchUnavailableError(
                    f"The passage index was overloaded and did not take {_document_names(batch)}.",
                    retry_after_s=5.0,
                )
            await asyncio.sleep(wait_s)

    async def _write_once(self, batch: Sequence[_Operation]) -> Sequence[_Operation]:
        """Send the batch; return the operations to retry."""
        try:
            response = await call(
                self._client,
                f"POST /{self._index}/_bulk",
                body=b"".join(operation.lines for operation in batch),
                params={"filter_path": "errors,items.*.status,items.*.error.type"},
            )
        except SearchUnavailableError as error:
            if error.retry_after_s is None:
                raise
            return batch  # the whole call was refused for load
        return _refused_for_load(response, batch)


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation of a bulk call: two lines of its body for a row, one for a deletion."""

    row_id: str
    lines: bytes
    removes: bool = False

    @classmethod
    def put(cls, row: Row) -> _Operation:
        action = orjson.dumps({"index": {"_id": row["row_id"]}})
        return cls(row["row_id"], b"%b\n%b\n" % (action, orjson.dumps(row)))

    @classmethod
    def remove(cls, row_id: str) -> _Operation:
        action = orjson.dumps({"delete": {"_id": row_id}})
        return cls(row_id, action + b"\n", removes=True)


def _refused_for_load(response: Any, batch: Sequence[_Operation]) -> list[_Operation]:
    """Return the operations of a batch that were refused for load. Raises SearchUnavailableError where one
    failed for another reason.

    A response: ``{"errors": true, "items": [{"index": {"status": 429, "error": {"type": "…"}}}, …]}``, in
    order.
    """
    with reading_response():
        if not response["errors"]:
            return []
        results: list[Mapping[str, Any]] = [result for item in response["items"] for result in item.values()]
        outcomes = [(operation, result["status"]) for operation, result in zip(batch, results, strict=True)]
        kinds = {str(result["error"]["type"]) for result in results if "error" in result}
    failed = [
        operation
        for operation, status in outcomes
        if status >= 300 and status != _OVERLOADED and not (status == _ABSENT and operation.removes)
    ]
    if failed:
        raise SearchUnavailableError(
            f"The passage index refused {_document_names(failed)}: {', '.join(sorted(kinds))}."
        )
    return [operation for operation, status in outcomes if status == _OVERLOADED]


def _document_names(operations: Sequence[_Operation]) -> str:
    """Return the documents of operations for a message: "a, b, c, d, e and 3 more"."""
    names = list(dict.fromkeys(document_id_of(operation.row_id) for operation in operations))
    more = f" and {len(names) - _NAMED_IN_ERRORS} more" if len(names) > _NAMED_IN_ERRORS else ""
    return f"{', '.join(names[:_NAMED_IN_ERRORS])}{more}"


def _batches(operations: Sequence[_Operation]) -> Iterator[list[_Operation]]:
    """Yield the operations in batches of at most MOST_BYTES_A_CALL; a larger operation is a batch of its
    own."""
    batch: list[_Operation] = []
    size = 0
    for operation in operations:
        if batch and size + len(operation.lines) > MOST_BYTES_A_CALL:
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += len(operation.lines)
    if batch:
        yield batch


def _chunks(document_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ids in lists of at most _DOCUMENTS_A_CALL."""
    for start in range(0, len(document_ids), _DOCUMENTS_A_CALL):
        yield list(document_ids[start : start + _DOCUMENTS_A_CALL])
