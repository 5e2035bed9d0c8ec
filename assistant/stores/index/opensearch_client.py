"""The client of an OpenSearch domain: its calls, pages of results, and failures as the product's errors."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import orjson
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError
from opensearchpy import AsyncHttpConnection, AsyncOpenSearch
from opensearchpy.exceptions import ConnectionError as UnreachableError
from opensearchpy.exceptions import ConnectionTimeout, SerializationError, TransportError
from opensearchpy.helpers.asyncsigner import AWSV4SignerAsyncAuth
from opensearchpy.serializer import Serializer

from assistant.domain.errors import ConfigurationError, SearchUnavailableError

CONNECTIONS = 64
"""Most connections of a process; more calls wait."""
CALL_TIMEOUT_S = 60.0
"""Limit of a call that names no other."""
_SERVICE = "es"
"""The service's name in a signature (SigV4): managed domains are ``es``."""
# The only fields of a search's response that the domain sends.
_RESPONSE_FIELDS = (
    "timed_out,aggregations,hits.hits._index,hits.hits.fields,hits.hits.matched_queries,hits.hits.sort"
)
Search = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""``search`` bound to a client and an index: makes one search with this body, returns its response."""
# Finds index_not_found_exception in {"error": {"type": "index_not_found_exception", …}}.
_ERROR_TYPE = re.compile(r'"type"\s*:\s*"([a-z_]{1,60})"')


@asynccontextmanager
async def open_opensearch(
    *, url: str, auth: Literal["sigv4", "none"], region: str = ""
) -> AsyncGenerator[AsyncOpenSearch]:
    """Open the only client of a process; the adapters of all its tenants share it.

    It makes no call yet, and never retries one. Credentials come from AWS's default chain. Raises
    ConfigurationError when calls must be signed and there are none.
    """
    # At lower levels the library logs bodies, and so questions and passages, or every address.
    for name in ("opensearch", "opensearchpy.trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    client = AsyncOpenSearch(
        hosts=[url],
        connection_class=await _signed_connection(region) if auth == "sigv4" else AsyncHttpConnection,
        serializer=_OrjsonSerializer(),
        pool_maxsize=CONNECTIONS,
        max_retries=0,
    )
    try:
        yield client
    finally:
        await client.close()


async def call(
    client: AsyncOpenSearch,
    request: str,
    *,
    timeout_s: float = CALL_TIMEOUT_S,
    body: bytes | Mapping[str, Any] | None = None,
    params: Mapping[str, str] | None = None,
    tolerated: Collection[str] = (),
) -> Any:
    """Make one call and return its JSON: ``await call(client, "GET /docs-v1/_mapping")``.

    Errors whose type (``index_not_found_exception``) or status (``404``) is in ``tolerated`` return None.
    Raises SearchUnavailableError; its message never quotes the domain's, which may contain a question.
    """
    method, path = request.split(" ", 1)
    try:
        return await client.transport.perform_request(
            method, path, params=dict(params or {}), body=body, timeout=timeout_s
        )
    except ConnectionTimeout:
        raise SearchUnavailableError(f"The passage index did not respond within {timeout_s:.1f} s.") from None
    except UnreachableError as error:
        cause = type(error.info if isinstance(error.info, Exception) else error).__name__
        raise SearchUnavailableError(f"The passage index is unreachable ({cause}).") from None
    except SerializationError:
        raise SearchUnavailableError("The passage index sent a response that is not JSON.") from None
    except BotoCoreError as error:
        raise SearchUnavailableError(
            f"No credentials to sign calls to the passage index: {type(error).__name__}."
        ) from None
    except TransportError as error:
        kind = error_type(error)
        if kind in tolerated or str(error.status_code) in tolerated:
            return None
        raise _refused(error.status_code, kind) from None


async def search(
    client: AsyncOpenSearch,
    index: str,
    body: Mapping[str, Any],
    *,
    timeout_s: float = CALL_TIMEOUT_S,
    **params: str,
) -> Any:
    """Return the response of one search; it has the fields of ``_RESPONSE_FIELDS`` and comes from all shards.

    ``params`` are parameters of the address, such as ``search_pipeline``. Raises SearchUnavailableError, also
    where a shard failed.
    """
    whole = {"allow_partial_search_results": "false", "filter_path": _RESPONSE_FIELDS}
    request = f"POST /{index}/_search"
    response = await call(client, request, body=body, params={**params, **whole}, timeout_s=timeout_s)
    with reading_response():
        if response["timed_out"]:  # always present: without it this is no response of a search
            raise SearchUnavailableError("The passage index did not finish the search in time.")
    return response


async def stored_rows(
    search: Search, query: Mapping[str, Any], *columns: str, rows_a_call: int
) -> AsyncGenerator[Mapping[str, Any]]:
    """Yield the columns of all rows that a query finds, in order of document, ordinal and kind: ``{"card":
    ["eJx…"]}``. A column without a value is missing. Each call reads ``rows_a_call`` rows behind those of the
    one before."""
    body = row_columns(*columns, size=rows_a_call)
    body |= {"query": query, "sort": [{"document_id": "asc"}, {"ordinal": "asc"}, {"kind": "asc"}]}
    while True:
        response = await search(body)
        with reading_response():
            hits = response.get("hits", {}).get("hits", ())
            rows = [hit.get("fields", {}) for hit in hits]
            body["search_after"] = hits[-1]["sort"] if hits else None
        for row in rows:
            yield row
        if len(rows) < rows_a_call:
            return


async def field_values(
    search: Search, field: str, *, values_a_call: int, query: Mapping[str, Any] | None = None
) -> AsyncGenerator[tuple[str, int]]:
    """Yield each value of a keyword field, and how many of the rows that a query finds have it:
    ("wiki:refill", 12). Each call reads ``values_a_call`` values behind those of the one before."""
    page = {"size": values_a_call, "sources": [{"value": {"terms": {"field": field}}}]}
    body = {"size": 0, "query": query or {"match_all": {}}, "aggs": {"values": {"composite": page}}}
    while True:
        response = await search(body)
        with reading_response():
            values = response["aggregations"]["values"]
            counted = [(bucket["key"]["value"], bucket["doc_count"]) for bucket in values["buckets"]]
        for value_and_count in counted:
            yield value_and_count
        if (after := values.get("after_key")) is None:
            return
        page["after"] = after


def row_columns(*columns: str, size: int) -> dict[str, Any]:
    """Return the part of a search's body that reads at most ``size`` rows with these columns, and nothing
    else."""
    return {
        "size": size,
        "track_total_hits": False,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": list(columns),
    }


@contextmanager
def reading_response() -> Generator[None]:
    """Turn the errors of reading a response without the expected fields into SearchUnavailableError. Use it
    around code that only reads a response."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # The error's own text may quote a passage.
        raise SearchUnavailableError(
            f"The passage index sent an unexpected response ({type(error).__name__})."
        ) from None


def error_type(error: TransportError) -> str:
    """Return the domain's type of the error (``index_not_found_exception``), or ""."""
    match = _ERROR_TYPE.search(str(error.error))
    return match.group(1) if match else ""


def _refused(status: object, kind: str) -> SearchUnavailableError:
    """Return the error for a refused call; only one for load has ``retry_after_s``."""
    status_text = f"HTTP {status}{f', {kind}' if kind else ''}"
    if status == 429:
        return SearchUnavailableError(f"The passage index is overloaded ({status_text}).", retry_after_s=1.0)
    if status in (401, 403):
        return SearchUnavailableError(f"The passage index denies access to this process ({status_text}).")
    if kind == "index_not_found_exception":
        return SearchUnavailableError("The passage index does not exist: its schema was not applied.")
    return SearchUnavailableError(f"The passage index failed ({status_text}).")


async def _signed_connection(region: str) -> type[AsyncHttpConnection]:
    """Return a connection class that signs calls. A task role's credentials expire after hours, so each call
    asks for the current ones. Raises ConfigurationError without credentials."""
    credentials = await get_session().get_credentials()
    if credentials is None:
        raise ConfigurationError(
            "Calls to OpenSearch must be signed (sigv4), and AWS's default chain finds no credentials. "
            "Give the process a role or AWS_ACCESS_KEY_ID, or set the authentication to none."
        )

    class SignedConnection(AsyncHttpConnection):
        async def perform_request(self, *args: Any, **kwargs: Any) -> Any:
            # The library's signer reads credentials without awaiting, so it gets frozen ones.
            frozen = await credentials.get_frozen_credentials()
            self._http_auth = AWSV4SignerAsyncAuth(frozen, region, _SERVICE)
            return await super().perform_request(*args, **kwargs)

    return SignedConnection


class _OrjsonSerializer(Serializer):
    """Serializes bodies by orjson, four times faster than the library's for a vector of 384 numbers. Bytes
    and texts are sent unchanged: bulk bodies are ready."""

    mimetype = "application/json"

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except orjson.JSONDecodeError as error:
            raise SerializationError("no JSON") from error

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, (bytes, str)) else orjson.dumps(data)
