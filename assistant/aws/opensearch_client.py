"""The client of an OpenSearch domain, and the one place where its failures become the product's errors."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
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
"""Of one process; calls beyond them wait for one."""
_SERVICE = "es"
"""The name that managed domains have in a signature."""
_ERROR_TYPE = re.compile(r'"type"\s*:\s*"([a-z_]{1,60})"')


@asynccontextmanager
async def open_opensearch(
    *, url: str, auth: Literal["sigv4", "none"], region: str = ""
) -> AsyncGenerator[AsyncOpenSearch]:
    """Open the one client of a process; the adapters of all its tenants share it.

    Nothing is asked of the domain yet. The client repeats no call: who calls decides. Credentials come from
    AWS's default chain. Raises ConfigurationError when calls must be signed and there are none.
    """
    # At these levels the library would log bodies, and so questions and passages, or every address.
    for name in ("opensearch", "opensearchpy.trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    signer = await _Signer.from_default_chain(region) if auth == "sigv4" else None
    client = AsyncOpenSearch(
        hosts=[url],
        connection_class=_SignedConnection if signer else AsyncHttpConnection,
        http_auth=signer,
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
    timeout_s: float,
    body: bytes | Mapping[str, Any] | None = None,
    params: Mapping[str, str] | None = None,
    tolerated: Collection[str] = (),
) -> Any:
    """Make one call, ``request`` being "METHOD /path", and return what its JSON holds.

    Errors whose type (``index_not_found_exception``) or status (``404``) is in ``tolerated`` return None.
    Raises SearchUnavailableError; no message repeats what the domain said, which may quote a question.
    """
    method, path = request.split(" ", 1)
    try:
        return await client.transport.perform_request(
            method, path, params=dict(params or {}), body=body, timeout=timeout_s
        )
    except ConnectionTimeout:
        raise SearchUnavailableError(f"The passage index did not answer within {timeout_s:.1f} s.") from None
    except UnreachableError as error:
        raise SearchUnavailableError(f"The passage index is out of reach ({_cause(error)}).") from None
    except SerializationError:
        raise SearchUnavailableError("The passage index answered something that is no JSON.") from None
    except BotoCoreError as error:
        raise SearchUnavailableError(
            f"No credentials to sign calls to the passage index: {type(error).__name__}."
        ) from None
    except TransportError as error:
        kind = error_type(error)
        if kind in tolerated or str(error.status_code) in tolerated:
            return None
        raise _refused(error.status_code, kind) from None


def error_type(error: TransportError) -> str:
    """Return the domain's name of the error (``index_not_found_exception``), or nothing."""
    found = _ERROR_TYPE.search(str(error.error))
    return found.group(1) if found else ""


def _refused(status: object, kind: str) -> SearchUnavailableError:
    said = f"HTTP {status}{f', {kind}' if kind else ''}"
    if status == 429:
        return SearchUnavailableError(f"The passage index is overloaded ({said}).", retry_after_s=1.0)
    if status in (401, 403):
        return SearchUnavailableError(f"The passage index does not let this process in ({said}).")
    if kind == "index_not_found_exception":
        return SearchUnavailableError("The passage index is not there: its schema was not applied.")
    return SearchUnavailableError(f"The passage index failed ({said}).")


def _cause(error: UnreachableError) -> str:
    cause = error.info if isinstance(error.info, Exception) else error
    return type(cause).__name__


class _Signer:
    """Signs calls with credentials that are renewed while the process runs (a task role's live for hours)."""

    def __init__(self, credentials: Any, region: str) -> None:
        self._credentials = credentials
        self._region = region
        self._frozen: Any = None
        self._sign: AWSV4SignerAsyncAuth | None = None

    @classmethod
    async def from_default_chain(cls, region: str) -> _Signer:
        credentials = await get_session().get_credentials()
        if credentials is None:
            raise ConfigurationError(
                "Calls to OpenSearch are to be signed (sigv4), and AWS's default chain finds no credentials: "
                "give the process a role or AWS_ACCESS_KEY_ID, or set the authentication to none."
            )
        return cls(credentials, region)

    async def renew(self) -> None:
        frozen = await self._credentials.get_frozen_credentials()
        if frozen is not self._frozen:
            self._frozen = frozen
            self._sign = AWSV4SignerAsyncAuth(frozen, self._region, _SERVICE)

    def __call__(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        assert self._sign is not None  # noqa: S101 (for the type checker: renewed before each call)
        return self._sign(method, url, body, headers)


class _SignedConnection(AsyncHttpConnection):
    """AWS's signer reads credentials without waiting; here they are renewed first, off its path."""

    async def perform_request(self, *args: Any, **kwargs: Any) -> Any:
        signer: Any = self._http_auth
        await signer.renew()
        return await super().perform_request(*args, **kwargs)


class _OrjsonSerializer(Serializer):
    """Four times faster than the library's for a vector of 384 numbers; bytes are sent as they are."""

    mimetype = "application/json"

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except orjson.JSONDecodeError as error:
            raise SerializationError("no JSON") from error

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, (bytes, str)) else orjson.dumps(data)
