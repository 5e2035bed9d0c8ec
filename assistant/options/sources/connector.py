"""The port of connectors, and what those of wikis share: the rate of their calls, and requests with bounds,
waits and errors. ``run`` brings what a connector reads into a source."""

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
_LARGEST_BYTES = 20 * 1024 * 1024
_ASK_TO_WAIT = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item that is new or has changed."""

    item_id: str
    """Stable within the source; becomes the document's own id."""
    revision: str
    """Opaque; equal means unchanged."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of changes, oldest first."""

    changed: Sequence[ChangedItem]
    cursor: str
    """To give next time. It is kept only after everything that the page names was handed over."""
    is_last: bool


@dataclass(frozen=True, slots=True)
class FetchedItem:
    """The newest content of an item."""

    title: str
    media_type: MediaType
    content: str
    url: str | None = None
    effective_date: date | None = None
    labels: tuple[str, ...] | None = None
    """Labels that the source's own restrictions map to; ``()``: every agent may read it; None: the source has
    no restrictions of its own."""


class Connector(Protocol):
    """Reads one system, not more often than its settings allow.

    Every method raises DependencyError where the system is unavailable or answers what is not its format,
    OverloadedError with ``retry_after_s`` where it asks to wait, DeadlineExceededError. An empty answer is
    never made of an error.
    """

    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        """Return the changes since ``cursor``, a page at a time. None: from the beginning."""
        ...

    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        """Return an item; None where it was deleted meanwhile.

        Raises DocumentInvalidError for an item that cannot be read, and for a restriction that maps to no
        label: the item is refused, and withheld if it was known. It stops no other.
        """
        ...

    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        """Return a page of the ids of all items, and what to give for the next page; None after the last.

        What the product knows and no page names was deleted.
        """
        ...

    async def close(self) -> None: ...


# --- calls of a system --------------------------------------------------------------------------------------
class ServerFailedError(DependencyError):
    """A server failed at one request (500); others may succeed."""


def limiter(calls_per_second: float) -> AsyncLimiter:
    """Return what is acquired before each call of a system."""
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
        """Return the body that answers a GET, or a POST of a form; None for 404.

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
        except (aiohttp.ClientError, OSError) as error:  # a time-out is one
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
