"""Puts what the embedded index holds into OpenSearch: embedding the same texts twice takes minutes."""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from opensearchpy import AsyncOpenSearch

from assistant.aws.opensearch_client import open_opensearch
from assistant.aws.opensearch_index import OpenSearchPassageIndex
from assistant.aws.opensearch_schema import PassageSchema, apply_schema, delete_index
from assistant.domain.documents import IndexedDocument
from assistant.embedded import passage_rows as rows
from assistant.model_artifacts import read_model_facts
from assistant.settings.tenant import load_tenant
from benchmarks.local_embedding import TENANT, BenchLayout

ALIAS = f"{TENANT}-passages"
_DOCUMENTS_A_WRITE = 200


async def copy_index(layout: BenchLayout, *, url: str) -> float | None:
    """Fill the alias's index with the embedded one's passages, and no others, unless it has as many already;
    return the seconds it took."""
    tenant = load_tenant(layout.tenants_dir / f"{TENANT}.toml")
    name, dimensions = tenant.embedding.model, tenant.embedding.dimensions
    digest = read_model_facts(layout.models_dir, name).digest
    version = rows.index_version(rows.IndexModel(name, dimensions, digest))
    folder = layout.state_dir / "tenants" / TENANT / "index" / version
    schema = PassageSchema(embedding_model=name, dimensions=dimensions, model_digest=digest)
    async with open_opensearch(url=url, auth="none") as client:
        return await _fill(client, schema, folder / rows.PASSAGES_FILE)


async def _fill(client: AsyncOpenSearch, schema: PassageSchema, file: Path) -> float | None:
    await apply_schema(client, alias=ALIAS, schema=schema)
    index = OpenSearchPassageIndex(client, alias=ALIAS, schema=schema)
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        passages, _ = rows.count_rows(connection)
        if (await index.info()).passage_count == passages:
            return None
        await delete_index(client, alias=ALIAS)  # another run's passages would be found too
        await apply_schema(client, alias=ALIAS, schema=schema)
        documents = _documents(connection)
        began_s = time.monotonic()
        while batch := list(islice(documents, _DOCUMENTS_A_WRITE)):
            await index.replace_documents(batch)
        await index.optimize()
        return time.monotonic() - began_s
    finally:
        connection.close()


def _documents(connection: sqlite3.Connection) -> Iterator[IndexedDocument]:
    passages = {entry.row: _floats(entry.vector) for entry in rows.passage_vectors(connection, None)}
    titles = {entry.row: _floats(entry.vector) for entry in rows.title_vectors(connection, None)}
    for document in rows.documents_of(connection, None, with_units=True):
        yield IndexedDocument(
            card=document.card,
            title_vectors=[titles[row] for row, _ in document.titles],
            passages=[(passage, passages[row]) for row, passage in document.passages],
        )


def _floats(vector: bytes) -> list[float]:
    return array("f", vector).tolist()
