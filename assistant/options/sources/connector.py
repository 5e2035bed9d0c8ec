"""The port of connectors, and the HTTP client that those of wikis share.

``run.py`` calls a connector in this order, once for each run:

1. ``changes`` from the kept cursor, page by page, and ``fetch`` for each item that a page names;
2. ``all_ids``, page by page, and ``fetch`` for ids that the product does not know;
3. ``close``.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import aiohttp
from aiolimiter import AsyncLimiter

from assistant.domain.clock import Deadline
from assistant.domain.documents import MediaType
from assistant.domain.errors import DependencyError, DocumentInvalidError, OverloadedError
from assistant.options.sources.section import SourceConnector

_REQUEST_S = 60.0
"""Limit of one request."""
_LARGEST_BYTES = 20 * 1024 * 1024
# Statuses after which a request is repeated: too many requests, or a server that is unavailable.
_ASK_TO_WAIT = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item that is new or has changed."""

    item_id: str
    """Stable within the source; becomes the document's own id."""
    revision: str
    """Opaque; within a run an equal one means unchanged. "" if the system has none."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of changes, oldest first."""

    changed: Sequence[ChangedItem]
    cursor: str
    """Argument of the next call, in this run or the next. It is stored after all items of the page are."""
    is_last: bool
    """Whether there are no more changes now."""


@dataclass(frozen=True, slots=True)
class FetchedItem:
    """The newest content of an item."""

    title: str
    media_type: MediaType
    content: str
    url: str | None = None
    effective_date: date | None = None
    labels: tuple[str, ...] | None = None
    """Labels to which the system's restrictions of the item map; ``()``: every agent may read it; None: the
    system says nothing, and the source's ``access`` decides."""


class Connector(Protocol):
    """Reads one system, not more often than its settings allow. One object reads one run.

    Every method raises DependencyError where the system is unavailable or its response has another format,
    OverloadedError with ``retry_after_s`` where it asks to wait, DeadlineExceededError. An error never
    becomes an empty result: documents that are missing from it would be withdrawn.
    """

    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        """Return a page of the changes since ``cursor``. None: everything, from the beginning."""
        ...

    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        """Return an item; None where it was deleted meanwhile.

        Raises DocumentInvalidError for an item that cannot be read, and for a restriction that maps to no
        label: the item is refused, and withheld if it was known. The run goes on with the others.
        """
        ...

    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        """Return a page of the ids of all items, and ``after`` for the next page; None after the last.

        A document that the product has and no page names is withdrawn as deleted.
        """
        ...

    async def close(self) -> None: ...


# --- calls of a system --------------------------------------------------------------------------------------
class ServerFailedError(DependencyError):
    """A server failed at one request (500); others may succeed."""


def limiter(calls_per_second: float) -> AsyncLimiter:
    """Return the limiter that is acquired before each call: at 5 calls a second, bursts of 5; at 0.1, a call
    in 10 s."""
    return AsyncLimiter(max(1.0, calls_per_second), max(1.0, 1 / calls_per_second))


class WikiHttp:
    """Requests to one wiki. No redirect is followed; cookies are kept only where a session needs them."""

    def __init__(
        self, system: str, settings: SourceConnector, *, headers: Mapping[str, str], cookies: bool = False
    ) -> None:
        self._system = system
        self._rate = limiter(settings.requests_per_second)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=settings.ca_pem)),
            headers={"User-Agent": "private-care-assistant", "Accept": "application/json", **headers},
            cookie_jar=aiohttp.CookieJar(unsafe=True) if cookies else aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self,
        url: str,
        query: Mapping[str, str | int],
        *,
        deadline: Deadline,
        form: Mapping[str, str] | None = None,
    ) -> bytes | None:
        """Return the body of the response to a GET, or to a POST of a form; None for 404.

        Raises DependencyError, OverloadedError, DeadlineExceededError, DocumentInvalidError for a body over
        its bound.
        """
        await self._rate.acquire()
        limit = aiohttp.ClientTimeout(total=deadline.within_s(_REQUEST_S))
        method = "GET" if form is None else "POST"
        try:
            async with self._session.request(
                method, url, params=query, data=form, allow_redirects=False, timeout=limit
            ) as response:
                if response.status == 404:
                    return None
                self._check_status(response)
                body = bytearray()
                async for part in response.content.iter_chunked(65_536):
                    body += part
                    if len(body) > _LARGEST_BYTES:
                        raise DocumentInvalidError(f"{self._system}'s answer is over {_LARGEST_BYTES} bytes.")
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            raise OverloadedError(f"{self._system} did not answer ({type(error).__name__}). Retry.") from None
        return bytes(body)

    def _check_status(self, response: aiohttp.ClientResponse) -> None:
        """Raises the error of a status that is not 200."""
        status = response.status
        if status in _ASK_TO_WAIT:
            after = response.headers.get("Retry-After", "")
            raise OverloadedError(
                f"{self._system} asks to wait, or is unavailable ({status}). Retry.",
                retry_after_s=float(after) if after.isdecimal() else None,
            )
        if status in (401, 403):
            raise DependencyError(
                f"{self._system} refused the account ({status}). Check user, secret and its permissions."
            )
        if status == 500:
            raise ServerFailedError(f"{self._system} failed at it (500). See its log; retry.")
        if status != 200:
            raise DependencyError(f"{self._system} answered {status}. Check the address; retry.")
