"""One limit and one meaning of failures for calls of AWS's services."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from assistant.domain.errors import DependencyError


class ServiceRefusedError(DependencyError):
    """The service answered, and said no. ``reason`` is AWS's code of it."""

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self._status = status

    @property
    def passes(self) -> bool:
        """Whether the service said no for now: it is overloaded or broken."""
        return self._status >= 500 or self.reason.startswith(("Throttl", "RequestThrottl", "RequestLimit"))


@asynccontextmanager
async def aws_call(what: str, *, limit_s: float) -> AsyncGenerator[None]:
    """Run calls on a client, with all their retries and the reading of bodies, within ``limit_s``.

    ``what`` begins the message, as "The document store". Raises ServiceRefusedError when the service said
    no (also: throttled to the end), and DependencyError when nothing usable came of it.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except ClientError as error:
        reason, status = refusal(error)
        raise ServiceRefusedError(f"{what} refused: {reason}.", reason=reason, status=status) from None
    except (BotoCoreError, aiohttp.ClientError) as error:
        raise DependencyError(f"{what} failed: {type(error).__name__}.") from None
    except TimeoutError:
        raise DependencyError(f"{what} did not answer within {limit_s:.0f} s.") from None


def refusal(error: ClientError) -> tuple[str, int]:
    """Return AWS's code, as ``NoSuchKey``, and the HTTP status, without any text of the request."""
    response = cast("dict[str, Any]", error.response)
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
