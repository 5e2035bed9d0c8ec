"""The passage index on a real OpenSearch node.

Needs the fixture ``opensearch_url``, or to be in a process that a test with it started.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant.domain.documents import IndexModel
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.index.opensearch_schema import OpenSearchIndexVersions, PassageSchema, apply_schema
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from tests.contracts.aws_twins import tenant_name
from tests.contracts.embedded_twin import DIMENSIONS, EMBEDDING_MODEL
from tests.fakes.opensearch_index import delete_index
from tests.fakes.opensearch_node import node_url

SCHEMA = PassageSchema(model=IndexModel(EMBEDDING_MODEL, DIMENSIONS))


@dataclass
class OpenSearchTwin:
    index: OpenSearchPassageIndex
    search: OpenSearchPassageSearch
    versions: OpenSearchIndexVersions
    version: Callable[[IndexModel], OpenSearchPassageIndex]


@asynccontextmanager
async def open_opensearch_twin(place: Path) -> AsyncGenerator[OpenSearchTwin]:
    """Open the tenant's index; the first opener creates it and removes it in the end."""
    alias = f"{tenant_name(place)}-passages"
    async with open_opensearch(url=node_url(), auth="none") as client:
        first = not await call(client, f"HEAD /_alias/{alias}", timeout_s=30.0)
        await apply_schema(client, alias=alias, schema=SCHEMA)
        try:
            yield OpenSearchTwin(
                index=OpenSearchPassageIndex(client, alias=alias, schema=SCHEMA),
                search=OpenSearchPassageSearch(client, alias=alias, schema=SCHEMA),
                versions=OpenSearchIndexVersions(client, alias=alias, schema=SCHEMA),
                version=lambda model: OpenSearchPassageIndex(client, alias=alias, schema=_schema_of(model)),
            )
        finally:
            if first:
                await delete_index(client, alias=alias)


def _schema_of(model: IndexModel) -> PassageSchema:
    return PassageSchema(model=model)
