"""The port of connectors, ``Connector``, and what its adapters share to call a system.

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
"""Limit of a response's body."""


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
    """Reads one system, not more often than its settings allow. One object serves one run.

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


# What adapters share to call a system


class ServerFailedError(DependencyError):
    """A server failed at one request (500); others may succeed."""


def limiter(calls_per_second: float) -> AsyncLimiter:
    """Return the limiter that is acquired before each call: at 5 calls a second, bursts of 5; at 0.1, a call
    in 10 s."""
    return AsyncLimiter(max(1.0, calls_per_second), max(1.0, 1 / calls_per_second))


class WikiHttp:
    """Requests to one wiki, in one event loop. No redirect is followed."""

    def __init__(
        self, system: str, settings: SourceConnector, *, headers: Mapping[str, str], cookies: bool = False
    ) -> None:
        """``system``: begins each error's message, as "The wiki". ``headers``: added to each request.
        ``cookies``: whether to keep them, for a session; also from a host that is an IP address."""
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
        """Send a GET, or with ``form`` a POST of it, and return the body of the response.

        | response | result |
        | --- | --- |
        | 200 | its body; DocumentInvalidError if that is over ``_LARGEST_BYTES`` |
        | 404 | None |
        | 401, 403 | DependencyError: the account is refused |
        | 429, 502, 503, 504 | OverloadedError, with ``Retry-After`` if that is a number of seconds |
        | 500 | ServerFailedError |
        | another status | DependencyError |
        | a broken connection, or no end within ``_REQUEST_S`` and the deadline | OverloadedError |

        It first waits for the rate. Raises DeadlineExceededError where the deadline has passed by then.
        """
        await self._rate.acquire()
        limit = aiohttp.ClientTimeout(total=deadline.within_s(_REQUEST_S))
        method = "GET" if form is None else "POST"
        try:
            async with self._session.request(
                method, url, params=query, data=form, allow_redirects=False, timeout=limit
            ) as response:
                return await self._body(response)
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            raise OverloadedError(f"{self._system} did not answer ({type(error).__name__}). Retry.") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Return the result of a response, or raise its error, as in the table of ``ask``."""
        match response.status:
            case 200:
                body = bytearray()
                async for part in response.content.iter_chunked(65_536):
                    body += part
                    if len(body) > _LARGEST_BYTES:
                        raise DocumentInvalidError(f"{self._system}'s answer is over {_LARGEST_BYTES} bytes.")
                return bytes(body)
            case 404:
                return None
            case 401 | 403:
                refused = f"{self._system} refused the account ({response.status})."
                raise DependencyError(f"{refused} Check user, secret and its permissions.")
            case 429 | 502 | 503 | 504:
                after = response.headers.get("Retry-After", "")
                raise OverloadedError(
                    f"{self._system} asks to wait, or is unavailable ({response.status}). Retry.",
                    retry_after_s=float(after) if after.isdecimal() else None,
                )
            case 500:
                raise ServerFailedError(f"{self._system} failed at it (500). See its log; retry.")
            case status:
                raise DependencyError(f"{self._system} answered {status}. Check the address; retry.")
