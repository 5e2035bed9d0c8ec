"""HTTP with a bearer token: failures named, and calls that may be repeated repeated within bounds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from assistant.client.errors import RefusedByServiceError, UnreachableError
from assistant.client.patience import Patience
from assistant.client.reading import refused

_CONNECT_TIMEOUT_S = 5.0
_SEND_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request. All of the API may be sent twice: ids, keys and content hashes make it one."""

    method: str
    path: str
    params: Mapping[str, str | int | list[str]] | None = None
    json: Any = None
    headers: Mapping[str, str] | None = None
    read_timeout_s: float | None = None
    """Instead of the connection's own."""
    is_repeatable: bool = True
    """False when a repeat could begin a second answer: then only what was refused is sent again."""


class Connection:
    """Calls one service in the name of one token."""

    def __init__(
        self, base_url: str, *, token: str | None, patience: Patience, tls: ssl.SSLContext | None = None
    ) -> None:
        self.base_url = base_url
        self.patience = patience
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=self._timeout(patience.read_timeout_s),
            verify=True if tls is None else tls,
            trust_env=False,  # a proxy of the environment has no part in a call to a private service
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """Return the response. Raises RefusedByServiceError, UnreachableError when no try is left."""
        failures = 0
        while True:
            try:
                return await self._send_once(call)
            except (RefusedByServiceError, UnreachableError) as error:
                failures += 1
                await self.wait_or_raise(error, failures, is_repeatable=call.is_repeatable)

    async def wait_or_raise(
        self, error: RefusedByServiceError | UnreachableError, failures: int, *, is_repeatable: bool = True
    ) -> None:
        """Return when it is time to try again; raise the error when there is no sense in it."""
        is_refusal = isinstance(error, RefusedByServiceError)
        may_succeed = error.problem.retryable if isinstance(error, RefusedByServiceError) else is_repeatable
        wait_s = self.patience.wait_s(failures, asked_s=error.retry_after_s if is_refusal else None)
        if not may_succeed or wait_s is None:
            raise error
        await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[httpx.Response]:
        """Open a streamed response, its status looked at. Raises as ``send``, but never tries again."""
        async with (
            self._failures_named(),
            self._client.stream(
                call.method,
                call.path,
                params=call.params,
                json=call.json,
                headers=call.headers,
                timeout=self._timeout(call.read_timeout_s),
            ) as response,
        ):
            if not response.is_success:
                await response.aread()
                raise refused(response)
            yield response

    async def _send_once(self, call: Call) -> httpx.Response:
        async with self.open(call) as response:
            await response.aread()
            return response

    def _timeout(self, read_s: float | None) -> httpx.Timeout:
        return httpx.Timeout(
            _SEND_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, read=read_s or self.patience.read_timeout_s
        )

    @asynccontextmanager
    async def _failures_named(self) -> AsyncGenerator[None]:
        try:
            yield
        except httpx.RequestError as error:
            here = httpx.URL(self.base_url).host in ("127.0.0.1", "localhost", "::1")
            advice = "start it with make demo or assistant local up" if here else "see whether it runs"
            raise UnreachableError(
                f"The service at {self.base_url} does not answer ({type(error).__name__}); "
                f"{advice}, and see its log."
            ) from None
