"""What an index was built with and holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.adapters.index_values import from_microseconds
from assistant.aws.opensearch_client import call
from assistant.aws.opensearch_schema import read_meta
from assistant.domain.documents import IndexInfo
from assistant.domain.errors import SearchUnavailableError

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch


async def read_info(client: AsyncOpenSearch, name: str, *, timeout_s: float) -> IndexInfo:
    """Return what the index behind a name or an alias holds, as searches see it.

    ``updated_at`` is when its newest passage was written. Raises SearchUnavailableError.
    """
    meta = await read_meta(client, name, timeout_s=timeout_s)
    found = await call(
        client,
        f"POST /{name}/_search",
        body={
            "size": 0,
            "aggs": {
                "passages": {"filter": {"term": {"kind": "passage"}}},
                # by their leading rows: a count of different names is exact only for some thousand
                "documents": {"filter": {"term": {"leads": True}}},
                "written": {"max": {"field": "indexed_at_us"}},
            },
        },
        timeout_s=timeout_s,
    )
    try:
        written = found["aggregations"]["written"]["value"]
        return IndexInfo(
            index_version=meta["index_version"],
            embedding_model=meta["embedding_model"],
            dimensions=meta["dimensions"],
            passage_count=found["aggregations"]["passages"]["doc_count"],
            document_count=found["aggregations"]["documents"]["doc_count"],
            updated_at=None if written is None else from_microseconds(int(written)),
        )
    except (KeyError, TypeError) as error:
        raise SearchUnavailableError(f"The index {name} is none of this product ({error!r}).") from None
