"""Deletes what a test made on an OpenSearch node."""

from __future__ import annotations

from opensearchpy import AsyncOpenSearch

from assistant.stores.index.opensearch_client import call
from assistant.stores.index.opensearch_schema import versions_of


async def delete_index(client: AsyncOpenSearch, *, alias: str) -> None:
    """Delete every version of the tenant's index, if there is one."""
    for name in await versions_of(client, alias):
        await call(client, f"DELETE /{name}", tolerated=("index_not_found_exception",))
