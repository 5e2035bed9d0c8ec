"""The writing side of a tenant's passage index in OpenSearch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant.aws.opensearch_bulk import BulkOperation, BulkWriter
from assistant.aws.opensearch_client import call
from assistant.aws.opensearch_info import read_info
from assistant.aws.opensearch_rows import Kind, document_id_of, row_id, rows_of
from assistant.aws.opensearch_schema import PassageSchema, apply_schema, leave_older_schema, versions_of
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import IndexedDocument, IndexInfo
from assistant.domain.errors import SearchUnavailableError

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

CALL_TIMEOUT_S = 60.0
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
