"""The issuer's public keys from its JWKS address."""

from __future__ import annotations

import aiohttp

from assistant.domain.errors import DependencyError

_LONGEST_BYTES = 256 * 1024


class HttpKeySource:
    """A ``KeySource`` of the address ``url``. It follows no redirect and no proxy of the environment."""

    def __init__(self, url: str, *, timeout_s: float = 3.0) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def fetch(self) -> bytes:
        try:
            return await self._download()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DependencyError(f"The issuer's keys cannot be had: {type(error).__name__}.") from None

    async def _download(self) -> bytes:
        async with (
            aiohttp.ClientSession(timeout=self._timeout, trust_env=False) as session,
            session.get(self._url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise DependencyError(f"The issuer's keys cannot be had: status {response.status}.")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > _LONGEST_BYTES:
                    raise DependencyError("The issuer's keys cannot be had: what it sends is too large.")
            return bytes(body)
