"""A tenant's index in OpenSearch: mapping, settings, search pipeline, alias, access and audit log.

``apply_schema`` creates them, for a laptop, a test and the deployment; readers and writers call it only when
their settings say so. An index is ``<alias>-<version>``, and the alias points at the one that is searched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from assistant.domain.documents import RRF_K, VECTOR_LEG_WEIGHT, IndexInfo, IndexModel
from assistant.domain.errors import ConflictError, SearchUnavailableError
from assistant.stores.index.opensearch_client import CALL_TIMEOUT_S, call, search
from assistant.stores.index.rows import from_microseconds
from assistant.tenant.deployed_names import PIPELINE, SCHEMA_VERSION, IndexAccess

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch


FIELD_BOOSTS = {"title": 0.75, "heading": 0.75, "body": 1.0}
"""As in ``embedded.index_writer``, which has their source."""
LONGEST_TOKEN_CHARS = 79
LEG_WEIGHTS = {"lexical": 1.0, "vector": VECTOR_LEG_WEIGHT}
"""Weights of the legs that find passages."""
HYBRID_WEIGHTS = {**LEG_WEIGHTS, "title": 1.0, "text": 1.0, "title_vector": 1.0}
"""In the order of the hybrid query's legs; a hybrid query takes at most five."""
CODES, TEXT_CODES = "codes", "text_codes"
"""Fields with the codes of a passage and of a whole text, each one term (``embedded_writer.CODES``)."""
_CODE = {"type": "text", "analyzer": "whitespace", "index_options": "freqs"}
_CODES = {CODES: _CODE, TEXT_CODES: _CODE}
"""An index that an earlier release created gets these fields without a new version: its rows have codes once
they are written again."""
_STOP_WORDS = "_english_"
"""Lucene's ``ENGLISH_STOP_WORDS_SET``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSchema:
    """One version of a tenant's index: whose vectors it holds, and how it is spread over data nodes."""

    model: IndexModel
    """Vectors of different weights cannot be compared, so its digest is part of the version's name."""
    shards: int = 1
    replicas: int = 0
    """A domain of three zones with standby requires 2, 5, …; one data node requires 0."""

    @property
    def version(self) -> str:
        """Return the stable name of the version, fit for the name of an index."""
        return f"v{SCHEMA_VERSION}-{self.model_version}"

    @property
    def model_version(self) -> str:
        """Return the part of the version that names the embedding model."""
        name, dimensions = self.model.name, self.model.dimensions
        parts = f"{name}\0{dimensions}\0{self.model.digest}"
        readable = re.sub(r"[^a-z0-9.-]+", "-", name.lower())[:60]
        return f"{readable}-{dimensions}-{sha256(parts.encode()).hexdigest()[:8]}"

    def index_name(self, alias: str) -> str:
        return f"{alias}-{self.version}"


def index_body(schema: PassageSchema, *, alias: str) -> dict[str, Any]:
    """Return settings and mapping of a new index. It stores ``alias``: aliases may share a prefix."""
    return {
        "settings": {
            "index": {
                "knn": True,
                "number_of_shards": schema.shards,
                "number_of_replicas": schema.replicas,
                "refresh_interval": "-1",  # each write refreshes at its end: readers see it whole
                "merge.policy.expunge_deletes_allowed": 0,  # percent: merges remove withdrawn text
            },
            "analysis": _analysis(),
        },
        "mappings": {
            "dynamic": "strict",
            "_source": {"enabled": False},
            "_meta": {
                "schema_version": SCHEMA_VERSION,
                "alias": alias,
                "index_version": schema.version,
                "embedding_model": schema.model.name,
                "dimensions": schema.model.dimensions,
                "model_digest": schema.model.digest,
            },
            "properties": _properties(schema),
        },
    }


def pipeline_body() -> dict[str, Any]:
    """Return the search pipeline: weighted reciprocal rank fusion of the legs.

    The legs of documents contain no passage, so they change no passage's score. OpenSearch requires weights
    that add up to 1, so its scores are ours times a constant.
    """
    total = sum(HYBRID_WEIGHTS.values())
    weights = [weight / total for weight in HYBRID_WEIGHTS.values()]
    return {
        "description": "Fuses the legs of a hybrid query by reciprocal rank.",
        "phase_results_processors": [
            {
                "score-ranker-processor": {
                    "combination": {
                        "technique": "rrf",
                        "rank_constant": RRF_K,
                        "parameters": {"weights": weights},
                    }
                }
            }
        ],
    }


async def apply_schema(client: AsyncOpenSearch, *, alias: str, schema: PassageSchema) -> None:
    """Create the pipeline, the version's index or its newer fields, and a missing alias. Safe to repeat.

    An alias of another version stays unchanged until ``swap_alias``. Raises SearchUnavailableError.
    """
    index = schema.index_name(alias)
    await call(client, f"PUT /_search/pipeline/{PIPELINE}", body=pipeline_body())
    body = index_body(schema, alias=alias)
    await call(client, f"PUT /{index}", body=body, tolerated=("resource_already_exists_exception",))
    _, meta = await _index_behind(client, index)
    if meta.get("alias") != alias:
        raise SearchUnavailableError(f"The index {index} exists and belongs to another alias.")
    await call(client, f"PUT /{index}/_mapping", body={"properties": _CODES})
    if not await call(client, f"HEAD /_alias/{alias}"):
        await swap_alias(client, alias=alias, schema=schema)


async def swap_alias(client: AsyncOpenSearch, *, alias: str, schema: PassageSchema) -> None:
    """Point the alias at this version only, in one step.

    Raises SearchUnavailableError, also when the version's index does not exist.
    """
    actions = [
        {"remove": {"index": f"{alias}-*", "alias": alias, "must_exist": False}},
        {"add": {"index": schema.index_name(alias), "alias": alias}},
    ]
    await call(client, "POST /_aliases", body={"actions": actions})


async def leave_older_schema(client: AsyncOpenSearch, *, alias: str, schema: PassageSchema) -> None:
    """Point the alias at this version when its index has another schema version, which readers cannot read.

    An index of other vectors stays until ``swap_alias``. Raises SearchUnavailableError.
    """
    _, meta = await _index_behind(client, alias)
    if meta.get("schema_version") != SCHEMA_VERSION:
        await swap_alias(client, alias=alias, schema=schema)


async def versions_of(client: AsyncOpenSearch, alias: str) -> list[str]:
    """Return the names of all indices created for this alias."""
    mappings = await call(
        client,
        f"GET /{alias}-v*/_mapping",
        params={"filter_path": "*.mappings._meta", "allow_no_indices": "true"},
    )
    return sorted(
        name for name, entry in mappings.items() if entry["mappings"]["_meta"].get("alias") == alias
    )


class OpenSearchIndexVersions:
    """``IndexVersions`` behind one alias. ``schema`` has shards and replicas; each version has its own model.

    Versions of another schema are not listed: this release can neither read nor write them. Creating,
    switching and dropping need permissions that no service and no worker has on AWS: only the function that
    reindexes (``allow_index``).
    """

    def __init__(self, client: AsyncOpenSearch, *, alias: str, schema: PassageSchema) -> None:
        self._client = client
        self._alias = alias
        self._schema = schema

    def name_of(self, model: IndexModel) -> str:
        return replace(self._schema, model=model).version

    async def live(self) -> str:
        index, _ = await _index_behind(self._client, self._alias)
        return index.removeprefix(f"{self._alias}-")

    async def kept(self) -> Sequence[str]:
        live, prefix = await self.live(), f"{self._alias}-"
        versions = await versions_of(self._client, self._alias)
        names = [name.removeprefix(prefix) for name in versions]
        readable = [name for name in names if name != live and name.startswith(f"v{SCHEMA_VERSION}-")]
        return [live, *readable]

    async def rows_of(self, document_id: str) -> Mapping[str, int]:
        """As the port says, and of versions of other schemas."""
        live, prefix = await self.live(), f"{self._alias}-"
        names = {name.removeprefix(prefix) for name in await versions_of(self._client, self._alias)}
        body = {"query": {"term": {"document_id": document_id}}}
        rows: dict[str, int] = {}
        for name in (live, *sorted(names - {live})):
            counted = await call(self._client, f"POST /{prefix}{name}/_count", body=body)
            rows[name] = int(counted["count"])
        return rows

    async def create(self, model: IndexModel) -> None:
        await apply_schema(self._client, alias=self._alias, schema=replace(self._schema, model=model))

    async def switch(self, to: str, *, live: str) -> None:
        actions = [
            {"remove": {"index": f"{self._alias}-{live}", "alias": self._alias, "must_exist": True}},
            {"add": {"index": f"{self._alias}-{to}", "alias": self._alias}},
        ]
        tolerated = ("aliases_not_found_exception",)
        if await call(self._client, "POST /_aliases", body={"actions": actions}, tolerated=tolerated) is None:
            raise ConflictError(f"The live index is {await self.live()}, not {live}. Start again.")

    async def drop(self, name: str) -> None:
        if name == await self.live():
            raise ConflictError(f"The index {name} is live and cannot be dropped.")
        await call(self._client, f"DELETE /{self._alias}-{name}", tolerated=("index_not_found_exception",))


async def _index_behind(
    client: AsyncOpenSearch, name: str, *, timeout_s: float = CALL_TIMEOUT_S
) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the metadata of the index that a name or alias points at."""
    mappings = await call(client, f"GET /{name}/_mapping", timeout_s=timeout_s)
    if len(mappings) != 1:
        raise SearchUnavailableError(f"The alias {name} points at {len(mappings)} indices, not one.")
    ((index, entry),) = mappings.items()
    return index, entry["mappings"].get("_meta", {})


def _properties(schema: PassageSchema) -> dict[str, Any]:
    text = {"type": "text", "analyzer": "english_words", "index_options": "freqs"}
    keyword = {"type": "keyword"}
    vector = {
        "type": "knn_vector",
        "dimension": schema.model.dimensions,
        "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
    }
    return {
        **dict.fromkeys((*FIELD_BOOSTS, "asked", "text"), text),
        **_CODES,
        **dict.fromkeys(("vector", "title_vector"), vector),
        **dict.fromkeys(("row_id", "kind", "document_id", "source", "type", "visible_to"), keyword),
        **{name: {"type": "keyword", "index": False} for name in ("words", "abbreviations")},
        **{name: {"type": "long"} for name in ("ordinal", "updated_at_us", "indexed_at_us")},
        "leads": {"type": "boolean"},
        **{name: {"type": "binary", "doc_values": True} for name in ("kept", "card")},
    }


def _analysis() -> dict[str, Any]:
    """Return the analyzer: letters and digits as tokens, lower case, no accents, no stop words, stems.

    The steps are the embedded engine's, so that both find the same.
    """
    return {
        "tokenizer": {"letters_and_digits": {"type": "pattern", "pattern": "[^\\p{IsAlphabetic}\\p{N}]+"}},
        "filter": {
            "not_too_long": {"type": "length", "max": LONGEST_TOKEN_CHARS},
            "english_stop": {"type": "stop", "stopwords": _STOP_WORDS},
            "english_stem": {"type": "stemmer", "language": "porter2"},
        },
        "analyzer": {
            "english_words": {
                "type": "custom",
                "tokenizer": "letters_and_digits",
                "filter": ["not_too_long", "lowercase", "asciifolding", "english_stop", "english_stem"],
            }
        },
    }


_TIMEOUT_S = 30.0
_API = "/_plugins/_security/api"
_SEEN = [
    "indices:data/read/*",
    "indices:admin/mappings/get",
    "indices:admin/get",
    "indices:admin/aliases/get",
]
_INDEX_ACTIONS: dict[IndexAccess, list[str]] = {
    "read": _SEEN,
    "write": [
        *_SEEN,
        "indices:data/write/*",
        "indices:admin/refresh*",
        "indices:admin/flush*",
        "indices:admin/forcemerge*",
    ],
    "reindex": [*_SEEN, "indices:data/write/*", "indices:admin/*"],
}
_CLUSTER_ACTIONS: dict[IndexAccess, list[str]] = {
    "read": [],
    # Of a bulk write and of a deletion by query, which pages through what it deletes.
    "write": ["indices:data/write/bulk", "indices:data/read/scroll", "indices:data/read/scroll/clear"],
    "reindex": ["indices:data/write/bulk", "indices:data/read/scroll*", "cluster:admin/search/pipeline/put"],
}


async def allow_index(
    client: AsyncOpenSearch, *, role: str, alias: str, access: IndexAccess, iam_role_arns: Sequence[str]
) -> None:
    """Create the domain's role ``role`` for all versions of one tenant's index, and map IAM roles to it.

    A call of the security plugin, which only the domain's master may make:
    https://docs.opensearch.org/latest/security/access-control/api/
    Only ``reindex`` may create, delete or change an index, its alias or the pipeline. Raises
    SearchUnavailableError.
    """
    body = {
        "description": f"{access} {alias}",
        "cluster_permissions": _CLUSTER_ACTIONS[access],
        "index_permissions": [
            {"index_patterns": [alias, f"{alias}-v*"], "allowed_actions": _INDEX_ACTIONS[access]}
        ],
    }
    await call(client, f"PUT {_API}/roles/{role}", body=body, timeout_s=_TIMEOUT_S)
    mapping = {"backend_roles": list(iam_role_arns), "hosts": [], "users": []}
    await call(client, f"PUT {_API}/rolesmapping/{role}", body=mapping, timeout_s=_TIMEOUT_S)


async def forbid_index(client: AsyncOpenSearch, *, role: str) -> None:
    """Delete the mapping and the role, if they exist. Raises SearchUnavailableError."""
    for kind in ("rolesmapping", "roles"):
        await call(client, f"DELETE {_API}/{kind}/{role}", timeout_s=_TIMEOUT_S, tolerated=("404",))


async def configure_audit(client: AsyncOpenSearch) -> None:
    """Log refused and unsigned calls, and every change of security and of indices, without bodies: they
    contain questions and passages. Raises SearchUnavailableError.

    https://docs.opensearch.org/latest/security/audit-logs/index/
    """
    await call(client, f"PUT {_API}/audit/config", body=_audit(), timeout_s=_TIMEOUT_S)


def _audit() -> dict[str, Any]:
    granted = ["AUTHENTICATED", "GRANTED_PRIVILEGES"]
    return {
        "enabled": True,
        "audit": {
            "enable_rest": True,
            "disabled_rest_categories": granted,  # each search would be a line
            "enable_transport": True,
            "disabled_transport_categories": granted,
            "log_request_body": False,
            "resolve_indices": True,
            "resolve_bulk_requests": False,
            "exclude_sensitive_headers": True,
            "ignore_users": [],
            "ignore_requests": [],
        },
        "compliance": {
            "enabled": True,
            "internal_config": True,
            "external_config": False,
            "read_metadata_only": True,
            "read_watched_fields": {},
            "read_ignore_users": [],
            "write_metadata_only": True,
            "write_log_diffs": False,
            "write_watched_indices": [],
            "write_ignore_users": [],
        },
    }


async def read_info(client: AsyncOpenSearch, name: str, *, timeout_s: float = CALL_TIMEOUT_S) -> IndexInfo:
    """Return counts and metadata of the index behind a name or an alias, as searches see it.

    ``updated_at`` is when its newest passage was written. Raises SearchUnavailableError.
    """
    _, meta = await _index_behind(client, name, timeout_s=timeout_s)
    body = {
        "size": 0,
        "aggs": {
            "passages": {"filter": {"term": {"kind": "passage"}}},
            # by their leading rows: a count of distinct ids is exact only for some thousands
            "documents": {"filter": {"term": {"leads": True}}},
            "written": {"max": {"field": "indexed_at_us"}},
        },
    }
    hits = await search(client, name, body, timeout_s=timeout_s)
    try:
        written = hits["aggregations"]["written"]["value"]
        return IndexInfo(
            index_version=meta["index_version"],
            embedding_model=meta["embedding_model"],
            dimensions=meta["dimensions"],
            passage_count=hits["aggregations"]["passages"]["doc_count"],
            document_count=hits["aggregations"]["documents"]["doc_count"],
            updated_at=None if written is None else from_microseconds(int(written)),
        )
    except (KeyError, TypeError) as error:
        raise SearchUnavailableError(f"The index {name} was not made by this product ({error!r}).") from None
