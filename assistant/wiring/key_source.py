"""Chooses where the issuer's keys are read: its own address, or a parameter that carries them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assistant.settings.process import ServiceSettings

if TYPE_CHECKING:
    from assistant.adapters.http_keys import HttpKeySource
    from assistant.aws.parameter_keys import ParameterKeySource


@asynccontextmanager
async def open_key_source(
    settings: ServiceSettings,
) -> AsyncGenerator[HttpKeySource | ParameterKeySource]:
    """Open the source that the settings name; they name exactly one."""
    if settings.jwks_parameter is None:
        from assistant.adapters.http_keys import HttpKeySource

        yield HttpKeySource(str(settings.jwks_url))
        return
    from assistant.aws.aws_clients import open_client
    from assistant.aws.parameter_keys import ParameterKeySource

    async with open_client("ssm", region=settings.region, endpoint_url=settings.aws_endpoint_url) as client:
        yield ParameterKeySource(client, name=settings.jwks_parameter)
